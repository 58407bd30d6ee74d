"""Pictures of which some classes are completely labelled: what is read, what is asked, what is learnt."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from argus_ros.core.checkpoint import Vocabulary
from argus_ros.core.types import Task
from argus_ros.training import augmentation, coco
from argus_ros.training.coco import CocoError
from argus_ros.training.examples import Examples, draw_task
from argus_ros.training.learner import Learner, collate, words_loss
from argus_ros.training.scenes import Scene, SceneObject
from argus_ros.training.sources import MixedSource
from argus_ros.vlm.formats import prompts
from argus_ros.vlm.models import blank

CLASSES = ("cone", "ball", "box")
VOCABULARY = Vocabulary(("detect", "ask"), 16, CLASSES)


def scene(*labels: str, complete: tuple[str, ...] | None = ("cone",), weight: float = 1.0) -> Scene:
    objects = tuple(
        SceneObject(c, "", (8.0 * i, 4.0, 8.0 * i + 8, 40.0), weight) for i, c in enumerate(labels)
    )
    return Scene(
        np.full((64, 64, 3), 90, np.uint8), objects, None if complete is None else frozenset(complete)
    )


# --- what is read -------------------------------------------------------------------------------


def write(folder: Path, annotations: list[dict[str, Any]], **entry: Any) -> tuple[Path, Path]:
    assert cv2.imwrite(str(folder / "a.png"), np.zeros((40, 60, 3), np.uint8))
    data = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40, **entry}],
        "annotations": [{"image_id": 1, "category_id": 1, **a} for a in annotations],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)],
    }
    (folder / "instances.json").write_text(json.dumps(data))
    return folder / "instances.json", folder


BALL = {"id": 5, "category_id": 2, "bbox": [1, 1, 9, 9]}


@pytest.mark.parametrize(
    ("entry", "complete"),
    [
        ({}, None),
        ({"exhaustive_category_ids": [1, 3]}, {"cone", "box"}),
        ({"exhaustive_category_ids": []}, set()),
        ({"neg_category_ids": [1]}, {"cone", "ball"}),
        ({"neg_category_ids": [1], "not_exhaustive_category_ids": [2]}, {"cone"}),
    ],
)
def test_which_classes_are_complete(entry: dict[str, Any], complete: set[str] | None, tmp_path: Path) -> None:
    (picture,) = coco.read(*write(tmp_path, [BALL], **entry)).pictures
    assert picture.complete == complete
    assert [t.label for t in picture.load().objects] == ["ball"]


def test_a_score_is_a_weight_and_classes_can_be_chosen(tmp_path: Path) -> None:
    files = write(tmp_path, [{**BALL, "score": 0.4}, {"bbox": [2, 2, 8, 8]}], exhaustive_category_ids=[1, 2])
    assert {t.label: t.weight for t in coco.read(*files).pictures[0].objects} == {"ball": 0.4, "cone": 1.0}
    chosen = coco.read(*files, classes=("ball", "box"))
    assert chosen.classes == ("ball", "box")
    assert [t.label for t in chosen.pictures[0].objects] == ["ball"]
    assert chosen.pictures[0].complete == {"ball"}


def test_boxes_without_area_in_the_picture_are_listed(tmp_path: Path) -> None:
    outside, flat = {"id": 7, "bbox": [70, 5, 9, 9]}, {"id": 8, "bbox": [5, 5, 0, 9]}
    data = coco.read(*write(tmp_path, [BALL, outside, flat, {"id": 9, "bbox": [50, 30, 90, 90]}]))
    assert data.left_out == (
        "annotation 7 of a.png: its box lies outside the picture",
        "annotation 8 of a.png: its box has no area",
    )
    assert [t.box for t in data.pictures[0].objects] == [(50, 30, 60, 40), (1, 1, 10, 10)]


@pytest.mark.parametrize(
    ("annotation", "entry", "said"),
    [
        ({"id": 3, "category_id": 99, "bbox": [1, 1, 5, 5]}, {}, r"annotation 3 \(a.png\) is of category 99"),
        ({"id": 3, "image_id": 8, "bbox": [1, 1, 5, 5]}, {}, "annotation 3 is of picture 8"),
        (
            {"id": 3, "bbox": [1, float("nan"), 5, 5]},
            {},
            r"annotation 3 \(a.png\) has a box or score that is no",
        ),
        ({"bbox": [1, 1, 5, 5]}, {"exhaustive_category_ids": [4]}, "of a.png holds 4, which is no category"),
        ({"bbox": [1, 1, 5, 5]}, {"width": 61}, "a.png has 60x40 pixels, its entry .id 1. says 61x40"),
    ],
)
def test_lies_are_named_before_training(
    annotation: dict[str, Any], entry: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(CocoError, match=said):
        coco.read(*write(tmp_path, [annotation], **entry))


def test_a_category_that_is_there_twice_is_named(tmp_path: Path) -> None:
    instances, images = write(tmp_path, [BALL])
    data = json.loads(instances.read_text())
    data["categories"].append({"id": 9, "name": "Ball"})
    instances.write_text(json.dumps(data))
    with pytest.raises(CocoError, match=r"category 9 \(ball\) is there twice"):
        coco.read(instances, images)


@pytest.mark.parametrize("mode", ["L", "CMYK", "I;16", "RGBA", "P"])
def test_every_kind_of_picture_becomes_rgb(mode: str, tmp_path: Path) -> None:
    instances, images = write(tmp_path, [BALL])
    picture = Pillow.new("RGB" if mode == "P" else mode, (60, 40))
    picture.convert(mode).save(images / "a.png", "JPEG" if mode == "CMYK" else "PNG")
    loaded = coco.read(instances, images).pictures[0].load().image
    assert loaded.shape == (40, 60, 3)
    assert loaded.dtype == np.uint8


@pytest.mark.parametrize("annotated", ["as shown", "as stored"])
def test_a_turned_picture_keeps_its_boxes_where_they_are(annotated: str, tmp_path: Path) -> None:
    """Stored 60x40 with a mark in its upper left corner, to be shown turned by a quarter to the right."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:10, :10] = 255
    exif = Pillow.Exif()
    exif[coco.ORIENTATION] = 6
    shown = annotated == "as shown"
    size = {"width": 40, "height": 60} if shown else {"width": 60, "height": 40}
    box = [30, 0, 10, 10] if shown else [0, 0, 10, 10]
    instances, images = write(tmp_path, [{"id": 5, "bbox": box}], **size)
    Pillow.fromarray(pixels).save(images / "a.png", exif=exif)
    loaded = coco.read(instances, images).pictures[0].load()
    x0, y0, x1, y1 = map(int, loaded.objects[0].box)
    assert loaded.image.shape[:2] == (size["height"], size["width"])
    assert loaded.image[y0:y1, x0:x1].min() == 255
    assert (loaded.image > 0).sum() == 300


# --- what is asked ------------------------------------------------------------------------------


def test_questions_are_about_classes_that_a_picture_is_complete_for() -> None:
    rng = np.random.default_rng(0)
    tasks = [draw_task(rng, VOCABULARY, scene("ball", "cone")) for _ in range(300)]
    asked = {task.prompt for task in tasks if task.name == "ask"}
    assert asked == {"how many cones are there", "is there a cone"}
    subsets = [task.classes for task in tasks if task.name == "detect"]
    assert {("cone",), ("ball",), CLASSES} <= set(subsets)  # there are boxes of balls


def test_a_mosaic_is_complete_for_what_all_its_pictures_are() -> None:
    rng = np.random.default_rng(0)
    four = [scene("cone", complete=c) for c in (("cone", "ball"), None, ("cone", "box"), ("cone",))]
    assert augmentation.mosaic(four, rng, 64, 64).complete == {"cone"}
    assert augmentation.mosaic([scene("cone", complete=None)] * 4, rng, 64, 64).complete is None


def test_sources_come_as_often_as_their_weights_say() -> None:
    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def example(self, index: int) -> Any:
            return self.name

    mixed = MixedSource([(3.0, Named("a")), (1.0, Named("b"))], seed=1)
    drawn = [mixed.example(i) for i in range(2000)]
    assert drawn == [mixed.example(i) for i in range(2000)]
    assert drawn.count("a") == pytest.approx(1500, abs=60)


# --- what is learnt -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learner() -> Learner:
    tokenizer = blank.make_tokenizer(VOCABULARY)
    model = blank.make_model(blank.make_config(blank.TINY, VOCABULARY, tokenizer))
    made = Learner(model, tokenizer.convert_tokens_to_ids(prompts.location_token(0)))
    made.tokenizer = tokenizer  # type: ignore[assignment]
    return made


def batch_of(learner: Learner, *scenes: Scene, presume_absent: bool = False) -> Any:
    make = Examples(learner.tokenizer, VOCABULARY, 64, 4, presume_absent)  # type: ignore[arg-type]
    examples = [make.make(s, Task("detect", CLASSES)) for s in scenes]
    return collate(examples, learner.tokenizer.pad_token_id, 4, len(CLASSES))  # type: ignore[union-attr]


@pytest.mark.parametrize("complete", [None, ("cone",), ()])
def test_only_complete_classes_are_taught_to_be_absent(
    learner: Learner, complete: tuple[str, ...] | None
) -> None:
    """Without a box, the output of a class that is not complete gets no gradient."""
    batch = batch_of(learner, scene("ball", complete=complete))
    absent = [c for c in ("cone", "box") if complete is None or c in complete]
    learner.zero_grad()
    features = learner.see(batch.images)
    learner.dense_loss(features, batch).backward()
    gradient = learner.dense.bias.grad
    assert gradient is not None
    for i, label in enumerate(CLASSES):
        assert (gradient[i].abs() > 0) == (label == "ball" or label in absent), label
    # The answer is the ball and then its end: an unlabelled cone or box might have come in either place.
    untold = {learner.tokenizer.convert_ids_to_tokens(int(t)) for t in batch.untold[0]}  # type: ignore[operator]
    assert untold == {c for c in CLASSES if complete is not None and c not in complete}


def test_answers_may_presume_that_what_has_no_box_is_absent(learner: Learner) -> None:
    batch = batch_of(learner, scene("ball", complete=("cone",)), presume_absent=True)
    assert batch.untold.numel() == 0
    assert batch.complete[0].tolist() == [c == "cone" for c in CLASSES]  # patches are taught as before


def test_untold_tokens_are_not_compared_with_the_right_one() -> None:
    logits = torch.zeros(2, 4, requires_grad=True)
    words_loss(logits, torch.tensor([1, 2]), torch.tensor([[2, 3], [2, 3]])).sum().backward()
    assert logits.grad is not None
    # Among 0 and 1; among 0, 1 and the right one, though that is untold elsewhere.
    expected = [[1 / 2, -1 / 2, 0, 0], [1 / 3, 1 / 3, -2 / 3, 0]]
    torch.testing.assert_close(logits.grad, torch.tensor(expected))


def test_a_box_with_half_the_score_counts_half(learner: Learner) -> None:
    """In the answer: the end has weight 1, so the words' share of the loss falls with the box's weight."""
    losses = {}
    for weight in (1.0, 0.5, 0.0):
        batch = batch_of(learner, scene("ball", weight=weight, complete=None))
        learner.zero_grad()
        losses[weight] = learner.answer_loss(learner.see(batch.images), batch)
    end = losses[0.0]
    five = (losses[1.0] * 6 - end) / 5  # mean loss of the ball's five tokens
    torch.testing.assert_close(losses[0.5], (2.5 * five + end) / 3.5, rtol=1e-4, atol=1e-5)
