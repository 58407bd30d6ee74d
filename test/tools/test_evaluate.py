"""`argus evaluate` counts what is right, on a checkpoint that runs for real."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import layouts
import numpy as np
import pytest

from argus_ros.core import checkpoint
from argus_ros.core.matching import Truth
from argus_ros.core.types import Answer, Detection, Task
from argus_ros.tools import evaluate
from argus_ros.tools.main import main
from argus_ros.training import scenes
from argus_ros.training.examples import answer_to
from argus_ros.training.scenes import Scene, SceneObject
from argus_ros.vlm.models import blank


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes, colours = scenes.CLASSES, tuple(scenes.COLOURS)
    return blank.write_checkpoint(tmp_path_factory.mktemp("tiny"), classes=classes, colours=colours)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes as COCO data."""
    where = tmp_path_factory.mktemp("data")
    write_coco(where, [scene(0), scene(1)])
    return where


def scene(number: int) -> Scene:
    return scenes.render(number, size=(160, 120), objects=(3, 6))


def write_coco(where: Path, pictures: list[Scene]) -> None:
    data: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name.title()} for i, name in enumerate(scenes.CLASSES)],
    }
    for i, picture in enumerate(pictures):
        name = f"Town{i:02d}.jpg"
        assert cv2.imwrite(str(where / name), cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR))
        height, width = picture.image.shape[:2]
        data["images"].append({"id": i, "file_name": name, "width": width, "height": height})
        for item in picture.objects:
            x, y, right, low = item.box
            annotation = {"image_id": i, "category_id": scenes.CLASSES.index(item.label)}
            data["annotations"].append({**annotation, "bbox": [x, y, right - x, low - y], "iscrowd": 0})
    (where / "instances.json").write_text(json.dumps(data))


@pytest.mark.slow
def test_an_untrained_model_finds_next_to_nothing(folder: Path, tmp_path: Path) -> None:
    out, html = tmp_path / "figures.json", tmp_path / "page.html"
    command = [
        "evaluate",
        "--checkpoint",
        str(folder),
        "--scenes",
        "4",
        "--json",
        str(out),
        "--html",
        str(html),
    ]
    assert main(command) == 0
    figures = json.loads(out.read_text())
    assert figures["f1"] < 0.2
    assert figures["subset_respected"] == 1.0  # the grammar sees to it
    assert set(figures["per_class"]) == set(scenes.CLASSES)
    assert {"f1", "precision", "recall"} <= figures["per_class"]["cone"].keys()
    keys = {"machine", "versions", "commit", "date", "precision", "recall", "mean_iou", "map", "ece", "ask"}
    assert keys | {"description_accuracy", "temperature", "per_size"} <= figures.keys()
    page = html.read_text()
    assert "data:image/jpeg;base64" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


def test_the_truth_itself_scores_one(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = list(evaluate.from_scenes(10, 0, "val"))
    by_picture = {id(s.image): s for s in samples}

    def answer(engine: object, picture: np.ndarray, task: Task) -> Answer:
        objects = [t for t in by_picture[id(picture)].objects if not task.classes or t.label in task.classes]
        if task.name == "ask":
            return Answer(text=answer_to(task.prompt, objects))
        return Answer(tuple(Detection(t.label, 1.0, *t.box, f"{t.colour} {t.label}") for t in objects))

    def detect(engine: object, picture: np.ndarray, task: Task) -> Callable[[float], tuple[Detection, ...]]:
        return lambda temperature: answer(engine, picture, task).detections

    monkeypatch.setattr(evaluate, "ask", answer)
    monkeypatch.setattr(evaluate, "detect", detect)
    vocabulary = checkpoint.Vocabulary(("detect", "dense_caption", "ask"), 128, colours=tuple(scenes.COLOURS))
    engine = SimpleNamespace(
        info=SimpleNamespace(tasks=vocabulary.tasks), checkpoint=SimpleNamespace(vocabulary=vocabulary)
    )
    figures = evaluate.measure(engine, samples, scenes.CLASSES)  # type: ignore[arg-type]
    assert figures["f1"] == figures["mean_iou"] == figures["map"] == pytest.approx(1.0)
    assert figures["description_accuracy"] == figures["subset_respected"] == 1.0
    assert figures["ask"] == {"how_many": 1.0, "is_there": 1.0}
    assert figures["ece"] == 0.0


def test_questions_are_about_what_is_there_and_what_is_not() -> None:
    objects = scenes.render(3, objects=(3, 6)).objects
    answers = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        for question in evaluate.questions(rng, scenes.CLASSES, tuple(scenes.COLOURS), objects):
            answers.add(answer_to(question, objects))
    assert {"yes", "no", "0", "1"} <= answers


def test_coco_data_are_measured_by_file_name_and_size(folder: Path, data: Path, tmp_path: Path) -> None:
    given = ["evaluate", "--checkpoint", str(folder), "--data", str(data / "instances.json")]
    given += ["--images", str(data), "--json", str(tmp_path / "figures.json")]
    assert main([*given, "--only", "^Town01", "--min-side", "30"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["pictures"] == 1
    sides = [item.area**0.5 for item in scene(1).objects]
    assert figures["objects"] == sum(side >= 30 for side in sides)
    assert 0 < figures["objects"] < len(sides)


def test_an_open_vocabulary_is_asked_for_the_classes_of_the_data_alone(tmp_path: Path, data: Path) -> None:
    """It cannot be asked without classes."""
    own = blank.write_checkpoint(tmp_path, classes=scenes.CLASSES, tasks=("detect",))
    layouts.edit(own / "config.json", lambda config: config["argus"].update(classes=[]))
    given = ["--data", str(data / "instances.json"), "--images", str(data)]
    given += ["--json", str(tmp_path / "f.json")]
    assert main(["evaluate", "--checkpoint", str(own), *given]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["pictures"] == 2
    assert figures["unnamed"] is None


def test_the_temperature_is_fitted_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = blank.write_checkpoint(tmp_path, classes=scenes.CLASSES, colours=tuple(scenes.COLOURS))
    before = checkpoint.read(own)
    assert main(["evaluate", "--checkpoint", str(own), "--scenes", "2", "--fit-temperature"]) == 0
    after = checkpoint.read(own)
    assert before.vocabulary is not None
    assert after.vocabulary is not None
    assert after.vocabulary.temperature != before.vocabulary.temperature == 1.0
    assert f"temperature {after.vocabulary.temperature} written" in capsys.readouterr().out
    assert {**after.config["argus"], "temperature": 1.0} == before.config["argus"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data", "nowhere.json"], "go together"),
        (["--data", "nowhere.json", "--images", "."], "nowhere.json cannot be read"),
        (["--data", "{data}/Town00.jpg", "--images", "."], "no COCO instances file"),
        (["--data", "{data}/instances.json", "--images", "/nowhere"], "2 of 2 pictures are missing"),
        (["--data", "{data}/instances.json", "--images", "{data}", "--only", "Berlin"], "none is chosen"),
        (
            ["--data", "{data}/instances.json", "--images", "{data}", "--only", "("],
            "not a regular expression",
        ),
    ],
)
def test_what_cannot_be_measured_is_said(
    more: list[str], said: str, folder: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [word.format(data=data) for word in more]
    assert main(["evaluate", "--checkpoint", str(folder), *more]) == 2
    assert said in capsys.readouterr().err


def test_only_classes_that_a_picture_is_complete_for_are_asked_and_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Finds of other classes are neither hits nor misses, and so are their boxes."""
    image = np.zeros((60, 80, 3), np.uint8)
    ball, cone = (SceneObject(c, "", (10, 10, 40, 40)) for c in ("ball", "cone"))
    asked: list[tuple[str, ...]] = []

    def detect(engine: object, picture: np.ndarray, task: Task) -> Callable[[float], tuple[Detection, ...]]:
        asked.append(task.classes)
        return lambda temperature: tuple(Detection(c, 0.5, 10, 10, 40, 40) for c in task.classes)

    monkeypatch.setattr(evaluate, "detect", detect)
    monkeypatch.setattr(evaluate, "ask", lambda e, picture, task: Answer(detect(e, picture, task)(0.0)))
    engine = SimpleNamespace(
        info=SimpleNamespace(tasks=("detect",)), checkpoint=SimpleNamespace(vocabulary=None)
    )
    samples = [
        evaluate.Sample("a", image, (ball, cone), complete=frozenset({"ball"})),
        evaluate.Sample("b", image, (ball, cone), complete=frozenset()),
        evaluate.Sample("c", image, (ball,), complete=frozenset({"cone", "ball"})),
    ]
    figures = evaluate.measure(
        engine,  # type: ignore[arg-type]
        samples,
        ("cone", "ball", "box"),
        group=re.compile("^([ab])"),
    )
    assert asked[::2] == [("ball",), ("cone", "ball")]
    assert {name: row["objects"] for name, row in figures["per_group"].items()} == {"a": 1}
    assert set(figures["per_group"]["a"]["per_class"]) == {"ball"}
    assert figures["objects"] == 2
    assert (figures["precision"], figures["recall"]) == (pytest.approx(2 / 3), 1.0)


def test_what_is_found_without_naming_classes_is_measured_apart() -> None:
    accuracy = evaluate.Unnamed(evaluate.Accuracy(("ball", "cone")))
    assert accuracy.figures() is None
    truths = [Truth("ball", (0, 0, 10, 10)), Truth("ball", (50, 50, 60, 60))]
    found = [Detection("ball", 0.9, 0, 0, 10, 10), Detection("cone", 0.9, 20, 20, 40, 40)]
    accuracy.add(found, truths, ("ball",))
    accuracy.add([], [], ("ball",))
    figures = accuracy.figures()
    assert figures is not None
    assert (figures["precision"], figures["recall"], figures["pictures"]) == (1.0, 0.5, 2)
    assert figures["others_per_picture"] == 0.5


def test_classes_that_only_the_pictures_know_are_named_and_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = blank.write_checkpoint(tmp_path / "few", classes=("cone", "ball"))
    given = [
        "--data",
        str(data / "instances.json"),
        "--images",
        str(data),
        "--json",
        str(tmp_path / "f.json"),
    ]
    assert main(["evaluate", "--checkpoint", str(few), *given]) == 0
    assert "does not know them: person, box, barrel" in capsys.readouterr().err
    figures = json.loads((tmp_path / "f.json").read_text())
    assert set(figures["per_class"]) == {"cone", "ball"}
    assert "person" in figures["not_measured"]


def test_a_checkpoint_of_other_classes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = blank.write_checkpoint(tmp_path / "other", classes=("lorry",))
    assert main(["evaluate", "--checkpoint", str(other)]) == 2
    assert "does not know" in capsys.readouterr().err
