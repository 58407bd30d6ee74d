"""The trainable model sees and says what transformers' own forward pass does."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForImageTextToText, AutoProcessor

from argus_ros.core import checkpoint
from argus_ros.core.types import Task
from argus_ros.training import attention, scenes
from argus_ros.training import learner as learners
from argus_ros.training.examples import Examples
from argus_ros.training.learner import Batch, Learner, collate, overlap_loss, owners
from argus_ros.training.optimiser import Optimiser, orthogonalise
from argus_ros.vlm.formats import prompts
from argus_ros.vlm.models import blank

GRID = 4  # patches a side of the tiny model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    classes, colours = scenes.CLASSES, tuple(scenes.COLOURS)
    return str(blank.write_checkpoint(tmp_path_factory.mktemp("tiny"), classes=classes, colours=colours))


def load(folder: str, whole_boxes: bool) -> Learner:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    return Learner(model, tokenizer.convert_tokens_to_ids(prompts.location_token(0)), whole_boxes)


@pytest.fixture
def learner(folder: str) -> Learner:
    return load(folder, whole_boxes=False)


@pytest.fixture
def whole(folder: str) -> Learner:
    return load(folder, whole_boxes=True)


@pytest.fixture
def batch(folder: str) -> Batch:
    read = checkpoint.read(folder)
    assert read.vocabulary is not None
    processor = AutoProcessor.from_pretrained(folder)
    make = Examples(processor.tokenizer, read.vocabulary, read.tiling.tile, read.tiling.tokens_per_tile)
    pictures = [scenes.render(i, size=(64, 64)) for i in range(3, 6)]
    examples = [make.make(scene, Task("detect", read.vocabulary.classes)) for scene in pictures]
    return collate(examples, processor.tokenizer.pad_token_id, GRID, len(read.vocabulary.classes))


def test_the_answers_loss_is_that_of_the_stock_forward_pass(
    learner: Learner, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "SHORT", 8)
    hard = Batch(**{**vars(batch), "position": torch.full_like(batch.position, -1)})  # no soft targets
    pixels = batch.images.permute(0, 3, 1, 2)[:, None].float() / 127.5 - 1
    stock = learner.model(
        input_ids=batch.tokens, pixel_values=pixels, attention_mask=torch.ones_like(batch.tokens)
    )
    wanted = batch.answer[:, 1:]
    assert wanted.sum(1).min() < 8 < wanted.sum(1).max()
    weight = torch.stack([row * max(8 / row.sum().item(), 1) for row in wanted])
    losses = F.cross_entropy(
        stock.logits[:, :-1].flatten(0, 1), batch.tokens[:, 1:].flatten(), reduction="none"
    )
    expected = (losses * weight.flatten()).sum() / weight.sum()
    torch.testing.assert_close(
        learner.answer_loss(learner.see(batch.images), hard), expected, rtol=1e-4, atol=1e-5
    )


def test_attention_a_few_pictures_at_a_time(
    learner: Learner, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step() -> tuple[torch.Tensor, list[torch.Tensor]]:
        learner.zero_grad()
        features = learner.see(batch.images)
        loss = learner.answer_loss(features, batch) + learner.dense_loss(features, batch)
        loss.backward()
        return loss, [p.grad for p in learner.parameters() if p.grad is not None]

    expected = step()
    monkeypatch.setattr(attention, "FEW", 2)  # of three pictures
    attention.use(learner.model)
    torch.testing.assert_close(step(), expected, rtol=1e-4, atol=1e-5)
    assert attention.NAME not in learner.model.config.to_json_string()


def test_soft_targets_prefer_the_neighbouring_bin(learner: Learner, batch: Batch) -> None:
    features = learner.see(batch.images)
    loss = learner.answer_loss(features, batch)
    assert torch.isfinite(loss)
    loss.backward()
    assert learner.model.lm_head.weight.grad is not None


@pytest.mark.slow
def test_the_dense_loss_falls_when_it_is_trained(learner: Learner, batch: Batch) -> None:
    parameters = [p for n, p in learner.named_parameters() if "text_model" not in n and "lm_head" not in n]
    adam = torch.optim.Adam(parameters, lr=3e-3)
    losses = []
    for _ in range(30):
        adam.zero_grad()
        loss = learner.dense_loss(learner.see(batch.images), batch)
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_the_head_for_whole_boxes_learns_where_they_are(whole: Learner, batch: Batch) -> None:
    """It says a box's four places from the token before them, and from that alone."""
    assert whole.whole_boxes is not None
    hidden = torch.randn(*batch.tokens.shape, whole.whole_boxes.in_features)
    adam = torch.optim.Adam(whole.whole_boxes.parameters(), lr=3e-2)
    for _ in range(150):
        adam.zero_grad()
        whole.whole_boxes_loss(hidden, batch.position).backward()
        adam.step()
    boxes = 0
    for row, position in enumerate(batch.position):
        places = (position >= 0).nonzero().flatten().view(-1, 4)
        for four in places:
            said = whole.whole_boxes(hidden[row, four[0] - 1]).view(4, whole.bins).argmax(1)
            torch.testing.assert_close(said.float(), position[four].round(), atol=1, rtol=0)
            boxes += 1
    assert boxes > 3
    nothing = torch.full_like(batch.position, -1)
    assert whole.whole_boxes_loss(hidden, nothing) == 0


def test_the_answers_loss_has_that_of_whole_boxes_beside_it(
    learner: Learner, whole: Learner, batch: Batch
) -> None:
    whole.load_state_dict(learner.state_dict(), strict=False)
    features = learner.see(batch.images)
    more = whole.answer_loss(features, batch) - learner.answer_loss(features, batch)
    assert 0 < more < 2 * learners.WHOLE_BOXES * np.log(whole.bins)


def test_an_empty_picture_has_a_dense_loss(learner: Learner, batch: Batch) -> None:
    empty = Batch(
        **{
            **vars(batch),
            "patch_class": torch.full_like(batch.patch_class, learner.classes),
            "patch_colour": torch.full_like(batch.patch_colour, -1),
        }
    )
    assert torch.isfinite(learner.dense_loss(learner.see(batch.images), empty))


def test_owners_are_the_smallest_boxes_over_each_patch() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.9, 0.9, 0.95, 0.95]])
    owner = owners(boxes, 4).reshape(4, 4)
    assert (owner[:2, :2] == 1).all()
    assert owner[3, 3] == 2  # covers no patch's centre, and has its own all the same
    assert (owner[2, :] == 0).all()
    assert (owners(np.zeros((0, 4)), 4) == -1).all()


def test_overlap_loss_by_hand() -> None:
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert overlap_loss(box, box).item() == pytest.approx(0.0, abs=1e-5)
    apart = torch.tensor([[2.0, 0.0, 3.0, 1.0]])
    assert overlap_loss(box, apart).item() == pytest.approx(1 + 1 / 3, abs=1e-4)  # hull 3, union 2


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 12, 5), (3, 5, 12)])
def test_orthogonalised_matrices_keep_directions_and_lose_lengths(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    made = orthogonalise(torch.randn(shape))
    assert made.shape == shape
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_the_optimiser_leaves_alone_what_has_no_gradient() -> None:
    torch.manual_seed(0)
    used, unused, bias = (torch.nn.Parameter(torch.randn(s)) for s in ((4, 4), (4, 4), (4,)))
    before = unused.detach().clone()
    optimiser = Optimiser([used, unused], [bias])
    (used.sum() + bias.sum()).backward()
    start = used.detach().clone()
    optimiser.step(0.01)
    assert torch.equal(unused, before)
    assert not torch.equal(used, start)
    optimiser.zero_grad()
    assert used.grad is None
