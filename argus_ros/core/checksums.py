"""Checks a checkpoint's files against its SHA256SUMS, in the format of ``sha256sum``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from argus_ros.core.section import CheckpointError

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
#: File extensions of a model's files; SHA256SUMS has to list each of these files.
_READ = (".json", ".safetensors", ".jinja", ".model", ".txt")


def verify(folder: Path) -> bool:
    """Compare every file with SHA256SUMS; False where the folder has none.

    Raises CheckpointError for a file that differs or is missing, and for a model file that is not listed.
    """
    path = folder / NAME
    try:
        if not path.exists():
            return False
        listed = _listed(path)
        for name, given in listed.items():
            with (folder / name).open("rb") as file:
                found = hashlib.sha256()
                while data := file.read(1 << 20):
                    found.update(data)
            if found.hexdigest() != given:
                raise CheckpointError(
                    f"{folder / name} is not the file that {NAME} lists: its SHA-256 is {found.hexdigest()}, "
                    f"not {given}; fetch the checkpoint again"
                )
        more = sorted(f.name for f in folder.iterdir() if f.suffix in _READ and f.name not in listed)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder}: its {NAME} cannot be checked: {error}") from None
    if more:
        raise CheckpointError(f"{folder / more[0]} is not listed in {NAME}; add or remove it")
    return True


def _listed(path: Path) -> dict[str, str]:
    """SHA-256 in lower case, by file name."""
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if not match or Path(match[2]).name != match[2] or "\0" in match[2]:
            raise CheckpointError(
                f"line {number} of {path} is not 'SHA-256, two spaces, name of a file in this folder'; "
                "create it in the folder with: sha256sum *.json *.safetensors > SHA256SUMS"
            )
        found[match[2]] = match[1].lower()
    return found
