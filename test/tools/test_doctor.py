"""`argus doctor` on this machine, and on what a broken one would have."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from argus_ros.core import checkpoint
from argus_ros.tools import doctor
from argus_ros.tools.doctor import FAIL, OK, WARN, Finding
from argus_ros.tools.main import main

ANY = argparse.Namespace()
ROOT = Path(__file__).parents[2]


def one(findings: Any, name: str = "") -> Finding:
    """The only finding, or the only one of that name."""
    (found,) = [finding for finding in findings if not name or finding.name == name]
    return found


@pytest.mark.slow
def test_this_machine_can_run_the_model_and_says_so_in_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", [check for check in doctor.CHECKS if check is not doctor.ros])
    assert main(["doctor", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    said = {finding["name"]: finding for finding in json.loads(out)}
    assert {"argus_ros", "libraries", "GPU", "checkpoints"} <= said.keys()
    assert "argus-nano" in said["checkpoints"]["found"]
    assert len(err.splitlines()) == len(said)


def test_the_exit_status_tells_whether_the_node_can_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for level, status in ((OK, 0), (WARN, 0), (FAIL, 1)):
        monkeypatch.setattr(
            doctor, "CHECKS", [lambda options, level=level: iter([Finding("x", level, "y", "do z")])]
        )
        assert doctor.run(argparse.Namespace(json=str(tmp_path / "found.json"))) == status
        (told,) = json.loads((tmp_path / "found.json").read_text())
        assert told == {"name": "x", "level": level, "found": "y", "remedy": "do z"}
        assert capsys.readouterr().out.splitlines() == [f"{level:5}x             y; do z"]


def test_a_package_that_is_there_in_part_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "partly").mkdir()
    (tmp_path / "partly" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(doctor, "OPTIONAL", {"partly.exporter.http": "traces", "json.decoder": "answers"})
    found = one(doctor.libraries(ANY), "optional").found
    assert found == "installed: json; not installed: partly (traces)"
    assert doctor.installed("partly")
    assert not doctor.installed("partly.exporter")


def test_traces_need_the_exporter_and_not_only_the_namespace_that_other_packages_share() -> None:
    (module,) = [name for name, use in doctor.OPTIONAL.items() if "traces_endpoint" in use]
    assert module == "opentelemetry.exporter.otlp.proto.http"


def test_without_a_compiler_the_report_says_what_is_slower(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", "mycc -m64")
    assert one(doctor.compiler(ANY)).found == "mycc -m64"
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = one(doctor.compiler(ANY))
    assert (found.level, found.remedy) == (WARN, "apt install gcc")
    assert found.found == "there is no C compiler: a model on the CPU decodes two to three times slower"


def test_what_is_required_is_what_the_package_declares() -> None:
    declared = re.search(r"^dependencies = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert declared
    wanted = dict(re.findall(r'"([a-z-]+)>=([\d.]+)', declared[1]))
    assert {name: least or "0" for name, least in doctor.LIBRARIES.items()}.items() <= {
        name: "0" if name == "safetensors" else least for name, least in wanted.items()
    }.items()
    assert doctor.numbers("2.13.0+cpu") >= doctor.numbers("2.5") > doctor.numbers("2")


@pytest.mark.parametrize(
    ("least", "name", "found"), [("999.0", "numpy", "too old"), ("1", "no_such_library", "not installed")]
)
def test_a_library_that_lacks_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, least: str, name: str, found: str
) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", {name: least})
    finding = one(doctor.libraries(ANY), name)
    assert finding.level == FAIL
    assert found in finding.found
    assert finding.remedy == f"pip install '{name}>={least}'"


@pytest.mark.parametrize("damage", ["cut", "pointer", "gone"])
def test_weights_that_are_not_whole_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    copy = tmp_path / "argus-nano"
    shutil.copytree(checkpoint.SHIPPED / "argus-nano", copy)
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    assert one(doctor.checkpoints(ANY)).level == OK
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    if damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(
            whole[:-1] if damage == "cut" else b"version https://git-lfs.github.com/spec/v1\n"
        )
    first, last = doctor.checkpoints(ANY)
    assert (first.level, last.level) == (FAIL, FAIL)
    assert "argus-nano" in first.found


@pytest.mark.slow
def test_a_process_that_fails_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.ask(["-c", "raise ImportError('libcuda.so is missing')"]) == (
        None,
        "ImportError: libcuda.so is missing",
    )
    assert doctor.ask(["-c", "import sys; sys.exit(3)"]) == (None, "it ended with exit status 3")
    monkeypatch.setattr(doctor, "PATIENCE", 0.5)
    assert doctor.ask(["-c", "import time; time.sleep(60)"])[0] is None


def test_the_profile_of_fast_dds_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "FASTDDS_DEFAULT_PROFILES_FILE",
        "FASTRTPS_DEFAULT_PROFILES_FILE",
        "FASTDDS_BUILTIN_TRANSPORTS",
    ):
        monkeypatch.delenv(name, raising=False)
    lacking = one(doctor.profile("rmw_fastrtps_cpp"))
    assert lacking.level == WARN
    exported = dict(re.findall(r"export (\w+)=(\S+?\.xml)", lacking.remedy))
    assert exported
    assert one(doctor.profile("rmw_cyclonedds_cpp")).level == OK
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    assert one(doctor.profile("rmw_fastrtps_cpp")).level == OK
    monkeypatch.setenv(next(iter(exported)), str(tmp_path / "none.xml"))
    assert one(doctor.profile("rmw_fastrtps_cpp")).level == FAIL


def test_image_topics_are_told_with_what_the_node_has_to_be_set_to() -> None:
    assert one(doctor.topics([], "7")).level == WARN

    def published(*reliabilities: str) -> Finding:
        publishers = [{"node": f"/camera{i}", "reliability": r} for i, r in enumerate(reliabilities)]
        image = {"topic": "/image", "type": "sensor_msgs/msg/Image", "publishers": publishers}
        return one(doctor.topics([image], "0"))

    assert "fits every" in published("reliable").found
    assert "not reliable" in published("best_effort").found
    assert published("reliable", "reliable").level == WARN
