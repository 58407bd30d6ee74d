"""Frames of several cameras in one pass: each gets the answer that it gets alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Status, Task
from argus_ros.vlm.decoding.generation import Generated, Job, Limits
from argus_ros.vlm.engine import native as engines
from argus_ros.vlm.engine.native import Engine

TIE = 1e-4


def assert_same(ours: Generated, alone: Generated) -> None:
    """Equal columns; after a tie either is right."""
    for step, (a, b) in enumerate(zip(ours.columns, alone.columns, strict=False)):
        if a != b:
            second, first = np.sort(alone.logits[step])[-2:]
            assert first - second <= TIE, f"step {step}: {a} instead of {b}"
            return
    assert len(ours.columns) == len(alone.columns)
    assert ours.truncated == alone.truncated
    choice = np.isfinite(alone.logits).sum(1) > 1
    np.testing.assert_allclose(ours.logits[choice], alone.logits[choice], atol=2e-3, rtol=1e-3)


def pictures(seed: int, tiles: int, side: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (tiles, 4, 4, 3), np.uint8)
    return coarse.repeat(side // 4, 1).repeat(side // 4, 2)


def jobs(engine: Engine, requests: Sequence[FrameRequest]) -> list[Job]:
    made = []
    for request in requests:
        prompt, grammar = engine.prompt_and_grammar(request)
        limits = Limits(engine.token_limit(request, grammar), request.max_detections, request.deadline)
        made.append(Job(prompt, grammar, pictures(request.id, request.tiles, engine.info.tile), limits))
    return made


def mixed(engine: Engine, grids: Sequence[tuple[int, int]], seed: int) -> list[FrameRequest]:
    """Frames of all tasks, layouts and limits."""
    rng, words = np.random.default_rng(seed), engine.info.classes or ("picture", "yes")
    every = [Task(name, words, "how many") for name in engine.info.tasks]
    if "detect" in engine.info.tasks:
        every += [Task("detect", words[:1]), Task("detect", words[1:])]
    found = []
    for _ in range(int(rng.integers(2, 6))):
        task, (rows, columns) = every[rng.integers(len(every))], grids[rng.integers(len(grids))]
        request = FrameRequest(int(rng.integers(1000)), 0, rows, columns, 640, 480, task, max_new_tokens=24)
        found.append(replace(request, max_detections=int(rng.integers(4))))
        if rng.integers(3) == 0:
            found[-1] = replace(found[-1], max_new_tokens=int(rng.integers(1, 9)))
    return found


@pytest.fixture(
    scope="module",
    params=[
        "realtime",
        "realtime-compiled_step",
        pytest.param("realtime-jump_forward-prefix_kv", marks=pytest.mark.slow),
        pytest.param("realtime+device_loop", marks=pytest.mark.slow),
        pytest.param("realtime-compiled_step+device_loop", marks=pytest.mark.slow),
    ],
)
def preset(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "grids"),
    [("tiny", [(0, 0)]), ("tiled", [(0, 0), (1, 2)]), ("unbounded", [(0, 0)]), ("intern", [(0, 0), (2, 1)])],
)
def test_answers_are_those_of_the_frames_alone(
    name: str, grids: list[tuple[int, int]], preset: str, request: pytest.FixtureRequest
) -> None:
    engine = Engine(EngineConfig(str(request.getfixturevalue(name)), device="cpu", preset=preset))
    assert engine.recipes.camera_batch
    lengths = set()
    for seed in range(6):
        batch = jobs(engine, mixed(engine, grids, seed))
        together = dict(engine.model.generate_all(batch))
        for index, job in enumerate(batch):
            assert_same(
                together[index], engine.model.generate(job.prompt, job.grammar, job.tiles, job.limits)
            )
            lengths.add(len(together[index].columns))
    assert len(lengths) > 3, "all answers are of one length, so this proves little"


def frames(count: int, side: int) -> Iterator[np.ndarray]:
    """A scene that changes every third frame."""
    return (pictures(index // 3, 1, side) for index in range(count))


def test_drafts_in_a_batch(tiny: Path) -> None:
    """Each camera's draft is its own; answers are those without, and passes are saved."""
    drafting = Engine(EngineConfig(str(tiny), device="cpu"))
    plain = Engine(EngineConfig(str(tiny), device="cpu", preset="realtime-last_frame_draft-camera_batch"))
    request = FrameRequest(0, 0, 0, 0, 640, 480, Task("detect"))
    passes = [0, 0]
    for index, tiles in enumerate(frames(9, drafting.info.tile)):
        requests = [replace(request, id=i, camera=f"camera {i}", taken=index / 10) for i in range(3)]
        views = [tiles, pictures(100 + index, 1, drafting.info.tile), 255 - tiles]
        ours = dict(drafting.generate_all(requests, views))
        for i, view in enumerate(views):
            alone = plain.generate(requests[i], view)
            assert_same(ours[i], alone)
            passes[0] += ours[i].passes
            passes[1] += alone.passes
    assert passes[0] < passes[1]


def test_the_engine_runs_requests_together(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit; each answer is given out as soon as it is done; a deadline is one frame's own."""
    engine = Engine(EngineConfig(str(tiny), device="cpu"))
    sizes: list[int] = []
    whole = engine.model.generate_all

    def counting(batch: Sequence[Job]) -> Iterator[tuple[int, Generated]]:
        sizes.append(len(batch))
        return whole(batch)

    monkeypatch.setattr(engine.model, "generate_all", counting)
    monkeypatch.setattr(engines, "TOGETHER", 3)
    request = FrameRequest(0, 0, 0, 0, 640, 480, Task("dense_caption"))
    every = [pictures(seed, 1, engine.info.tile) for seed in range(30)]
    tiles = [view for view in every if engine.run([request], [view])[0].decode_passes > 1][:5]
    alone = [engine.run([request], [view])[0] for view in tiles]
    sizes.clear()
    requests = [replace(request, id=i) for i in range(5)]
    requests[1] = replace(request, deadline=time.monotonic())
    found = list(engine.stream(requests, tiles))
    assert sizes == [3, 2]
    assert found[0][0] == 1
    assert found[0][1].status is Status.TRUNCATED
    assert found[0][1].generated_tokens == 1
    steps = [found[0][1].decode_passes] + [answer.decode_passes for _, answer in found[1:3]]
    assert steps == sorted(steps)
    for index, answer in found[1:]:
        assert [d.label for d in answer.detections] == [d.label for d in alone[index].detections]
        assert answer.generated_tokens == alone[index].generated_tokens
