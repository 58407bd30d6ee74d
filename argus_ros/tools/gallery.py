"""The page of `argus evaluate --html`: figures, charts, and the pictures with the most errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from argus_ros.core.drawing import mark
from argus_ros.core.matching import Truth, box_of, match
from argus_ros.core.types import Detection
from argus_ros.tools import page

RIGHT, WRONG, MISSED = (70, 220, 90), (255, 70, 60), (255, 255, 255)


@dataclass
class Gallery:
    """The pictures with the most errors, and the best ones."""

    worst: page.Worst = field(default_factory=lambda: page.Worst(12))
    best: page.Worst = field(default_factory=lambda: page.Worst(6))

    def add(
        self,
        name: str,
        image: np.ndarray,
        found: Sequence[Detection],
        truths: Sequence[Truth],
        verdicts: Sequence[bool | None],
    ) -> None:
        taken = {j for _, j, _ in match(found, truths)}
        missed = [t for j, t in enumerate(truths) if j not in taken and not t.ignored]
        wrong = verdicts.count(False)
        picture = image.copy()
        for truth in missed:
            mark(picture, truth.box, MISSED, f"missed {truth.label}")
        for detection, right in zip(found, verdicts, strict=True):
            if right is not None:
                text = f"{detection.label} {detection.score:.2f}"
                mark(picture, box_of(detection), RIGHT if right else WRONG, text)
        if missed or wrong:
            caption = f"{name}: {len(missed)} missed, {wrong} wrong"
            self.worst.offer(len(missed) + wrong, caption, picture)
        elif found:
            self.best.offer(len(found), f"{name}: all {len(found)} found", picture)

    def html(self, figures: dict[str, Any], summary: Sequence[tuple[str, str]]) -> str:
        """A page without network access, with the figures of ``measure`` and of ``summary``."""

        def rows(table: dict[str, Any]) -> str:
            cells = [
                (n, *(f"{v[k]:.3f}" for k in ("f1", "precision", "recall")), v["objects"])
                for n, v in table.items()
            ]
            return page.table([("", "F1", "precision", "recall", "objects"), *cells])

        sections = [
            page.section("Figures", page.table([("F1", f"{figures['f1']:.3f}"), *summary])),
            page.section("By class", rows(figures["per_class"])),
            page.section("By size: side in pixels", rows(figures["per_size"])),
            page.section("Calibration", page.chart(diagram(figures))),
            page.section(
                "Worst: missed objects white, wrong detections red", page.gallery(self.worst.pictures())
            ),
            page.section("All found", page.gallery(self.best.pictures())),
        ]
        return page.whole(f"{figures['checkpoint']}: accuracy", sections)


def diagram(figures: dict[str, Any]) -> Any:
    """Share of right detections over their score; a calibrated score is on the diagonal."""
    figure, axes = page.axes("score", "share right")
    rows = figures["reliability"]
    axes.plot((0, 1), (0, 1), ":", color="grey")
    axes.plot([r["score"] for r in rows], [r["right"] for r in rows], "o-")
    for row in rows:
        axes.annotate(
            row["count"], (row["score"], row["right"]), (0, 6), textcoords="offset points", ha="center"
        )
    axes.set_ylim(0, 1.1)
    return figure
