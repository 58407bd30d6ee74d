"""COCO data: what is read, what is shown of it, and that training on it goes on where it stopped."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from argus_ros.core import checkpoint
from argus_ros.core.checkpoint import Tiling
from argus_ros.core.image import Image
from argus_ros.core.preparation import prepare
from argus_ros.core.types import Task
from argus_ros.training import coco, scenes
from argus_ros.training.coco import CocoError, CocoSource
from argus_ros.training.examples import Examples
from argus_ros.training.loop import train
from argus_ros.training.plan import Plan
from argus_ros.vlm.models import blank

NAMES = ["Traffic Cone", "ball", "never seen"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six rendered scenes with two classes, and a crowd in the first one."""
    where = tmp_path_factory.mktemp("coco")
    data: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    data["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)]
    for i in range(6):
        scene = scenes.render(i, size=(160, 120), objects=(2, 4))
        assert cv2.imwrite(str(where / f"Town{i % 2}_{i}.png"), cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
        data["images"].append({"id": i, "file_name": f"Town{i % 2}_{i}.png", "width": 160, "height": 120})
        for n, item in enumerate(scene.objects):
            x, y, right, low = item.box
            box = [x, y, right - x, low - y]
            data["annotations"].append({"image_id": i, "category_id": 1 + n % 2, "bbox": box, "iscrowd": 0})
    data["annotations"].append({"image_id": 0, "category_id": 2, "bbox": [100, 60, 90, 20], "iscrowd": 1})
    data["annotations"].append({"image_id": 0, "category_id": 2, "bbox": [170, 60, 20, 20], "iscrowd": 0})
    (where / "instances.json").write_text(json.dumps(data))
    return where


@pytest.fixture(scope="module")
def data(folder: Path) -> coco.Data:
    return coco.read(folder / "instances.json", folder)


def test_pictures_are_read_with_their_boxes(data: coco.Data) -> None:
    assert data.classes == ("traffic cone", "ball", "never seen")
    assert len(data.pictures) == 6
    for i, picture in enumerate(data.pictures):
        scene = scenes.render(i, size=(160, 120), objects=(2, 4))
        assert np.array_equal(picture.load().image, scene.image)
        np.testing.assert_allclose([t.box for t in picture.objects], [t.box for t in scene.objects])
    # Outside the picture is nothing, and of a crowd only what is inside.
    assert [t.box for t in data.pictures[0].crowds] == [(100, 60, 160, 80)]


def test_pictures_are_chosen_by_their_names(folder: Path) -> None:
    held = coco.read(folder / "instances.json", folder, only="^Town1")
    rest = coco.read(folder / "instances.json", folder, leave_out="^Town1")
    assert [p.file.name for p in held.pictures] == ["Town1_1.png", "Town1_3.png", "Town1_5.png"]
    assert [p.file.name for p in rest.pictures] == ["Town0_0.png", "Town0_2.png", "Town0_4.png"]


def test_a_picture_that_is_none_is_said(data: coco.Data, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(CocoError, match=r"broken\.png is missing or no picture"):
        coco.Picture(tmp_path / "broken.png", ()).load()


def source(data: coco.Data, min_side: float = 0.0) -> CocoSource:
    vocabulary = coco.vocabulary([data], 128, min_side)
    make = Examples(blank.make_tokenizer(vocabulary), vocabulary, 64, 4)
    return CocoSource(make, vocabulary, data, seed=3, min_side=min_side)


def test_an_example_is_a_function_of_its_number(data: coco.Data) -> None:
    first, again = source(data), source(data)
    assert len({first.example(i).image.tobytes() for i in range(10)}) == 10
    for i in (0, 5):
        a, b = first.example(i), again.example(i)
        assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def test_the_vocabulary_is_the_datas(data: coco.Data) -> None:
    vocabulary = coco.vocabulary([data], 256)
    assert vocabulary.classes == data.classes
    assert (vocabulary.bins, vocabulary.colours, vocabulary.tasks) == (256, (), ("detect", "ask"))
    assert vocabulary.max_objects == max(len(p.objects) for p in data.pictures)
    assert coco.vocabulary([data], 256, min_side=1000).max_objects == 1


def test_small_things_are_not_taught(data: coco.Data) -> None:
    everything, large = source(data), source(data, min_side=40)
    for i in range(20):
        a, b = everything.example(i), large.example(i)
        assert (np.sqrt((b.boxes[:, 2:] - b.boxes[:, :2]).prod(-1) * 160 * 120) >= 39.9).all()
        assert len(b.boxes) <= len(a.boxes) + 3  # what is pasted in is drawn from another pool
    assert all(len(source(data, min_side=1000).example(i).boxes) == 0 for i in range(5))


def test_pictures_with_rare_classes_come_more_often(tmp_path: Path) -> None:
    def picture(name: str, *labels: str) -> coco.Picture:
        return coco.Picture(tmp_path / name, tuple(scenes.SceneObject(c, "", (0, 0, 20, 20)) for c in labels))

    common = [picture(f"common {i}", "ball") for i in range(16)]
    data = coco.Data(("ball", "cone"), (*common, picture("rare", "cone", "ball"), picture("empty")))
    chances = np.diff(coco.cumulative_chances(data.pictures), prepend=0)
    assert chances.sum() == pytest.approx(1.0)
    assert chances[16] == pytest.approx(3 * chances[0])
    assert chances[17] == pytest.approx(chances[0])


@pytest.mark.slow
def test_training_goes_on_where_it_stopped_and_speaks_of_the_data(folder: Path, tmp_path: Path) -> None:
    base = blank.write_checkpoint(tmp_path / "base")

    def plan(out: str, **changes: Any) -> Plan:
        given = {"batch": 4, "processes": 1, "base": str(base), "tile": 96, "bins": 64, **changes}
        pictures = {"data": (coco.Files(folder / "instances.json", folder),), "holdout": "^Town1"}
        return Plan(tmp_path / out, 16, **given, **pictures)

    entries: list[dict[str, float]] = []
    made = train(plan("whole"), entries.append, measure=lambda path: 0.25)
    assert entries[-1]["samples"] == 16
    assert entries[-1]["f1"] == 0.25
    train(plan("halves", stop_after=8), lambda entry: None)
    train(plan("halves"), lambda entry: None)
    whole, halves = (
        torch.load(tmp_path / name / "state.pt", weights_only=True)["learner"] for name in ("whole", "halves")
    )
    for name in whole:
        torch.testing.assert_close(whole[name], halves[name], rtol=1e-4, atol=1e-6, msg=name)
    read = checkpoint.read(made)
    assert read.vocabulary == coco.vocabulary([coco.read(folder / "instances.json", folder, "^Town0")], 64)
    assert read.tiling.tile == 96


def test_what_cannot_be_trained_on_is_said_at_once(folder: Path, tmp_path: Path) -> None:
    plan = Plan(tmp_path / "out", 16, data=(coco.Files(folder / "instances.json", folder),), holdout="Town")
    with pytest.raises(CocoError, match="none is chosen"):
        train(plan, lambda entry: None)
    with pytest.raises(ValueError, match="location bins"):
        train(Plan(tmp_path / "out", 16, bins=5000), lambda entry: None)
    assert not (tmp_path / "out").exists()


def test_examples_show_what_the_camera_path_prepares(data: coco.Data) -> None:
    vocabulary = coco.vocabulary([data], 128)
    make = Examples(blank.make_tokenizer(vocabulary), vocabulary, 96, 9)
    picture = data.pictures[0].load()
    example = make.make(picture, Task("detect"))
    tiles = np.empty((1, 96, 96, 3), np.uint8)
    prepare(Image(picture.image, "rgb8", 160, 120, 480), None, Tiling(96), tiles)
    assert np.array_equal(example.image, tiles[0])
    assert example.labels.tolist() == [data.classes.index(t.label) for t in picture.objects]
