"""What the tests of the engine's process share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint, made in a process of its own so that this one stays free of torch."""
    pytest.importorskip("transformers", reason="the engine needs torch and transformers")
    folder = tmp_path_factory.mktemp("checkpoint") / "blank"
    script = "import sys; from argus_ros.vlm.blank import *; write_checkpoint(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)
    return folder
