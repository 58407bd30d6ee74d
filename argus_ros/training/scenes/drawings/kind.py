"""What a class needs to be drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from argus_ros.training.scenes.brush import Brush

#: The variant of each class that training never shows.
HELD_OUT = 4


@dataclass(frozen=True)
class Kind:
    """How a class is drawn, and its width over height.

    A drawing fills its box exactly: every variant touches all four sides, so that the box is the truth.
    """

    fixed: Callable[[Brush, int], None]  #: draws variants 0 to ``HELD_OUT``
    varied: Callable[[Brush, int], None]  #: draws the rest, which differ in proportions and parts every time
    aspect: tuple[float, float]
    variants: int = 9  #: ``HELD_OUT`` is one of them
    bends: float = 1.0  #: how far training may change its proportions, 0 for not at all

    def draw(self, brush: Brush, variant: int) -> None:
        (self.varied if variant > HELD_OUT else self.fixed)(brush, variant)
