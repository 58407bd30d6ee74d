"""`argus replay` of several bags, in turn and in Ray: each as if it were alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from argus_ros.tools import camera_bag
from argus_ros.tools.main import main
from argus_ros.training import scenes
from argus_ros.training.scenes.film import Walk
from argus_ros.vlm.models import blank

pytestmark = pytest.mark.slow  # engines start and end

FRAMES = 4
Replay = Callable[..., int]


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """The command on an untrained model, which finds objects at random, if always the same."""
    folder = blank.write_checkpoint(tmp_path_factory.mktemp("tiny"), classes=scenes.CLASSES)
    fixed = ("--checkpoint", folder, "--device", "cpu", "--score", 0, "--threads", 1)
    return lambda *words: main(["replay", *map(str, (*words, *fixed))])


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two with the same name, and one that is none."""
    folders = [tmp_path_factory.mktemp(name) / "drive" for name in ("monday", "tuesday", "damaged")]
    for seed, folder in enumerate(folders[:2], 3):
        walk = Walk(seed=seed, seconds=1.0, rate=float(FRAMES), width=160, height=120)
        assert camera_bag.write(folder, {"front": walk}) == FRAMES
    folders[2].mkdir()
    return folders


@pytest.fixture(scope="module")
def alone(replay: Replay, bags: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The answers to each good bag, played by itself."""
    out = tmp_path_factory.mktemp("alone")
    assert [replay(bag, "--out", out / str(i), "--track") for i, bag in enumerate(bags[:2])] == [0, 0]
    return [(out / str(i) / "detections.jsonl").read_bytes() for i in range(2)]


RAY = pytest.param(
    ("--ray", "local"),
    id="ray",
    marks=pytest.mark.skipif(not find_spec("ray"), reason="no Ray here"),
)


@pytest.mark.parametrize("how", [pytest.param((), id="in turn"), RAY])
def test_every_bag_is_played_as_if_it_were_alone_and_a_bad_one_is_named(
    how: tuple[str, ...],
    replay: Replay,
    bags: list[Path],
    alone: list[bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert alone[0] != alone[1]
    assert replay(*bags, "--out", tmp_path, "--track", *how) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"drive-3: .*damaged\S* ", said)
    names = ["drive", "drive-2", "drive-3"]
    assert [(tmp_path / name / "detections.jsonl").read_bytes() for name in names[:2]] == alone
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["bags"]) == names
    assert [summary["bags"][name]["frames"] for name in names] == [FRAMES, FRAMES, 0]
    assert [bool(summary["bags"][name]["trouble"]) for name in names] == [False, False, True]
    assert summary["frames"] == summary["outcomes"]["published"] == 2 * FRAMES
    assert summary["detections"] == count(alone)
    report = (tmp_path / "report.html").read_text()
    assert all(f"<td>{name}</td>" in report for name in names)
    # Its folder is no bag's.
    assert replay(*bags[:2], "--out", tmp_path / "drive", *how) == 2
    assert "holds the results of one bag" in capsys.readouterr().err


def test_bags_with_like_names_have_a_folder_each(replay: Replay, tmp_path: Path) -> None:
    """Also where a bag has the name that another would get."""
    empty = [tmp_path / day / name for day, name in (("a", "drive"), ("b", "drive"), ("c", "drive-2"))]
    for bag in empty:
        bag.mkdir(parents=True)
    assert replay(*empty, "--out", tmp_path / "out") == 2
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    names = {name: bag["bag"] for name, bag in summary["bags"].items()}
    assert names == dict(zip(["drive", "drive-2", "drive-2-2"], map(str, empty), strict=True))


def test_names_are_shown_as_they_are(
    replay: Replay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that rich would read as its markup."""
    bags = [tmp_path / name for name in ("[bold]", "[red]")]
    for bag in bags:
        bag.mkdir()
    assert replay(*bags) == 2
    shown = capsys.readouterr().out
    assert all(re.search(rf"^{re.escape(bag.name)} +\S", shown, re.M) for bag in bags)  # the bars
    assert all(f"│ {bag.name} " in shown for bag in bags)


def count(answers: list[bytes]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in b"".join(answers).splitlines():
        for detection in json.loads(line)["detections"]:
            found[detection["label"]] = found.get(detection["label"], 0) + 1
    return found


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--live"], "--live and --expect go with one bag"),
        (["--expect", "x.jsonl"], "--live and --expect go with one bag"),
        (["--threads", "-1"], "--threads is -1"),
        (["--ray", "local", "--live"], "--ray goes with --offline only"),
        pytest.param(
            ["--ray", "local"],
            "pip install 'argus-ros[ray]'",
            marks=pytest.mark.skipif(bool(find_spec("ray")), reason="Ray is installed"),
        ),
        pytest.param(
            ["--ray", "127.0.0.1:9"],
            "no Ray at 127.0.0.1:9: ",
            marks=pytest.mark.skipif(not find_spec("ray"), reason="no Ray here"),
        ),
        pytest.param(
            ["--ray", "127.0.0.1:9", "--device", "cuda:1"],
            "leave --device cuda:1 out",
            marks=pytest.mark.skipif(not find_spec("ray"), reason="no Ray here"),
        ),
    ],
)
def test_misuse_says_what_to_do(
    options: list[str], reason: str, bags: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(bags[0]), str(bags[1]), *options]) == 2
    assert reason in capsys.readouterr().err
