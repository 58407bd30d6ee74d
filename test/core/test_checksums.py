"""SHA256SUMS of a checkpoint, as sha256sum writes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from argus_ros.core.checksums import NAME, verify
from argus_ros.core.section import CheckpointError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(3 << 20))
    with (tmp_path / NAME).open("w") as file:
        subprocess.run(
            ["sha256sum", "config.json", "model.safetensors"], cwd=tmp_path, stdout=file, check=True
        )
    return tmp_path


def test_files_that_match_the_list_are_accepted(folder: Path) -> None:
    assert verify(folder)
    (folder / NAME).unlink()
    assert not verify(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_differs_or_is_missing_is_named(folder: Path, name: str) -> None:
    good = (folder / name).read_bytes()
    (folder / name).write_bytes(good[:-1] + b"!")
    with pytest.raises(CheckpointError, match=f"{name} is not the file that SHA256SUMS lists"):
        verify(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        verify(folder)


def test_a_part_of_the_model_that_is_not_listed_is_named(folder: Path) -> None:
    (folder / "README.md").write_text("no part of the model")
    assert verify(folder)
    (folder / "chat_template.jinja").write_text("")
    with pytest.raises(CheckpointError, match=r"chat_template.jinja is not listed"):
        verify(folder)


@pytest.mark.parametrize(
    "line", [b"", b"abc  config.json", b"0" * 64 + b"  ../config.json", b"0" * 64 + b"  a\0b", b"\xff"]
)
def test_an_invalid_list_is_named(folder: Path, line: bytes) -> None:
    (folder / NAME).write_bytes(line + b"\n")
    with pytest.raises(CheckpointError, match=NAME):
        verify(folder)
