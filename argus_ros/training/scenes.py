"""Synthetic scenes: things that a robot meets, on procedural backgrounds, with exact boxes.

A scene is a function of its seed (and of the photographs given). ``split="train"`` never uses the last
drawing variant of a class nor the last background; ``split="heldout"`` uses only these. ``split="val"`` draws
the same variants as training from other seeds, but plainly: training also bends, patches and mottles them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from argus_ros.training import sprites
from argus_ros.training.sprites import Bank, Sprite
from argus_ros.training.things import COLOURS, HELD_OUT, KINDS, RGB, STRAIGHT, Bend, Brush, shade_of

CLASSES = tuple(KINDS)
SPLITS = ("train", "val", "heldout")


@dataclass(frozen=True)
class Thing:
    """One object of a scene; the box in pixels of the image, clipped to it."""

    label: str
    colour: str
    box: tuple[float, float, float, float]  #: x_min, y_min, x_max, y_max
    weight: float = 1.0  #: in training; less than 1 for a box that a detector found

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class Scene:
    image: np.ndarray  #: (height, width, 3) uint8 RGB
    things: tuple[Thing, ...]  #: largest first
    #: Classes of which every object is among ``things``; None: all classes. Of other classes there may be
    #: objects without a box.
    complete: frozenset[str] | None = None


def render(
    seed: int,
    split: str = "train",
    size: tuple[int, int] = (320, 240),
    objects: tuple[int, int] = (0, 8),
    photographs: Sequence[np.ndarray] = (),
    bank: Bank | None = None,
) -> Scene:
    """Scene ``seed`` of a split at ``size`` (width, height), with ``objects`` (least, most).

    A quarter of the scenes stands before one of ``photographs``, RGB, where there are any. Some things, or
    all, are sprites of the ``bank``, where there is one.
    """
    rng = np.random.default_rng((SPLITS.index(split), seed))
    width, height = size
    if photographs and rng.random() < 0.25:
        image = _cut_out(rng, photographs[int(rng.integers(len(photographs)))], width, height)
    else:
        image = background(rng, width, height, heldout=split == "heldout")
    scatter_distractors(image, rng)
    things = []
    count = int(rng.integers(objects[0], objects[1] + 1))
    for label, colour, box, sprite in _arrange(rng, width, height, count, bank):
        if sprite:
            extent = place(image, rng, sprite, box, split)
        else:
            extent = paint(image, rng, label, colour, box, split)
        things.append(Thing(label, colour, clip(extent, width, height)))
    image = degrade(image, rng)
    return Scene(image, tuple(sorted(things, key=lambda t: -t.area)), frozenset(CLASSES))


def clip(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))


def _arrange(
    rng: np.random.Generator, width: int, height: int, count: int, bank: Bank | None
) -> list[tuple[str, str, tuple[float, float, float, float], Sprite | None]]:
    """Labels, colours and boxes, back to front; nobody is hidden by more than a third or cut by more.

    A sprite sets the aspect of its box, and the colour.
    """
    placed: list[tuple[float, float, float, float]] = []
    chosen = []
    favourite = rng.choice(len(CLASSES))  # scenes with several of one kind are common
    for _ in range(count):
        for _ in range(20):
            label = CLASSES[favourite if rng.random() < 0.25 else rng.integers(len(CLASSES))]
            side = math.exp(rng.uniform(math.log(0.08), math.log(0.6))) * math.sqrt(width * height)
            sprite = bank.draw(rng, label) if bank else None
            aspect = sprite.aspect if sprite else rng.uniform(*KINDS[label].aspect)
            w, h = side * math.sqrt(aspect), side / math.sqrt(aspect)
            if w > 1.1 * width or h > 1.1 * height:
                continue
            x = rng.uniform(-0.25 * w, width - 0.75 * w)
            y = rng.uniform(-0.25 * h, height - 0.75 * h)
            box = (x, y, x + w, y + h)
            seen = clip(box, width, height)
            if overlap(seen, box) < 0.67 * w * h or any(_hides(seen, other) for other in placed):
                continue
            placed.append(seen)
            colour = sprite.colour if sprite else list(COLOURS)[rng.integers(len(COLOURS))]
            chosen.append((label, colour, box, sprite))
            break
    return chosen


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _hides(front: Sequence[float], back: Sequence[float]) -> bool:
    """Whether ``front`` covers more than a third of ``back``, or lies wholly on it."""
    shared = overlap(front, back)
    return shared > 0.34 * (back[2] - back[0]) * (back[3] - back[1])


def paint(
    image: np.ndarray,
    rng: np.random.Generator,
    label: str,
    colour: str,
    box: tuple[float, float, float, float],
    split: str,
    variant: int | None = None,
) -> tuple[float, float, float, float]:
    """Draw one thing in place, lit from a side, perhaps mirrored; returns its box."""
    height, width = image.shape[:2]
    kind = KINDS[label]
    if variant is None:
        variant = HELD_OUT if split == "heldout" else int(rng.integers(kind.variants - 1))
        variant += split != "heldout" and variant >= HELD_OUT
    x0, y0 = max(math.floor(box[0]) - 1, 0), max(math.floor(box[1]) - 1, 0)
    x1, y1 = min(math.ceil(box[2]) + 1, width), min(math.ceil(box[3]) + 1, height)
    region = image[y0:y1, x0:x1]
    left, top, right, bottom = box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0
    mirrored = rng.random() < 0.5
    drawn = np.ascontiguousarray(region[:, ::-1] if mirrored else region)
    if mirrored:
        left, right = region.shape[1] - right, region.shape[1] - left
    shade = shade_of(colour, rng)
    before = drawn.copy()
    bend = _bend(rng, kind.bends) if split == "train" else STRAIGHT
    kind.draw(Brush(drawn, (left, top, right, bottom), shade, rng, bend), variant)
    if split == "train":
        _wear(drawn, (drawn != before).any(-1), rng, (left, top, right, bottom))
    if rng.random() < 0.7:
        _light(drawn, before, rng)
    region[:] = drawn[:, ::-1] if mirrored else drawn
    return box


def place(
    image: np.ndarray,
    rng: np.random.Generator,
    sprite: Sprite,
    box: tuple[float, float, float, float],
    split: str,
) -> tuple[float, float, float, float]:
    """Put a sprite in place, perhaps mirrored and with a shadow at its foot; returns its box."""
    x, y = round(box[0]), round(box[1])
    w, h = max(1, round(box[2] - box[0])), max(1, round(box[3] - box[1]))
    pixels = sprite.pixels()
    shrinks = w < pixels.shape[1]
    pixels = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    if split == "train":
        drawn = np.ascontiguousarray(pixels[..., :3])
        _wear(drawn, pixels[..., 3] == 255, rng, (0, 0, w, h))
        pixels = np.dstack([drawn, pixels[..., 3]])
    if rng.random() < 0.5:
        draw_shadow(image, (x + w / 2, y + h), w / 2, rng.uniform(0.2, 0.6))
    return sprites.paste(image, pixels, (x, y), rng.uniform(0.75, 1.2))


def draw_shadow(image: np.ndarray, foot: tuple[float, float], half: float, depth: float) -> None:
    """A soft dark ellipse on the floor about a point, ``half`` as wide as given; ``depth`` 1 is black."""
    height, width = image.shape[:2]
    x0, x1 = max(math.floor(foot[0] - 1.3 * half), 0), min(math.ceil(foot[0] + 1.3 * half), width)
    y0, y1 = max(math.floor(foot[1] - 0.5 * half), 0), min(math.ceil(foot[1] + 0.3 * half), height)
    if x0 >= x1 or y0 >= y1:
        return
    across = (np.arange(x0, x1) + 0.5 - foot[0]) / (1.3 * half)
    down = (np.arange(y0, y1) + 0.5 - foot[1] + 0.1 * half) / (0.4 * half)
    strength = np.clip(1 - across[None] ** 2 - down[:, None] ** 2, 0, 1) * depth
    image[y0:y1, x0:x1] = (image[y0:y1, x0:x1] * (1 - strength[..., None])).astype(np.uint8)


def _wear(
    drawn: np.ndarray, changed: np.ndarray, rng: np.random.Generator, box: tuple[float, float, float, float]
) -> None:
    """Patches, stripes and dirt on some things of training, where they were drawn."""
    if rng.random() < 0.25:
        _patch(drawn, changed, rng, box)
    if rng.random() < 0.3:
        _stripe(drawn, changed, rng, box)
    if rng.random() < 0.25:
        _mottle(drawn, changed, rng)


def _bend(rng: np.random.Generator, strength: float) -> Bend:
    middle, down = np.exp(rng.normal(0, 0.22 * strength, 2))
    return Bend(float(middle), float(down), float(rng.normal(0, 0.04 * strength)))


def _patch(
    drawn: np.ndarray, changed: np.ndarray, rng: np.random.Generator, box: tuple[float, float, float, float]
) -> None:
    """A label, hole or reflection in any colour on what was drawn, under an eighth of its box."""
    size = np.array([box[2] - box[0], box[3] - box[1]])
    centre = np.array(box[:2]) + size * rng.uniform(0.15, 0.85, 2)
    half = size * rng.uniform(0.04, 0.17, 2)
    patched = drawn.copy()
    (x0, y0), (x1, y1) = (centre - half).astype(int).tolist(), (centre + half).astype(int).tolist()
    colour = _ints(rng.uniform(0, 255, 3))
    if rng.random() < 0.5:
        cv2.rectangle(patched, (x0, y0), (x1, y1), colour, -1)
    else:
        middle, axes = ((x0 + x1) // 2, (y0 + y1) // 2), ((x1 - x0) // 2, (y1 - y0) // 2)
        cv2.ellipse(patched, middle, axes, 0, 0, 360, colour, -1)
    drawn[changed] = patched[changed]


def _stripe(
    drawn: np.ndarray, changed: np.ndarray, rng: np.random.Generator, box: tuple[float, float, float, float]
) -> None:
    """Up to three tapes, seams or shadows right across what was drawn, darker, lighter or in any colour."""
    size = np.array([box[2] - box[0], box[3] - box[1]])
    striped = drawn.copy()
    for _ in range(int(rng.integers(1, 4))):
        centre = np.array(box[:2]) + size * rng.uniform(0.1, 0.9, 2)
        angle = rng.choice((0.0, math.pi / 2, rng.uniform(0, math.pi)))
        along = np.array([math.cos(angle), math.sin(angle)]) * size.sum()
        ends = [tuple((centre + way * along).astype(int).tolist()) for way in (-1, 1)]
        thickness = max(1, round(size.min() * rng.uniform(0.02, 0.12)))
        stroke = np.zeros(drawn.shape[:2], np.uint8)
        cv2.line(stroke, ends[0], ends[1], 1, thickness)
        where = stroke > 0
        if rng.random() < 0.6:
            striped[where] = np.clip(striped[where] * rng.uniform(0.5, 1.4), 0, 255).astype(np.uint8)
        else:
            striped[where] = rng.uniform(0, 255, 3).astype(np.uint8)
    drawn[changed] = striped[changed]


def _mottle(drawn: np.ndarray, changed: np.ndarray, rng: np.random.Generator) -> None:
    """Dirt and wear: soft blotches, darker and lighter."""
    cells = int(rng.integers(3, 9))
    noise = rng.normal(1, rng.uniform(0.03, 0.14), (cells, cells)).astype(np.float32)
    gain = cv2.resize(noise, drawn.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    drawn[changed] = np.clip(drawn[changed] * gain[changed][:, None], 0, 255).astype(np.uint8)


def _light(drawn: np.ndarray, before: np.ndarray, rng: np.random.Generator) -> None:
    """Shade what was drawn from one side to the other."""
    height, width = drawn.shape[:2]
    low, high = rng.uniform(0.65, 1.0), rng.uniform(1.0, 1.2)
    ramp = np.linspace(low, high, width if rng.random() < 0.5 else height, dtype=np.float32)
    if rng.random() < 0.5:
        ramp = ramp[::-1]
    gain = np.broadcast_to(ramp[None, :] if len(ramp) == width else ramp[:, None], (height, width))
    changed = (drawn != before).any(-1)
    drawn[changed] = np.clip(drawn[changed] * gain[changed][:, None], 0, 255).astype(np.uint8)


# --- backgrounds ------------------------------------------------------------------------------


def _dull(rng: np.random.Generator, low: float = 40, high: float = 220) -> np.ndarray:
    """A colour of little saturation, as walls and floors have."""
    return np.clip(rng.uniform(low, high) + rng.normal(0, 14, 3), 0, 255)


def _room(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    image = np.empty((height, width, 3), np.float32)
    horizon = int(height * rng.uniform(0.3, 0.65))
    image[:horizon] = _dull(rng, 120, 230)
    floor, depth = _dull(rng, 50, 170), np.linspace(0.85, 1.1, height - horizon)[:, None, None]
    image[horizon:] = floor * depth
    canvas = image.astype(np.uint8)
    if rng.random() < 0.6:  # floor boards or tiles that run to a vanishing point
        centre, line = width * rng.uniform(0.2, 0.8), _ints(floor * rng.uniform(0.75, 0.95))
        for i in range(-8, 17):
            cv2.line(
                canvas,
                (int(centre), horizon),
                (int(width * i / 8 + (centre - width / 2)), height),
                line,
                1,
                cv2.LINE_AA,
            )
        step = 4.0
        y = float(horizon)
        while y < height and rng.random() < 0.98:
            y += step
            step *= 1.4
            cv2.line(canvas, (0, int(y)), (width, int(y)), line, 1)
    return canvas


def _ints(colour: np.ndarray) -> RGB:
    return (int(colour[0]), int(colour[1]), int(colour[2]))


def _gradient(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    corners = np.stack([_dull(rng) for _ in range(4)]).reshape(2, 2, 3).astype(np.float32)
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _clouds(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    image = np.full((height, width, 3), _dull(rng), np.float32)
    for cells, strength in ((3, 30), (8, 18), (30, 10)):
        noise = rng.normal(0, strength, (cells, cells, 3 if rng.random() < 0.3 else 1)).astype(np.float32)
        layer = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        image += layer if layer.ndim == 3 else layer[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _panels(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    canvas = _gradient(rng, width, height)
    for _ in range(int(rng.integers(2, 7))):
        x, w = int(rng.uniform(0, width)), int(rng.uniform(0.1, 0.4) * width)
        tone = np.clip(_dull(rng, 80, 210), 0, 255)
        canvas[:, x : x + w] = (canvas[:, x : x + w] * 0.5 + tone * 0.5).astype(np.uint8)
    return canvas


def _bricks(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    canvas = np.full((height, width, 3), _dull(rng, 120, 200), np.uint8)
    h = max(int(height * rng.uniform(0.04, 0.09)), 3)
    w, stone = int(h * 2.4), _dull(rng, 70, 190)
    for row, y in enumerate(range(0, height, h)):
        for x in range(-(row % 2) * (w // 2), width, w):
            tone = _ints(np.clip(stone + rng.normal(0, 7), 0, 255))
            cv2.rectangle(canvas, (x + 1, y + 1), (x + w - 2, y + h - 2), tone, -1)
    return canvas


BACKGROUNDS: tuple[Callable[[np.random.Generator, int, int], np.ndarray], ...] = (
    _room,
    _gradient,
    _clouds,
    _panels,
    _bricks,  # held out
)


def background(rng: np.random.Generator, width: int, height: int, heldout: bool) -> np.ndarray:
    """A picture without things, (height, width, 3) uint8."""
    make = BACKGROUNDS[-1] if heldout else BACKGROUNDS[int(rng.choice(4, p=(0.45, 0.15, 0.25, 0.15)))]
    return make(rng, width, height)


def load_photographs() -> list[np.ndarray]:
    """Photographs that come with scikit-image and scikit-learn, RGB, where these are installed, else none.

    For training alone: no other split shows them. Those that show people are left out.
    """
    try:
        from skimage import data
        from sklearn.datasets import load_sample_images
    except ModuleNotFoundError:
        return []
    names = (
        "brick cat coffee coins grass gravel hubble_deep_field immunohistochemistry moon page retina rocket"
    )
    pictures = [getattr(data, name)() for name in (*names.split(), "text")]
    pictures += [data.stereo_motorcycle()[0], *load_sample_images().images]
    return [cv2.cvtColor(p, cv2.COLOR_GRAY2RGB) if p.ndim == 2 else p[..., :3] for p in pictures]


def _cut_out(rng: np.random.Generator, photograph: np.ndarray, width: int, height: int) -> np.ndarray:
    """A random part of a photograph at (width, height), perhaps mirrored, in changed light."""
    rows, columns = photograph.shape[:2]
    share = rng.uniform(0.3, 1.0) * min(columns / width, rows / height)
    w, h = int(width * share), int(height * share)
    x, y = int(rng.integers(columns - w + 1)), int(rng.integers(rows - h + 1))
    part = cv2.resize(photograph[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        part = part[:, ::-1]
    light = rng.uniform(0.5, 1.2) * (1 + rng.normal(0, 0.08, 3))
    return np.clip(part * light, 0, 255).astype(np.uint8)


def scatter_distractors(image: np.ndarray, rng: np.random.Generator) -> None:
    """Lines, crosses and scribbles that are none of the classes."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(0, 5))):
        centre = rng.uniform(0, 1, 2) * (width, height)
        points = (centre + rng.normal(0, 0.08 * width, (int(rng.integers(2, 5)), 2))).astype(np.int32)
        thickness = int(rng.integers(1, max(2, width // 80)))
        cv2.polylines(
            image, [points], bool(rng.random() < 0.2), _ints(rng.uniform(0, 255, 3)), thickness, cv2.LINE_AA
        )


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a camera does to a picture: exposure, white balance, blur, noise, JPEG."""
    if rng.random() < 0.6:
        gain = rng.uniform(0.7, 1.25) * (1 + rng.normal(0, 0.04, 3))
        table = np.clip(np.arange(256)[:, None] * gain + rng.uniform(-15, 15), 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table[None])
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.0) * image.shape[1] / 320)
    if rng.random() < 0.5:
        image = noisy(image, rng, 9)
    if rng.random() < 0.25:
        image = jpeg(image, int(rng.integers(45, 95)))
    return image


def noisy(image: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """A picture with Gaussian noise of one to ``most`` grey levels."""
    noise = np.empty(image.shape, np.float32)
    cv2.setRNGSeed(int(rng.integers(2**31)))
    cv2.randn(noise, np.zeros(3), np.full(3, rng.uniform(1, most)))
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """What is left of a picture after JPEG compression."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded
