"""What the node's program makes of its command line, before it starts anything."""

from __future__ import annotations

import pytest

from argus_ros.ros.program import check_arguments


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--ros-args", "-p", "threads:=1", "--", "--help"]])
def test_help_is_printed_without_starting_a_node(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        check_arguments(["argus_node", *words])
    assert ended.value.code == 0
    assert "--ros-args -r front/image_raw:=/camera/image_raw" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--modell", "x"], "unknown argument '--modell'; put parameters and remappings after --ros-args"),
        (["model:=x.yaml"], "unknown argument 'model:=x.yaml'; put parameters and remappings after"),
        (["--ros-args", "--help"], "unknown argument ['--help'] after --ros-args"),
    ],
)
def test_unknown_arguments_are_refused(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        check_arguments(["argus_node", *words])
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_ros_arguments_are_accepted() -> None:
    check_arguments(["argus_node"])
    check_arguments(["argus_node", "--ros-args", "-p", "model:=x", "-r", "__ns:=/a", "--log-level", "warn"])
    check_arguments(["argus_node", "front/image_raw:=/camera"])  # deprecated, as rcl says itself


def test_invalid_ros_arguments_raise_rcls_error() -> None:
    with pytest.raises(RuntimeError, match=r"classes:=\[cone"):
        check_arguments(["argus_node", "--ros-args", "-p", "classes:=[cone"])
