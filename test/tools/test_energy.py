"""What frames cost: by counters as Linux and NVIDIA's library have them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from argus_ros.tools import energy
from argus_ros.tools.main import main

CPU = torch.device("cpu")


def package(
    folder: Path, microjoules: int, most: int = 1000_000_000, name: str | bytes = "package-0"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_bytes(name if isinstance(name, bytes) else f"{name}\n".encode())
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def test_packages_are_read_and_neither_their_parts_nor_the_platform(tmp_path: Path) -> None:
    package(tmp_path / "intel-rapl:0", 5_000_000)
    package(tmp_path / "intel-rapl:0:0", 1_000_000, name="core")
    package(tmp_path / "intel-rapl:1", 7_000_000, name="package-1")
    (package(tmp_path / "intel-rapl:2", 0) / "energy_uj").unlink()
    (package(tmp_path / "intel-rapl:3", 0) / "energy_uj").write_text("none")
    (package(tmp_path / "intel-rapl:4", 0) / "name").unlink()
    package(tmp_path / "intel-rapl:5", 90_000_000, name="psys")
    package(tmp_path / "intel-rapl:6", 0, name=b"\xff")
    assert [meter.joules() for meter in energy.meters(CPU, tmp_path)] == [5.0, 7.0]
    assert energy.meters(CPU, tmp_path / "missing") == []


def test_a_counter_that_starts_again_goes_on(tmp_path: Path) -> None:
    meter = energy.Package(package(tmp_path / "intel-rapl:0", 999_000_000))
    package(meter.folder, 2_000_000)
    assert meter.joules() == pytest.approx(1002.0)
    package(meter.folder, 3_000_000)
    assert meter.joules() == pytest.approx(1003.0)


def test_joules_of_a_run(tmp_path: Path) -> None:
    """Two packages together, over as many runs as fit; the first one, which may be slow, apart."""
    now, folders = [0.0], [package(tmp_path / f"intel-rapl:{i}", 0) for i in range(2)]

    def run() -> None:
        now[0] += energy.SECONDS / 4
        for folder in folders:
            package(folder, int(now[0] * 3e6))

    found = energy.joules(run, energy.meters(CPU, tmp_path), lambda: now[0])
    assert found == {"CPU": pytest.approx(2 * 3.0 * energy.SECONDS / 4)}
    counters = energy.meters(CPU, tmp_path)
    (folders[0] / "energy_uj").unlink()
    assert energy.joules(lambda: now.append(now.pop() + 9), counters, lambda: now[0]) == {}


class Refused(Exception):
    """NVML's."""


def test_a_card_that_counts_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As nvidia-ml-py answers; there is no card here."""

    def count(handle: str) -> int:
        if handle != "handle of GPU-1234":
            raise Refused("Not Supported")
        return 4500

    nvml = SimpleNamespace(
        NVMLError=Refused,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: f"handle of {uuid}",
        nvmlDeviceGetTotalEnergyConsumption=count,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    names = iter(("1234", "5678"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=next(names)))
    card = energy.Card.of(torch.device("cuda"))
    assert card is not None
    assert card.joules() == 4.5
    assert energy.Card.of(torch.device("cuda")) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy.Card.of(torch.device("cuda")) is None


def test_what_a_million_frames_cost() -> None:
    """36 ms a frame is ten hours."""
    made = energy.cost(36.0, {"GPU": 2.0}, 2.5)
    assert made == {
        "frames_per_second": 27.78,
        "hours_per_million": 10.0,
        "joules_per_frame": {"GPU": 2.0},
        "price_per_million": 25.0,
    }
    rows = energy.rows({"stock": energy.cost(72.0, {}, 0.0), "realtime": energy.cost(36.0, {"GPU": 2.0}, 0)})
    assert rows == [
        ["frames per second", "13.9", "27.8"],
        ["joules a frame, GPU", "", "2"],
        ["hours for a million frames", "20.0", "10.0"],
    ]


@pytest.mark.parametrize("price", ["0", "-1", "nan", "inf", "much"])
def test_a_price_that_is_none(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--price-per-hour", price])
    assert "is not a price per hour" in capsys.readouterr().err
