"""The page on a run, ``report.html``: charts and pictures are embedded, so that it needs no network."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from argus_ros.tools import page
from argus_ros.tools.bag import Frame
from argus_ros.tools.expectation import Change
from argus_ros.tools.results import PUBLISHED, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class _Camera:
    """Totals of one camera's frames."""

    seconds: list[float] = field(default_factory=list)  #: since the run's first frame
    latencies: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)


class Report:
    """Collects a run frame by frame; ``html`` returns the page."""

    def __init__(self) -> None:
        self._cameras: dict[str, _Camera] = defaultdict(_Camera)
        self._reasons: Counter[tuple[str, str]] = Counter()
        self._begin: int | None = None
        self._changed, self._unsure, self._slow = page.Worst(), page.Worst(), page.Worst()
        self._failed = page.Worst()

    def add(self, frame: Frame, result: Result, picture: np.ndarray | None, change: Change | None) -> None:
        """``picture``: (height, width, 3) uint8 RGB with its detections drawn."""
        camera = self._cameras[frame.camera]
        self._begin = frame.stamp if self._begin is None else self._begin
        at = (frame.stamp - self._begin) * 1e-9
        camera.outcomes[result.outcome] += 1
        if result.answer:
            camera.seconds.append(at)
            camera.latencies.append(result.times.total)
            camera.labels.update(d.label for d in result.answer.detections)
            if result.age is not None:
                camera.ages.append(result.age)
        else:
            self._reasons[result.outcome, result.reason] += 1
        if picture is not None:
            self._keep(f"{frame.camera} at {at:.2f} s", result, picture, change)

    def _keep(self, where: str, result: Result, picture: np.ndarray, change: Change | None) -> None:
        if change:
            self._changed.offer(
                len(change.missing) + len(change.new), f"{where}: {_difference(change)}", picture
            )
        if result.answer is None:
            self._failed.offer(1.0, f"{where}: {result.outcome}", picture)
            return
        self._slow.offer(result.times.total, f"{where}: {1e3 * result.times.total:.0f} ms", picture)
        if scores := [d.score for d in result.answer.detections]:
            self._unsure.offer(-min(scores), f"{where}: lowest score {min(scores):.2f}", picture)

    def html(self, title: str, facts: Mapping[str, Any], changes: Sequence[Change] | None = None) -> str:
        """The page; with ``changes`` from a comparison, where there was one."""
        outcomes = sum((c.outcomes for c in self._cameras.values()), Counter[str]())
        latencies = [seconds for c in self._cameras.values() for seconds in c.latencies]
        rows = dict(facts) | {"frames": outcomes.total(), "answered": outcomes[PUBLISHED]}
        if latencies:
            p50, p95 = np.quantile(latencies, (0.5, 0.95))
            rows["latency p50 / p95 / max"] = " / ".join(
                f"{1e3 * seconds:.1f} ms" for seconds in (p50, p95, max(latencies))
            )
        sections = [page.section("The run", page.table(rows.items()))]
        if changes is not None:
            said = [str(change) for change in changes] or ["as expected"]
            sections.append(page.section("Against the expectation", page.bullets(said)))
        sections += [page.section(name, page.chart(figure)) for name, figure in self._charts()]
        drops = [
            (f"{o.replace('_', ' ')}{f': {why}' if why else ''}", n) for (o, why), n in self._reasons.items()
        ]
        sections.append(
            page.section("Frames without an answer", page.table(drops) if drops else "<p>none</p>")
        )
        for name, worst in (
            ("Changed most", self._changed),
            ("Slowest", self._slow),
            ("Least sure", self._unsure),
            ("Without an answer", self._failed),
        ):
            if pictures := worst.pictures():
                sections.append(page.section(f"Pictures: {name.lower()}", page.gallery(pictures)))
        return page.whole(title, sections)

    def _charts(self) -> Iterable[tuple[str, Figure]]:
        cameras = dict(sorted(self._cameras.items()))
        if any(c.latencies for c in cameras.values()):
            figure, axes = page.axes("seconds of the recording", "latency [ms]")
            for name, camera in cameras.items():
                axes.plot(camera.seconds, 1e3 * np.asarray(camera.latencies), ".-", label=name, lw=0.5, ms=3)
            axes.set_ylim(bottom=0)
            axes.legend()
            yield "Latency over time", figure
        if any(c.ages for c in cameras.values()):
            figure, axes = page.axes("age at publication [ms]", "frames")
            axes.hist(
                [1e3 * np.asarray(c.ages) for c in cameras.values()],
                bins=30,
                stacked=True,
                label=list(cameras),
            )
            axes.legend()
            yield "Age of published answers", figure
        labels = sum((c.labels for c in cameras.values()), Counter[str]())
        if labels:
            figure, axes = page.axes("", "detections")
            names = [label for label, _ in labels.most_common()]
            below = np.zeros(len(names))
            for name, camera in cameras.items():
                counts = np.array([camera.labels[label] for label in names])
                axes.bar(names, counts, bottom=below, label=name)
                below += counts
            axes.legend()
            yield "Detections by class", figure


def _difference(change: Change) -> str:
    parts = [f"-{t.label}" for t in change.missing] + [f"+{t.label}" for t in change.new]
    return " ".join(parts) or "text"
