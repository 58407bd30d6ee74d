"""One page on a run, for people: ``report.html`` carries its charts and pictures and needs no network."""

from __future__ import annotations

import base64
import heapq
import html
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from argus_ros.tools.bag import Frame
from argus_ros.tools.expectation import Change
from argus_ros.tools.results import PUBLISHED, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Pictures of each kind, and how wide they are at most.
PICTURES, PICTURE_WIDTH = 3, 480
JPEG_QUALITY = 80


@dataclass
class _Camera:
    """What a camera's frames add up to."""

    seconds: list[float] = field(default_factory=list)  #: since the run's first frame
    latencies: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)


class _Worst:
    """The few pictures with the greatest key."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, bytes]] = []
        self._count = 0

    def offer(self, key: float, caption: str, picture: np.ndarray) -> None:
        if len(self._heap) == PICTURES and key <= self._heap[0][0]:
            return
        self._count += 1
        heapq.heappush(self._heap, (key, -self._count, caption, _jpeg(picture)))
        if len(self._heap) > PICTURES:
            heapq.heappop(self._heap)

    def pictures(self) -> list[tuple[str, bytes]]:
        return [(caption, jpeg) for _, _, caption, jpeg in sorted(self._heap, reverse=True)]


class Report:
    """Takes a run frame by frame; ``html`` makes the page."""

    def __init__(self) -> None:
        self._cameras: dict[str, _Camera] = defaultdict(_Camera)
        self._reasons: Counter[tuple[str, str]] = Counter()
        self._begin: int | None = None
        self._changed, self._unsure, self._slow = _Worst(), _Worst(), _Worst()
        self._failed = _Worst()

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
            self._unsure.offer(-min(scores), f"{where}: least score {min(scores):.2f}", picture)

    def html(self, title: str, facts: Mapping[str, Any], changes: Sequence[Change] | None = None) -> str:
        """The page. ``changes`` against an expectation, where there was one."""
        outcomes = sum((c.outcomes for c in self._cameras.values()), Counter[str]())
        latencies = [seconds for c in self._cameras.values() for seconds in c.latencies]
        rows = dict(facts) | {"frames": outcomes.total(), "answered": outcomes[PUBLISHED]}
        if latencies:
            p50, p95 = np.quantile(latencies, (0.5, 0.95))
            rows["latency p50 / p95 / max"] = " / ".join(
                f"{1e3 * seconds:.1f} ms" for seconds in (p50, p95, max(latencies))
            )
        sections = [_section("The run", _table(rows.items()))]
        if changes is not None:
            said = [str(change) for change in changes] or ["as expected"]
            sections.append(_section("Against the expectation", _list(said)))
        sections += [_section(name, _figure(chart)) for name, chart in self._charts()]
        drops = [
            (f"{o.replace('_', ' ')}{f': {why}' if why else ''}", n) for (o, why), n in self._reasons.items()
        ]
        sections.append(_section("Frames without an answer", _table(drops) if drops else "<p>none</p>"))
        for name, worst in (
            ("Changed most", self._changed),
            ("Slowest", self._slow),
            ("Least sure", self._unsure),
            ("Without an answer", self._failed),
        ):
            if pictures := worst.pictures():
                sections.append(_section(f"Pictures: {name.lower()}", _gallery(pictures)))
        return _PAGE.format(title=html.escape(title), body="\n".join(sections))

    def _charts(self) -> Iterable[tuple[str, Figure]]:
        cameras = dict(sorted(self._cameras.items()))
        if any(c.latencies for c in cameras.values()):
            figure, axes = _axes("seconds of the recording", "latency [ms]")
            for name, camera in cameras.items():
                axes.plot(camera.seconds, 1e3 * np.asarray(camera.latencies), ".-", label=name, lw=0.5, ms=3)
            axes.set_ylim(bottom=0)
            axes.legend()
            yield "Latency over time", figure
        if any(c.ages for c in cameras.values()):
            figure, axes = _axes("age at publication [ms]", "frames")
            axes.hist(
                [1e3 * np.asarray(c.ages) for c in cameras.values()],
                bins=30,
                stacked=True,
                label=list(cameras),
            )
            axes.legend()
            yield "Age of what was published", figure
        labels = sum((c.labels for c in cameras.values()), Counter[str]())
        if labels:
            figure, axes = _axes("", "detections")
            names = [label for label, _ in labels.most_common()]
            below = np.zeros(len(names))
            for name, camera in cameras.items():
                counts = np.array([camera.labels[label] for label in names])
                axes.bar(names, counts, bottom=below, label=name)
                below += counts
            axes.legend()
            yield "Detections by class", figure


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure  # takes a second, which only a run with a report should pay

    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _difference(change: Change) -> str:
    parts = [f"-{t.label}" for t in change.missing] + [f"+{t.label}" for t in change.new]
    return " ".join(parts) or "text"


def _jpeg(picture: np.ndarray) -> bytes:
    height, width = picture.shape[:2]
    if width > PICTURE_WIDTH:
        size = PICTURE_WIDTH, max(round(height * PICTURE_WIDTH / width), 1)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes()


# --- HTML ---------------------------------------------------------------------------------------

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; }} td {{ padding: .15rem 1rem .15rem 0; vertical-align: top; }}
td:first-child {{ color: #666; }} img {{ max-width: 100%; }}
.gallery {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }} figcaption {{ color: #666; }} ul {{ max-height: 20rem; overflow: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{html.escape(title)}</h2>\n{body}\n</section>"


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    cells = (f"<tr><td>{html.escape(str(k))}</td><td>{html.escape(str(v))}</td></tr>" for k, v in rows)
    return "<table>" + "".join(cells) + "</table>"


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def _figure(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return f'<img alt="chart" src="data:image/svg+xml;base64,{_base64(file.getvalue())}">'


def _gallery(pictures: Iterable[tuple[str, bytes]]) -> str:
    figures = (
        f'<figure><img alt="{html.escape(caption)}" src="data:image/jpeg;base64,{_base64(jpeg)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, jpeg in pictures
    )
    return '<div class="gallery">' + "".join(figures) + "</div>"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
