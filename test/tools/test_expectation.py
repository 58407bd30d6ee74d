"""What counts as a change between two runs, and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from argus_ros.tools import expectation
from argus_ros.tools.expectation import Comparison, ExpectationError, Line

CONE = {"label": "cone", "score": 0.9, "x_min": 10.0, "y_min": 10.0, "x_max": 30.0, "y_max": 50.0}
BALL = {"label": "ball", "score": 0.8, "x_min": 60.0, "y_min": 10.0, "x_max": 80.0, "y_max": 30.0}


def line(stamp: int, *found: dict[str, Any], text: str = "") -> Line:
    return {"camera": "front", "stamp": stamp, "text": text, "detections": list(found)}


def compare(before: list[Line], now: list[Line], **options: Any) -> Comparison:
    comparison = Comparison({("front", one["stamp"]): one for one in before}, **options)
    for one in now:
        comparison.add(one)
    comparison.finish()
    return comparison


def test_order_scores_names_and_small_moves_are_no_change() -> None:
    moved = CONE | {"x_min": 12.0, "score": 0.4, "track_id": "7"}
    comparison = compare([line(1, CONE, BALL)], [line(1, BALL, moved)])
    assert comparison.changes == []
    assert comparison.summary() == "as expected in 1 frames"


def test_what_is_missing_new_or_elsewhere_is_a_change() -> None:
    far = CONE | {"x_min": 25.0, "x_max": 45.0}
    comparison = compare([line(1, CONE, BALL), line(2, CONE)], [line(1, CONE), line(2, far)])
    assert [str(change) for change in comparison.changes] == [
        "front 0.000: - ball at (60, 10, 80, 30)",
        "front 0.000: - cone at (10, 10, 30, 50); + cone at (25, 10, 45, 50)",
    ]
    assert comparison.summary() == "2 of 2 frames changed; missing: 1 ball, 1 cone; new: 1 cone"
    assert compare([line(2, CONE)], [line(2, far)], overlap=0.1).changes == []


def test_another_label_or_text_is_a_change() -> None:
    assert len(compare([line(1, CONE)], [line(1, CONE | {"label": "person"})]).changes) == 1
    (change,) = compare([line(1, text="a cone")], [line(1, text="a dog")]).changes
    assert "text was 'a cone', is 'a dog'" in str(change)


def test_frames_of_one_run_alone_are_changes_unless_some_may_be_dropped() -> None:
    before, now = [line(1, CONE), line(2)], [line(2), line(3, BALL)]
    said = [str(change) for change in compare(before, now).changes]
    assert said == [
        "front 0.000: the expectation lacks this frame (it had no answer then); now it has 1 ball",
        "front 0.000: no answer to this frame any more; it had 1 cone",
    ]
    partial = compare(before, now, partial=True)
    assert partial.changes == []
    assert partial.compared == 1


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    lines = [line(1, CONE, text="Kegel: grün"), line(2)]
    expectation.write(tmp_path / "new" / "expected.jsonl", lines)
    assert list(expectation.read(tmp_path / "new" / "expected.jsonl").values()) == lines


@pytest.mark.parametrize(
    "text", ["{", "[]", '"text"', '{"camera": "front"}', json.dumps(line(1, {"label": "x"}))]
)
def test_another_file_is_refused_with_the_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "expected.jsonl"
    file.write_text(json.dumps(line(1)) + "\n" + text + "\n")
    with pytest.raises(ExpectationError, match=r"line 2 of .*--update"):
        expectation.read(file)


def test_no_file_and_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpectationError, match="there is no expectation"):
        expectation.read(tmp_path / "nothing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExpectationError, match="cannot be read"):
        expectation.read(tmp_path / "binary")
