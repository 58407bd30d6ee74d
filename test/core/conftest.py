"""What the tests of the pipeline and of the engine's process share."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from watched import Watched


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint, made in a process of its own so that this one stays free of torch."""
    pytest.importorskip("transformers", reason="the engine needs torch and transformers")
    folder = tmp_path_factory.mktemp("checkpoint") / "blank"
    script = "import sys; from argus_ros.vlm.models.blank import *; write_checkpoint(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)
    return folder


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    """Makes pipelines that run, and stops them in the end."""
    with contextlib.ExitStack() as stack:

        def make(*arguments: Any, **options: Any) -> Watched:
            watched = Watched(*arguments, **options)
            stack.callback(watched.pipeline.stop)
            watched.pipeline.start()
            return watched

        yield make
