"""A model that starts from a checkpoint is that checkpoint, as far as both have the same parts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Idefics3ForConditionalGeneration

from argus_ros.core import checkpoint
from argus_ros.core.checkpoint import CheckpointError, Vocabulary
from argus_ros.training.growth import EMBEDDINGS, POSITIONS, grow, shape_of
from argus_ros.vlm.formats import prompts
from argus_ros.vlm.models import blank


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blank.write_checkpoint(tmp_path_factory.mktemp("base"), seed=5)


@pytest.fixture(scope="module")
def vocabulary(base: Path) -> Vocabulary:
    read = checkpoint.read(base).vocabulary
    assert read is not None
    return read


@pytest.fixture(scope="module")
def weights(base: Path) -> dict[str, torch.Tensor]:
    return Idefics3ForConditionalGeneration.from_pretrained(base, dtype=torch.float32).state_dict()


def test_where_nothing_changes_it_is_the_base(
    base: Path, vocabulary: Vocabulary, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model, tokenizer = grow(base, vocabulary)
    grown = model.state_dict()
    assert grown.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(grown[name], weight), name
    assert shape_of(model.config) == blank.TINY
    blank.save(model, tokenizer, tmp_path)
    assert checkpoint.read(tmp_path).config == checkpoint.read(base).config
    assert (tmp_path / "tokenizer.json").read_text() == (base / "tokenizer.json").read_text()


def test_words_keep_their_embeddings_and_bins_their_places(
    base: Path, vocabulary: Vocabulary, weights: dict[str, torch.Tensor]
) -> None:
    new = Vocabulary(("detect",), bins=255, classes=("traffic light", "cone"))
    model, tokenizer = grow(base, new)
    old = blank.make_tokenizer(vocabulary).get_vocab()
    ids = tokenizer.get_vocab()
    for name in EMBEDDINGS:
        rows = model.state_dict()[name]
        for token in ("cone", "detect", prompts.IMAGE, prompts.END, prompts.location_token(0)):
            assert torch.equal(rows[ids[token]], weights[name][old[token]]), token
        # 255 bins are the 128 and the middles between them.
        a, b = (weights[name][old[prompts.location_token(i)]] for i in (40, 41))
        torch.testing.assert_close(rows[ids[prompts.location_token(80)]], a)
        torch.testing.assert_close(rows[ids[prompts.location_token(81)]], (a + b) / 2)
        classes = weights[name][[old[c] for c in vocabulary.classes]].mean(0)
        apart = rows[ids["traffic"]] - rows[ids["light"]]
        assert apart.abs().max() > 0
        assert (rows[ids["traffic"]] - classes).norm() < 3 * apart.norm()
    assert model.config.argus["classes"] == ["traffic light", "cone"]


def test_patch_positions_follow_a_larger_tile(
    base: Path, vocabulary: Vocabulary, weights: dict[str, torch.Tensor]
) -> None:
    model, _ = grow(base, vocabulary, tile=2 * blank.TINY.tile)
    assert shape_of(model.config) == replace(blank.TINY, tile=2 * blank.TINY.tile)
    before, after = (w[POSITIONS].unflatten(0, (n, n)) for w, n in ((weights, 4), (model.state_dict(), 8)))
    means = after.unfold(0, 2, 2).unfold(1, 2, 2).mean((-1, -2))  # each old patch is four new ones
    similarity = torch.cosine_similarity(means.flatten(0, 1)[:, None], before.flatten(0, 1)[None], dim=-1)
    assert torch.equal(similarity.argmax(1), torch.arange(16))


def test_what_is_no_argus_checkpoint_is_refused(base: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a shipped one"):
        grow(tmp_path / "nowhere", vocabulary)
    other = tmp_path / "other"
    other.mkdir()
    for file in base.iterdir():
        (other / file.name).write_bytes(file.read_bytes().replace(b'"argus"', b'"other"'))
    with pytest.raises(CheckpointError, match="no Argus checkpoint"):
        grow(other, vocabulary)


def test_whoever_runs_the_node_can_read_the_weights(base: Path) -> None:
    assert (base / "model.safetensors").stat().st_mode == (base / "config.json").stat().st_mode


def test_further_vision_layers_change_nothing_at_first(base: Path, vocabulary: Vocabulary) -> None:
    deep, _ = grow(base, vocabulary, vision_layers=5)
    plain, _ = grow(base, vocabulary)
    assert shape_of(deep.config) == replace(blank.TINY, vision_layers=5)
    x = torch.randn(1, 16, blank.TINY.vision_width, generator=torch.manual_seed(0))
    seen = [m.model.vision_model.encoder(inputs_embeds=x).last_hidden_state for m in (deep, plain)]
    torch.testing.assert_close(seen[0], seen[1])
    added = [m.model.vision_model.encoder.layers[i] for m, i in ((deep, 0), (deep, 4))]
    assert added[0].mlp.fc1.weight.abs().max() > 0  # it can learn
    with pytest.raises(ValueError, match="has 2 vision layers; 1 would be fewer"):
        grow(base, vocabulary, vision_layers=1)
