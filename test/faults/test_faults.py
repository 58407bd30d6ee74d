"""Every fault of the table, on real processes: what is said, when it is over, and that no image gets lost.

``FAULTS=all`` tries all of them, else those that are quick; ``FAULTS_JSON`` names a file for what was
measured.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from faults import document
from faults.site import Site, as_json
from faults.table import FAULTS, Fault
from robot import crowding, picture, shared_files, start_node, visiting

from argus_ros.ros.conversions import stamp_ns

CHOSEN = [fault for fault in FAULTS if fault.quick or os.environ.get("FAULTS") == "all"]
#: Seconds in which the node is to recover from what does not touch the engine's process.
RECOVERY = 2.0
TOLD = 0.5  #: seconds in which diagnostics say that the engine's process has died


@pytest.fixture(scope="module")
def site(shared_ros: Any, blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    checkpoint = Path(shutil.copytree(blank, tmp_path_factory.mktemp("faults") / "model"))
    cameras = {"cameras": "[front, rear, squeezed]", "camera__squeezed__topic": "/squeezed/compressed"}
    deadlines = {f"camera__{name}__deadline": 30.0 for name in ("front", "rear", "squeezed")}
    with small_disk(Path(shared_ros.environment["ROS_LOG_DIR"])) as disk, visiting() as robot:
        node = start_node(shared_ros, checkpoint, engine_hang_seconds=1.0, **cameras, **deadlines)
        site = Site(shared_ros, node, robot, checkpoint)
        site.small_disk = disk
        trials: list[dict[str, object]] = []
        site.trials = trials
        yield site
        if path := os.environ.get("FAULTS_JSON"):
            Path(path).write_text(json.dumps({"cold_start": site.cold_start, "trials": trials}, indent=1))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk of 1 MB at a folder, where mounting one is permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "argus", folder]
    if subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # the node still has its log open


@pytest.mark.parametrize("fault", CHOSEN, ids=lambda fault: f"{fault.group}: {fault.name}")
def test_fault(site: Site, fault: Fault, record_property: Callable[[str, object], None]) -> None:
    threads, descriptors = thread_count(site.node.pid), descriptor_count(site.node.pid)
    trial = site.run(fault)
    site.trials.append(as_json(trial))
    record_property("recovered after", f"{trial.recovered_after:.1f} s")
    assert trial.lost == 0, trial
    limit = site.cold_start + 1.0 if fault.engine else RECOVERY
    assert trial.recovered_after < limit * crowding(), trial
    if fault.says.startswith("SIG"):  # the end of a process is reported at once
        assert trial.told_after < TOLD * crowding(), trial
    assert thread_count(site.node.pid) <= threads + 1  # the middleware may start one
    assert descriptor_count(site.node.pid) <= descriptors + 2  # and open its files


def test_nothing_is_left(site: Site) -> None:
    """After all of them: no process, and no shared memory but what this process uses as well."""
    node, watch = site.node, os.pidfd_open(site.engine())
    # Not ports, which are a few KB: one is the killed subscriber's, and the node has spoken to it.
    files = {file for file in shared_files(node.pid) if "_port" not in file.name}
    assert files
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    assert select.select([watch], [], [], 10.0)[0]  # readable once the engine's process has ended
    os.close(watch)
    assert {file for file in files if file.exists()} <= shared_files(os.getpid())


@pytest.mark.skipif(os.environ.get("FAULTS") != "all", reason="tried by make faults")
def test_a_spare_process_takes_over_within_a_second(
    ros: Any, blank: Path, record_property: Callable[[str, object], None]
) -> None:
    start_node(ros, blank, spare_engine=True)
    with visiting() as robot:
        robot.stream(robot.camera(), picture())
        robot.wait("/argus/detections")
        taken = []
        for _ in range(3):
            ready = robot.status("engine", spare_ready)
            engine = next(int(v.value) for v in ready.values if v.key == "process")
            robot.forget("/argus/detections")
            killed = time.time_ns()
            os.kill(engine, signal.SIGKILL)
            robot.wait("/argus/detections", lambda d, since=killed: stamp_ns(d.header) > since)
            taken.append((time.time_ns() - killed) * 1e-9)
    record_property("from SIGKILL to the next detections", f"{sorted(taken)[1]:.2f} s")
    assert sorted(taken)[1] < 1.0 * crowding()


@pytest.mark.skipif(os.environ.get("FAULTS") != "all", reason="tried by make faults")
def test_shared_memory_that_is_full_or_withdrawn(blank: Path, tmp_path: Path) -> None:
    """In a mount namespace: the machine's /dev/shm is for others, too."""
    small = 'mount -t tmpfs -o size=160m shm /dev/shm && exec "$@"'
    apart = ["unshare", "--mount", "sh", "-c", small, "sh"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("only root may mount another /dev/shm")
    trial = [*apart, sys.executable, "-m", "faults.exhausted", blank, tmp_path]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(trial, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": answered") == 2


def spare_ready(status: DiagnosticStatus) -> bool:
    return any(value.key == "spare process" and value.value == "ready" for value in status.values)


@pytest.mark.skipif(os.environ.get("FAULTS") == "all", reason="make faults writes it after the tests")
def test_the_document_lists_the_table() -> None:
    text = document.PATH.read_text()
    for fault in FAULTS:
        assert f"| {fault.group} | {fault.name} |" in text, "run `make faults`"


def descriptor_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def thread_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))
