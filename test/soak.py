"""Lets the node run for long, with changes and faults at random: ``make soak MINUTES=60``.

Three cameras at 10 Hz, the node in its two processes. Every second the memory, threads and descriptors of
both processes are looked at, what Fast DDS holds of shared memory, and the machine's load; the times come
from ``~/timing``. What follows after the warm-up, the first fifth, is judged: the memory of each process and
the shared memory may grow by 1 MB per minute, threads and descriptors not at all, and the median latency of
the last third may be 1.25 times that of the first. Every image has to end with a word. Faults are those of
faults/table.py, one every ten seconds or so; some cost the engine's process. The last line says pass or fail.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from argus_ros.msg import FrameTiming
from faults.site import Site
from faults.table import FAULTS
from robot import inhabited, shared_files, start_node, visiting

from argus_ros.core.domain import claim

GROWTH = 1.0  #: MB per minute that memory may grow by
SLOWER = 1.25  #: times that the median latency may rise
#: Faults that last long, end in what is to be judged, or need a disk of their own.
LEFT_OUT = ("no_memory", "node_paused", "lifecycle", "cameras_come_and_go", "no_descriptors", "full_disk")


@dataclass
class Sample:
    minute: float
    node_mb: float
    engine_mb: float
    engine: int  #: its process
    threads: int
    descriptors: int
    shared_mb: float
    latency_ms: float  #: median of what was published since the last sample; NaN where nothing was
    p95_ms: float
    load: float  #: of the machine, over the last minute


def resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def shared_mb(*pids: int) -> float:
    """What Fast DDS holds of shared memory in these processes."""
    total = 0
    for path in set().union(*map(shared_files, pids)):
        with suppress(FileNotFoundError):  # withdrawn meanwhile
            total += path.stat().st_blocks * 512
    return total / 1e6


class Soak:
    def __init__(self, site: Site, seed: int) -> None:
        self.site, self.dice = site, random.Random(seed)
        self.samples: list[Sample] = []
        self.events: list[tuple[float, str]] = []
        self.broken = ""  #: why it ended early
        self.lost = 0  #: images that ended without an outcome
        self._began = time.monotonic()

    @property
    def minute(self) -> float:
        return (time.monotonic() - self._began) / 60

    def run(self, minutes: float) -> None:
        try:
            self._run(minutes)
            self.lost = self.site.without_a_word()
        except (AssertionError, OSError, StopIteration) as error:  # the node did not do what it has to
            self.broken = f"{type(error).__name__}: {error}"

    def _run(self, minutes: float) -> None:
        due = 0.0
        while self.minute < minutes:
            self.site.sleep(1.0)
            self.look()
            if self.minute * 60 >= due:
                due = self.minute * 60 + self.dice.uniform(5.0, 15.0)
                self.trouble()

    def look(self) -> None:
        robot, node = self.site.robot, self.site.node.pid
        totals = [t.total * 1e3 for t in robot.heard("/argus/timing") if t.outcome == FrameTiming.PUBLISHED]
        engine = self._engine()
        for topic in ("/argus/timing", "/argus/detections", "/diagnostics"):
            robot.forget(topic)
        self.samples.append(
            Sample(
                self.minute,
                resident_mb(node),
                resident_mb(engine) if engine else float("nan"),
                engine,
                len(os.listdir(f"/proc/{node}/task")),
                len(os.listdir(f"/proc/{node}/fd")),
                shared_mb(node, os.getpid()),
                statistics.median(totals) if totals else float("nan"),
                float(np.quantile(totals, 0.95)) if totals else float("nan"),
                os.getloadavg()[0],
            )
        )

    def _engine(self) -> int:
        for message in reversed(self.site.robot.heard("/diagnostics")):
            for status in message.status:
                values = {value.key: value.value for value in status.values}
                if status.name.endswith("engine") and values.get("state") == "running":
                    return int(values["process"])
        return 0

    def trouble(self) -> None:
        """A fault for a second or two, or parameters, or a question."""
        robot, kind = self.site.robot, self.dice.random()
        if kind < 0.4:
            self._note("parameters")
            robot.set(
                score_threshold=self.dice.random(),
                camera__front__weight=self.dice.uniform(0.1, 10.0),
                camera__rear__deadline=self.dice.uniform(5.0, 30.0),
                camera__rear__region=[0, 0, self.dice.randrange(20, 160), 0],
            )
        elif kind < 0.6:
            self._note("question")
            robot.ask(camera="front", deadline=5.0)
        else:
            chosen = [f for f in FAULTS if f.engine == (kind > 0.95) and f.inject.__name__ not in LEFT_OUT]
            fault = self.dice.choice(chosen)
            self._note(f"{fault.group}: {fault.name}")
            injection = fault.inject(self.site)
            try:
                next(injection)
                self.site.sleep(1.0)
            finally:
                next(injection, None)

    def _note(self, what: str) -> None:
        self.events.append((self.minute, what))
        print(f"{self.minute:6.1f} min  {what}", flush=True)

    # --- the judgement --------------------------------------------------------------------------

    def judge(self) -> tuple[bool, dict[str, Any]]:
        """Whether it passes, and the figures."""
        warm = [s for s in self.samples if s.minute > self.samples[-1].minute / 5]
        first, last = warm[: len(warm) // 3], warm[-(len(warm) // 3) :]
        lives: dict[int, list[Sample]] = {}
        for sample in warm:
            lives.setdefault(sample.engine, []).append(sample)
        longest = max((life for engine, life in lives.items() if engine), key=len)
        figures: dict[str, Any] = {
            "node_mb_per_minute": slope(warm, "node_mb"),
            "engine_mb_per_minute": slope(longest, "engine_mb"),
            "threads": (median(first, "threads"), median(last, "threads")),
            "descriptors": (median(first, "descriptors"), median(last, "descriptors")),
            "shared_mb_per_minute": slope(warm, "shared_mb"),
            "latency_ms": (median(first, "latency_ms"), median(last, "latency_ms")),
            "load": (median(first, "load"), median(last, "load")),
            "images_without_a_word": self.lost,
            "engines": len([engine for engine in lives if engine]),
            "events": len(self.events),
        }
        if self.broken:
            figures["broken"] = self.broken
        passes = (
            not self.broken
            and self.lost == 0
            and figures["shared_mb_per_minute"] <= GROWTH
            and figures["node_mb_per_minute"] <= GROWTH
            and figures["engine_mb_per_minute"] <= GROWTH
            and figures["threads"][1] <= figures["threads"][0] + 1
            and figures["descriptors"][1] <= figures["descriptors"][0] + 4
            and figures["latency_ms"][1] <= SLOWER * figures["latency_ms"][0]
        )
        return passes, figures

    def plot(self, path: Path) -> None:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(3, 1, sharex=True, figsize=(9, 7))
        minutes = [s.minute for s in self.samples]
        for name, label in (
            ("node_mb", "node"),
            ("engine_mb", "engine"),
            ("shared_mb", "Fast DDS's shared memory"),
        ):
            axes[0].plot(minutes, [getattr(s, name) for s in self.samples], label=label)
        axes[0].set_ylabel("MB")
        for name in ("threads", "descriptors"):
            axes[1].plot(minutes, [getattr(s, name) for s in self.samples], label=f"{name} of the node")
        for name, label in (("latency_ms", "median latency"), ("p95_ms", "95th percentile")):
            axes[2].plot(minutes, [getattr(s, name) for s in self.samples], label=label, lw=0.7)
        axes[2].set_yscale("log")
        axes[2].set_ylabel("ms")
        axes[2].set_xlabel("minutes")
        axes[2].plot(minutes, [s.load for s in self.samples], label="load of the machine (no unit)", lw=0.7)
        for one in axes:
            one.set_ylim(bottom=0 if one is not axes[2] else None)
            one.legend(loc="upper center" if one is axes[2] else "lower center", ncols=3)
            for minute, what in self.events:
                if what.startswith("engine"):
                    one.axvline(minute, color="0.8", lw=0.8, zorder=0)
        figure.tight_layout()
        figure.savefig(path, dpi=100)


def slope(samples: list[Sample], name: str) -> float:
    """MB per minute: the median of the slopes between each half's samples (Theil-Sen), noise aside."""
    points = [(s.minute, getattr(s, name)) for s in samples if getattr(s, name) == getattr(s, name)]
    half = len(points) // 2
    slopes = [
        (b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(points, points[half:], strict=False) if b[0] > a[0]
    ]
    return statistics.median(slopes) if slopes else 0.0


def median(samples: list[Sample], name: str) -> float:
    values = [getattr(s, name) for s in samples]
    return float(np.nanmedian(values))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, default=Path("build/soak.png"))
    parser.add_argument("--json", type=Path, default=Path("build/soak.json"))
    given = parser.parse_args()
    from argus_ros.vlm.models.blank import write_checkpoint

    claimed, domain = claim()
    with claimed, tempfile.TemporaryDirectory() as folder, inhabited(domain, Path(folder)) as ros:
        checkpoint = write_checkpoint(Path(folder) / "model")
        cameras = {"cameras": "[front, rear, squeezed]", "camera__squeezed__topic": "/squeezed/compressed"}
        deadlines = {f"camera__{name}__deadline": 30.0 for name in ("front", "rear", "squeezed")}
        node = start_node(ros, checkpoint, engine_hang_seconds=5.0, **cameras, **deadlines)
        with visiting() as robot:
            soak = Soak(Site(ros, node, robot, checkpoint), given.seed)
            soak.run(given.minutes)
    passes, figures = soak.judge()
    given.plot.parent.mkdir(parents=True, exist_ok=True)
    soak.plot(given.plot)
    report = {"figures": figures, "events": soak.events, "samples": [asdict(s) for s in soak.samples]}
    given.json.write_text(json.dumps(report) + "\n")
    print(("pass: " if passes else "fail: ") + json.dumps(figures))
    return not passes


if __name__ == "__main__":
    sys.exit(main())
