"""Doors in their frames: with panels, windows, planks, one leaf or two."""

from __future__ import annotations

from argus_ros.training.scenes.brush import Brush
from argus_ros.training.scenes.drawings.kind import Kind
from argus_ros.training.scenes.palette import RGB


def fixed(b: Brush, variant: int) -> None:
    frame = b.shade(0.6)
    b.rect(0, 0, 1, 1, frame)
    b.rect(0.07, 0.04, 0.93, 1)
    knob: RGB = (210, 190, 110) if sum(b.main) < 600 else (60, 60, 60)
    if variant == 0:
        for x, y in ((0.16, 0.1), (0.54, 0.1), (0.16, 0.56), (0.54, 0.56)):
            b.rect(x, y, x + 0.3, y + 0.36, b.shade(0.8))
        b.oval(0.8, 0.5, 0.9, 0.55, knob)
    elif variant == 1:
        b.rect(0.22, 0.12, 0.78, 0.42, (170, 205, 220))
        b.rect(0.78, 0.54, 0.92, 0.57, knob)
    elif variant == 2:
        for y in (0.2, 0.4, 0.6, 0.8):
            b.rect(0.07, y, 0.93, y + 0.02, b.shade(0.75))
        b.oval(0.1, 0.5, 0.2, 0.55, knob)
    elif variant == 3:
        b.rect(0.07, 0.04, 0.45, 1, (22, 22, 26))
        b.poly([(0.45, 0.04), (0.93, 0.04), (0.93, 1), (0.45, 0.94)])
        b.oval(0.5, 0.5, 0.58, 0.55, knob)
    else:
        b.rect(0.42, 0.1, 0.58, 0.85, (170, 205, 220))
        b.rect(0.1, 0.5, 0.22, 0.53, knob)
        b.rect(0.07, 0.9, 0.93, 1, b.shade(0.7))


def varied(b: Brush, variant: int) -> None:
    frame = b.pick(0.03, 0.1)
    b.rect(0, 0, 1, 1, b.shade(b.pick(0.5, 0.8)) if b.chance(0.6) else b.grey())
    x0, x1, y0 = frame, 1 - frame, frame * 0.5
    b.rect(x0, y0, x1, 1)
    glass = ((170, 205, 220), (95, 120, 140), (205, 225, 230))[int(b.rng.integers(3))]
    wide = x1 - x0
    if variant == 5:  # two leaves
        b.rect(0.49, y0, 0.51, 1, b.shade(0.5))
        for x in (x0 + 0.07 * wide, 0.5 + 0.07 * wide):
            if b.chance(0.7):
                b.rect(x, 0.1, x + 0.36 * wide, b.pick(0.3, 0.55), glass if b.chance(0.5) else b.shade(0.8))
            b.rect(x, 0.62, x + 0.36 * wide, 0.93, b.shade(b.pick(0.75, 1.2)))
        b.rect(0.43, 0.5, 0.46, 0.58, b.grey())
        b.rect(0.54, 0.5, 0.57, 0.58, b.grey())
        return
    if variant == 6:  # panels in a grid
        rows, columns = int(b.rng.integers(2, 6)), int(b.rng.integers(1, 4))
        tone = b.shade(b.pick(0.7, 0.9) if b.chance(0.6) else b.pick(1.15, 1.4))
        for i in range(rows):
            for j in range(columns):
                x, y = x0 + (j + 0.15) * wide / columns, 0.06 + (i + 0.12) * 0.9 / rows
                b.rect(x, y, x + 0.7 * wide / columns, y + 0.76 * 0.9 / rows, tone)
    elif variant == 7:  # a window of any shape
        w, top, tall = b.pick(0.2, 0.7) * wide, b.pick(0.08, 0.2), b.pick(0.12, 0.6)
        x = b.pick(x0 + 0.05, x1 - w - 0.05)
        if b.chance(0.3):
            b.oval(x, top, x + w, top + w * 0.5, glass)
        else:
            b.rect(x, top, x + w, top + tall, glass)
            if b.chance(0.4):
                b.rect(x, top + tall / 2 - 0.01, x + w, top + tall / 2 + 0.01)
    else:  # planks, braces, or plain
        if b.chance(0.6):
            for i in range(1, int(b.rng.integers(3, 7))):
                x = x0 + i * wide / 6
                b.rect(x, y0, x + 0.015, 1, b.shade(0.7))
        if b.chance(0.5):
            for y in (b.pick(0.12, 0.25), b.pick(0.7, 0.85)):
                b.rect(x0, y, x1, y + 0.06, b.shade(b.pick(0.7, 1.2)))
        if b.chance(0.4):
            b.rect(x0, 0.86, x1, 1, b.grey())
    hand = x0 + 0.06 * wide if b.chance(0.5) else x1 - 0.16 * wide
    knob: RGB = (210, 190, 110) if b.chance(0.5) else b.grey()
    y = b.pick(0.46, 0.58)
    if b.chance(0.5):
        b.oval(hand, y, hand + 0.1 * wide, y + 0.04, knob)
    else:
        b.rect(hand, y, hand + 0.1 * wide, y + b.pick(0.015, 0.12), knob)


KIND = Kind(fixed, varied, (0.42, 0.55))
