"""Every fault of the table, on real processes: what is said, when it is over, and that no image gets lost.

``FAULTS=all`` tries all of them, else those that are quick; ``FAULTS_JSON`` names a file for what was
measured.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import document
from faults.site import Site, as_json
from faults.table import FAULTS, Fault
from robot import crowding, start_node, visiting

CHOSEN = [fault for fault in FAULTS if fault.quick or os.environ.get("FAULTS") == "all"]
#: Seconds in which the node is to recover from what does not touch the engine's process.
RECOVERY = 2.0


@pytest.fixture(scope="module")
def site(shared_ros: Any, blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    checkpoint = Path(shutil.copytree(blank, tmp_path_factory.mktemp("faults") / "model"))
    cameras = {"cameras": "[front, rear, squeezed]", "camera__squeezed__topic": "/squeezed/compressed"}
    deadlines = {f"camera__{name}__deadline": 30.0 for name in ("front", "rear", "squeezed")}
    node = start_node(shared_ros, checkpoint, engine_hang_seconds=1.0, **cameras, **deadlines)
    with visiting() as robot:
        site = Site(shared_ros, node, robot, checkpoint)
        trials: list[dict[str, object]] = []
        site.trials = trials
        yield site
        if path := os.environ.get("FAULTS_JSON"):
            Path(path).write_text(json.dumps({"cold_start": site.cold_start, "trials": trials}, indent=1))


@pytest.mark.parametrize("fault", CHOSEN, ids=lambda fault: f"{fault.group}: {fault.name}")
def test_fault(site: Site, fault: Fault, record_property: Callable[[str, object], None]) -> None:
    threads = thread_count(site.node.pid)
    trial = site.run(fault)
    site.trials.append(as_json(trial))
    record_property("recovered after", f"{trial.recovered_after:.1f} s")
    assert trial.lost == 0, trial
    limit = site.cold_start + 1.0 if fault.engine else RECOVERY
    assert trial.recovered_after < limit * crowding(), trial
    assert thread_count(site.node.pid) <= threads + 1  # a thread of the middleware's may come


def test_the_document_lists_the_table() -> None:
    text = document.PATH.read_text()
    for fault in FAULTS:
        assert f"| {fault.group} | {fault.name} |" in text, "run `make faults`"


def thread_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))
