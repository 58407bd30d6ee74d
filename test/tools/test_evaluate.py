"""`argus evaluate` counts what is right, on a checkpoint that runs for real."""

import json
from pathlib import Path

import pytest

from argus_ros.core.types import Answer, Detection, Task
from argus_ros.tools import evaluate
from argus_ros.tools.main import main
from argus_ros.training import blank, scenes
from argus_ros.training.scenes import Scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes, colours = scenes.CLASSES, tuple(scenes.COLOURS)
    return blank.write_checkpoint(tmp_path_factory.mktemp("tiny"), classes=classes, colours=colours)


def test_an_untrained_model_finds_next_to_nothing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    assert main(["evaluate", "--checkpoint", str(folder), "--scenes", "5", "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["f1"] < 0.2
    assert figures["subset_respected"] == 1.0  # the grammar sees to it
    assert set(figures["per_class"]) == set(scenes.CLASSES)
    assert {"machine", "versions", "commit", "date", "precision", "recall", "mean_iou"} <= figures.keys()


def test_the_truth_itself_scores_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def oracle(engine: object, scene: Scene, task: Task) -> Answer:
        things = [t for t in scene.things if not task.classes or t.label in task.classes]
        return Answer(tuple(Detection(t.label, 1.0, *t.box, f"{t.colour} {t.label}") for t in things))

    class Named:
        class info:
            name = "oracle"

    monkeypatch.setattr(evaluate, "ask", oracle)
    figures = evaluate.measure(Named(), 10)  # type: ignore[arg-type]
    assert figures["f1"] == figures["mean_iou"] == pytest.approx(1.0)
    assert figures["description_accuracy"] == figures["subset_respected"] == 1.0


def test_a_checkpoint_of_other_classes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = blank.write_checkpoint(tmp_path / "other", classes=("lorry",))
    assert main(["evaluate", "--checkpoint", str(other)]) == 2
    assert "does not know" in capsys.readouterr().err
