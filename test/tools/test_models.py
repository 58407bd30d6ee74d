"""`argus models` on folders as users have them: each row of docs/models.md is one of these checkpoints."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import layouts
import pytest

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import CheckpointError
from argus_ros.tools import models
from argus_ros.tools.main import main

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
EVERY = {**layouts.NATIVE, **layouts.GENERIC}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("name", EVERY)
def test_every_layout_is_listed_as_the_page_says(name: str, root: Path) -> None:
    """That prompts and tokens are equal is tested in test/vlm: test_open_models.py and test_generic.py."""
    row = models.describe(EVERY[name](root / name))
    boxes = "-" if row.format == "text" else f"`{row.format}`"
    cells = [name, row.runs, "equal", "equal", boxes, ", ".join(row.tasks)]
    assert f"| {' | '.join(cells)} |" in PAGE.read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["InternVL3.5-1B", "PaliGemma"])
def test_a_folder_is_held_against_transformers(name: str, root: Path) -> None:
    path = root / name
    checked = models.check(path if path.exists() else EVERY[name](path))
    assert checked.equal, checked
    assert checked.boxes != "-"


@pytest.mark.slow
def test_a_shipped_checkpoint_is_held_against_transformers_under_its_grammar() -> None:
    checked = models.check("argus-nano")
    assert checked.equal
    assert checked.tokens == "3 of 3 (under the grammar)"


@pytest.mark.slow
def test_a_difference_is_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = layouts.NATIVE["SmolVLM-256M"](root / "other")
    monkeypatch.setattr("argus_ros.vlm.formats.chat.template", lambda _: "Say something of <image>:")
    checked = models.check(path)
    assert not checked.equal
    assert checked.prompts == "0 of 6"


def test_what_is_here_is_listed_with_what_it_can_do(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    snapshot = hub / "models--Qwen--Qwen2.5-VL-tiny" / "snapshots" / "abc123"
    layouts.GENERIC["Qwen2.5-VL"](snapshot)
    (snapshot / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc123")
    folders = tmp_path / "folders"
    layouts.NATIVE["InternVL3-2B"](folders / "mine")
    odd = {"moon": {"model_type": "moondream1", "auto_map": {}}, "odd": {"model_type": "gpt2"}}
    for name, change in odd.items():
        shutil.copytree(folders / "mine", folders / name)
        layouts.edit(folders / name / "config.json", lambda c, change=change: c.update(change))
    assert main(["models", str(folders), "--json", str(tmp_path / "out.json")]) == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "out.json").read_text())}
    assert set(rows) == {*checkpoints.shipped(), "Qwen/Qwen2.5-VL-tiny", "mine", "moon", "odd"}
    qwen, mine = rows["Qwen/Qwen2.5-VL-tiny"], rows["mine"]
    assert (qwen["runs"], qwen["format"], qwen["licence"]) == ("transformers", "qwen2_5_vl", "apache-2.0")
    assert (mine["runs"], mine["format"], mine["licence"]) == ("native", "internvl", "not stated")
    assert mine["parameters"] > 10000
    assert rows["argus-nano"]["format"] == "argus"
    assert [rows[name]["runs"] for name in ("moon", "odd")] == ["no", "no"]
    assert "remote code" in rows["moon"]["why"]
    assert "not supported" in rows["odd"]["why"]
    out = capsys.readouterr().out
    assert "odd: " in out
    assert checkpoints.find("Qwen/Qwen2.5-VL-tiny") == snapshot
    assert checkpoints.find("Qwen/Qwen2.5-VL-tiny@abc123") == snapshot


def test_a_hub_id_that_is_not_here_says_how_to_fetch_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"not in .*argus models --download Org/Name@v1"):
        checkpoints.find("Org/Name@v1")
    for odd in ("Org/../x", "Org/Name@../../x", "a/b/c"):
        with pytest.raises(CheckpointError):
            checkpoints.find(odd)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["models", "--download", "Org/Name"]) == 2
    assert "Org/Name cannot be downloaded" in capsys.readouterr().err
    assert main(["models", "--download", "no id"]) == 2


def test_users_without_a_home_are_told_what_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)  # whom no list of users has
    with pytest.raises(CheckpointError, match=r"not in ~/\.cache/huggingface/hub"):
        checkpoints.find("Org/Name")
    assert main(["models", "~nobody-of-this-name"]) == 2
    assert "~nobody-of-this-name is not a checkpoint" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Qwen2-VL", "PaliGemma", "Florence-2", "LLaVA-OneVision"])
@pytest.mark.parametrize("command", [["bench", "--only", "preprocess"], ["profile"], ["evaluate"]])
def test_tools_for_our_own_modules_refuse_others_in_a_sentence(
    name: str, command: list[str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / f"refused {name}"
    path = path if path.exists() else layouts.GENERIC[name](path)
    assert main([*command, "--checkpoint", str(path)]) == 2
    assert "not supported natively" in capsys.readouterr().err


def test_an_image_processor_with_nonsense_is_refused_in_a_sentence(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = layouts.NATIVE["SmolVLM-256M"](root / "nonsense")
    layouts.edit(path / "preprocessor_config.json", lambda c: c.update(max_image_size=7))
    assert main(["bench", "--only", "preprocess", "--checkpoint", str(path)]) == 2
    assert "max_image_size is 7" in capsys.readouterr().err
