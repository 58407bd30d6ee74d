"""The native backend's tokens are those of transformers' ``generate`` under the same grammar, in float32.

Equal wherever the reference's two best logits differ by more than ``TIE``; where they do not, either may be
chosen, and the answers are compared up to there. Ties are printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Task
from argus_ros.training import scenes
from argus_ros.vlm.decoding.generation import Generated, Limits
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.decoding.reference import TransformersModel
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats import grammar

pytestmark = pytest.mark.slow

TIE = 1e-4
FRAMES = 50


def tasks(engine: Engine) -> list[Task]:
    """What this checkpoint can do, with all of its classes and with one."""
    words = engine.info.classes or ("picture", "yes")
    every = [Task(name, words, "how many") for name in engine.info.tasks]
    return [*every, Task("detect", words[1:2])] if "detect" in engine.info.tasks else every


def frames(side: int, tiles: int, count: int) -> list[np.ndarray]:
    """(tiles, side, side, 3) uint8: blocks of colour under noise."""
    rng = np.random.default_rng(7)
    blocks = [rng.integers(0, 230, (tiles, 4, 4, 3), np.uint8) for _ in range(count)]
    noise = rng.integers(0, 25, (tiles, side, side, 3), np.uint8)
    return [b.repeat(side // 4, 1).repeat(side // 4, 2) + noise for b in blocks]


def rendered(side: int, tiles: int, count: int) -> list[np.ndarray]:
    """The same, of what a trained checkpoint has something to say about."""
    pictures = [scenes.render(i, "val", (side, side)).image for i in range(tiles * count)]
    return list(np.stack(pictures).reshape(count, tiles, side, side, 3))


def ties(ours: Generated, reference: Generated) -> list[str]:
    """Steps up to which the two agree because of a tie. Fails where they differ without one."""
    for step, (a, b) in enumerate(zip(ours.columns, reference.columns, strict=False)):
        if a != b:
            second, first = np.sort(reference.logits[step])[-2:]
            assert first - second <= TIE, (
                f"step {step}: {a} instead of {b}, which was better by {first - second}"
            )
            return [f"step {step}: {a} or {b}, {first - second:.1e} apart"]
    assert len(ours.columns) == len(reference.columns)
    return []


def compare(
    path: Path,
    layouts: Sequence[tuple[int, int]],
    count: int = FRAMES,
    pictures: Callable[[int, int, int], list[np.ndarray]] = frames,
) -> None:
    native = Engine(EngineConfig(str(path), device="cpu", dtype="float32"))
    reference = Engine(EngineConfig(str(path), backend="transformers", device="cpu", dtype="float32"))
    found, answers = [], set()
    for rows, columns in layouts:
        for index, tiles in enumerate(pictures(native.info.tile, rows * columns + 1, count)):
            for task in tasks(native):
                request = FrameRequest(index, 0, rows, columns, 640, 480, task, max_new_tokens=24)
                ours, theirs = native.generate(request, tiles), reference.generate(request, tiles)
                found += [f"{task.name}, frame {index}, {t}" for t in ties(ours, theirs)]
                answers.add(tuple(ours.columns))
                if not found:
                    choice = np.isfinite(theirs.logits).sum(1) > 1  # what is forced need not be computed
                    np.testing.assert_allclose(
                        ours.logits[choice], theirs.logits[choice], atol=1e-3, rtol=1e-4
                    )
    assert reference.model.model.generation_config.pad_token_id is not None  # or generate may warn
    print(f"{path.name}: {len(found)} ties", *found, sep="\n  ")
    assert len(answers) > count / 4, "the checkpoint says the same of every frame, so this proves little"


def test_one_tile(tiny: Path) -> None:
    compare(tiny, [(0, 0)])


def test_several_tiles(tiled: Path) -> None:
    compare(tiled, [(0, 0), (1, 3), (2, 3)], 3)


def test_open_vocabulary(unbounded: Path) -> None:
    compare(unbounded, [(0, 0)], 4)


def test_without_argus_section(chat: Path) -> None:
    compare(chat, [(3, 2)], 5)


def test_intern(intern: Path) -> None:
    compare(intern, [(0, 0), (2, 1)], 4)


@pytest.mark.parametrize("name", checkpoints.shipped())
def test_shipped(name: str) -> None:
    compare(checkpoints.find(name), [(0, 0)], pictures=rendered)


def test_stock_preset_gives_the_same_detections(tiny: Path) -> None:
    engines = [
        Engine(EngineConfig(str(tiny), preset=p, device="cpu"))
        for p in ("stock", "paper", "realtime", "edge")
    ]
    assert [e.recipes.lean_modules for e in engines] == [False, False, True, True]
    for index, tiles in enumerate(frames(64, 1, 5)):
        request = FrameRequest(index, 0, 0, 0, 640, 480, Task("detect"))
        stock, *others = [e.run([request], [tiles])[0] for e in engines]
        for other in others:
            assert [d.label for d in other.detections] == [d.label for d in stock.detections]
            for a, b in zip(other.detections, stock.detections, strict=True):
                assert a.score == pytest.approx(b.score, abs=1e-4)
                assert (a.x_min, a.y_min, a.x_max, a.y_max) == (b.x_min, b.y_min, b.x_max, b.y_max)


def test_the_stock_path_from_a_picture(tiny: Path) -> None:
    """Stock processor and plain ``generate`` on a tile-sized picture, beside a grammar without rules."""
    native = Engine(EngineConfig(str(tiny), device="cpu", dtype="float32"))
    reference = TransformersModel(native.checkpoint, torch.device("cpu"), torch.float32)
    task = Task("detect")
    end, size = native.tokens.ends[0], native.tokens.size
    anything = grammar.build(Task("ask", prompt="how"), native.tokens)
    columns = np.array([end, *(i for i in range(size) if i != end)])
    anything = replace(
        anything,
        tokens=columns,
        allowed=np.ones((len(anything.allowed), size), bool),
        next=np.where(np.arange(size) == 0, grammar.DONE, grammar.START)[None].repeat(len(anything.next), 0),
    )
    model = NativeModel(native.checkpoint, native.recipes, torch.device("cpu"), torch.float32)
    answers = set()
    for tiles in frames(64, 1, 10):
        stock = reference.stock(tiles[0], task, 20)
        ours = model.generate(native.tokens.prompt(task, 0, 0, 4), anything, tiles, Limits(20))
        assert [int(columns[c]) for c in ours.columns] == stock
        answers.add(tuple(stock))
    assert len(answers) > 3
