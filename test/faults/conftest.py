"""The fixtures of the system tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from robot import Ros, inhabited


@pytest.fixture
def ros(claim_domain: Callable[[], AbstractContextManager[int]], tmp_path: Path) -> Iterator[Ros]:
    """A domain for one test."""
    with claim_domain() as domain, inhabited(domain, tmp_path) as ros:
        yield ros


@pytest.fixture(scope="module")
def shared_ros(
    claim_domain: Callable[[], AbstractContextManager[int]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ros]:
    """A domain for the tests of a file."""
    with claim_domain() as domain, inhabited(domain, tmp_path_factory.mktemp("shared")) as ros:
        yield ros


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint."""
    from argus_ros.training.blank import write_checkpoint  # torch and transformers, only when it is needed

    return write_checkpoint(tmp_path_factory.mktemp("blank"))
