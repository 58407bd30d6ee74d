"""Untrained checkpoints, shared by the tests of the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from argus_ros.core.protocol import EngineConfig  # noqa: E402
from argus_ros.training import blank  # noqa: E402
from argus_ros.vlm.engine import Engine  # noqa: E402


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blank.write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def engine(tiny: Path) -> Engine:
    return Engine(EngineConfig(str(tiny), device="cpu", dtype="float32"))
