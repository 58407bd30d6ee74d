"""The cost of frames: time, and energy in joules from the counters of a GPU and of CPUs, where readable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

#: Counters update about ten times a second, so a measurement takes at least this many seconds.
SECONDS = 1.5
POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """A counter of energy."""

    name: str

    def joules(self) -> float:
        """Joules since a fixed time in the past. Raises OSError where it can no longer be read."""


class Card:
    """An NVIDIA GPU with an energy counter (Volta and later), by NVML."""

    name = "GPU"

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self.joules()

    def joules(self) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError as error:
            raise OSError(str(error)) from None

    @staticmethod
    def of(device: torch.device) -> Card | None:
        """The counter of torch's device; None without nvidia-ml-py, or where the GPU has none (a Jetson)."""
        try:
            import pynvml  # of nvidia-ml-py
        except ImportError:
            return None
        import torch

        try:
            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            return Card(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
        except (pynvml.NVMLError, OSError, AttributeError):
            return None


@dataclass
class Package:
    """A CPU package, by Linux's powercap (RAPL); often readable by root only."""

    folder: Path
    name: str = "CPU"
    _last: float = field(init=False)
    _wrapped: float = 0.0

    def __post_init__(self) -> None:
        self._last = self._read("energy_uj")

    def joules(self) -> float:
        now = self._read("energy_uj")
        if now < self._last:  # the counter has wrapped to zero
            self._wrapped += self._read("max_energy_range_uj")
        self._last = now
        return (now + self._wrapped) / 1e6

    def _read(self, name: str) -> float:
        try:
            return float((self.folder / name).read_text())
        except ValueError as error:
            raise OSError(f"{self.folder / name}: {error}") from None


def meters(device: torch.device, powercap: Path = POWERCAP) -> list[Meter]:
    """All readable counters of the hardware that a model on ``device`` uses."""
    found: list[Meter] = []
    if device.type == "cuda" and (card := Card.of(device)):
        found.append(card)
    for folder in sorted(powercap.glob("*-rapl:*")):
        try:
            # Other counters, of the platform (psys) or of parts of a package, would count twice.
            if (folder / "name").read_text().startswith("package-"):
                found.append(Package(folder))
        except (OSError, UnicodeDecodeError):
            continue
    return found


def joules(
    run: Callable[[], object],
    counters: Sequence[Meter],
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, float]:
    """Joules of one run by counter, averaged over ``SECONDS`` of runs; idle power is included."""
    run()
    try:
        before = [meter.joules() for meter in counters]
        started, runs = clock(), 0
        while clock() - started < SECONDS:
            run()
            runs += 1
        after = [meter.joules() for meter in counters]
    except OSError:
        return {}
    found: dict[str, float] = {}
    for meter, a, b in zip(counters, before, after, strict=True):
        found[meter.name] = found.get(meter.name, 0.0) + (b - a) / runs
    return {name: round(value, 4) for name, value in found.items()}


def cost(milliseconds: float, used: Mapping[str, float], price: float) -> dict[str, Any]:
    """The cost of frames one after the other. ``price`` is the machine's per hour; 0: unknown."""
    hours = milliseconds / 3.6  # for a million frames
    return {
        "frames_per_second": round(1e3 / milliseconds, 2),
        "hours_per_million": round(hours, 3),
        **({"joules_per_frame": dict(used)} if used else {}),
        **({"price_per_million": round(price * hours, 2)} if price else {}),
    }


def rows(costs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of a table of several ``cost``: a name, and a cell for each."""
    ways = list(costs.values())
    found = [["frames per second", *(f"{c['frames_per_second']:.1f}" for c in ways)]]
    for name in dict.fromkeys(name for c in ways for name in c.get("joules_per_frame", ())):
        cells = [c.get("joules_per_frame", {}).get(name) for c in ways]
        found.append([f"joules a frame, {name}", *("" if x is None else f"{x:.3g}" for x in cells)])
    found.append(["hours for a million frames", *(f"{c['hours_per_million']:.1f}" for c in ways)])
    if all("price_per_million" in c for c in ways):
        found.append(["price of a million frames", *(f"{c['price_per_million']:.2f}" for c in ways)])
    return found
