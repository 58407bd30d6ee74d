"""The engine end to end on untrained checkpoints."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from argus_ros.core.checkpoint import CheckpointError
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Answer, Status, Task
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.engine.native import Engine, EngineError
from argus_ros.vlm.formats.prompts import TaskError

REQUEST = FrameRequest(1, 0, 0, 0, 640, 480, Task("detect"))


def pictures(seed: int, count: int = 1, side: int = 64) -> np.ndarray:
    """(count, side, side, 3) uint8: smooth noise, so that answers differ."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return coarse.repeat(side // 4, 1).repeat(side // 4, 2)


def run(engine: Engine, request: FrameRequest, seed: int = 0) -> Answer:
    return engine.run([request], [pictures(seed, request.tiles)])[0]


def same(a: Answer, b: Answer) -> bool:
    """Equal but for the clock, and for how sums in another order round."""
    scores = [[d.score for d in answer.detections] for answer in (a, b)]
    a, b = (
        replace(x, times=a.times, detections=tuple(replace(d, score=0.0) for d in x.detections))
        for x in (a, b)
    )
    return a == b and scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_info(engine: Engine) -> None:
    info = engine.info
    assert info.classes == ("cone", "ball", "box")
    assert (info.tile, info.max_tiles, info.tokens_per_tile) == (64, 1, 4)
    assert info.slot_bytes == 64 * 64 * 3
    assert {"lean_modules", "prefix_kv", "uint8_transfer"} <= set(info.recipes)
    assert "device_resize" not in info.recipes  # needs CUDA


def test_most_tiles(tiled: Path) -> None:
    assert Engine(EngineConfig(str(tiled))).info.max_tiles == 3 * 3 + 1


def test_answer_depends_on_the_picture_and_times_are_filled(engine: Engine) -> None:
    found = [run(engine, REQUEST, seed) for seed in range(20)]
    assert len({a.detections for a in found}) > 3
    for answer in found:
        times = answer.times
        assert min(times.transfer, times.vision, times.prefill, times.decode, times.first_token) > 0
        assert answer.visual_tokens == 4
        assert answer.generated_tokens >= 1


def test_order_of_requests_does_not_matter(engine: Engine, tiny: Path) -> None:
    """Kept prefixes and prompts never leak into another question's answer."""
    tasks = [
        Task("detect"),
        Task("detect", ("ball",)),
        Task("dense_caption"),
        Task("ask", prompt="how many cones"),
    ]
    requests = [replace(REQUEST, id=i, task=task) for i, task in enumerate(tasks * 2)]
    tiles = [pictures(i) for i in range(len(requests))]
    batch = engine.run(requests, tiles)
    backwards = engine.run(requests[::-1], tiles[::-1])[::-1]
    fresh = [Engine(EngineConfig(str(tiny))).run([r], [t])[0] for r, t in zip(requests, tiles, strict=True)]
    assert all(map(same, batch, backwards))
    assert all(map(same, batch, fresh))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "tiled", "unbounded", "chat"])
def test_every_task_of_every_checkpoint(name: str, request: pytest.FixtureRequest) -> None:
    engine = Engine(EngineConfig(str(request.getfixturevalue(name))))
    engine.warm_up()
    for task in engine.info.tasks:
        asked = Task(task, engine.info.classes or ("picture",), "how many")
        answer = run(engine, replace(REQUEST, task=asked, max_new_tokens=20))
        assert answer.generated_tokens <= 20


def test_limits(engine: Engine) -> None:
    seed = next(s for s in range(100) if len(run(engine, REQUEST, s).detections) >= 3)
    whole = run(engine, REQUEST, seed)
    two = run(engine, replace(REQUEST, max_detections=2), seed)
    assert two.detections == whole.detections[:2]
    assert two.status == Status.OK
    cut = run(engine, replace(REQUEST, max_new_tokens=12), seed)
    assert cut.detections == whole.detections[:2]  # of the third the first two tokens
    assert cut.status == Status.TRUNCATED
    late = run(engine, replace(REQUEST, deadline=time.monotonic()), seed)
    assert late.status == Status.TRUNCATED
    assert (late.detections, late.generated_tokens) == ((), 1)
    in_time = run(engine, replace(REQUEST, deadline=time.monotonic() + 3600), seed)
    assert same(in_time, whole)


def test_boxes_are_pixels_of_the_source(engine: Engine) -> None:
    seed = next(s for s in range(100) if run(engine, REQUEST, s).detections)
    large = run(engine, replace(REQUEST, width=1270, height=127), seed).detections
    for d in large:
        assert d.x_min / 10 == pytest.approx(round(d.x_min / 10))  # bins are 1/127 apart
        assert d.y_max == pytest.approx(round(d.y_max))
        assert 0 <= d.x_min < d.x_max <= 1270


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": Task("detect", ("unicorn",))}, "does not know 'unicorn'; its classes are cone, ball, box"),
        ({"task": Task("ground", prompt="a cone")}, "cannot do 'ground'"),
        ({"task": Task("ask")}, "needs a prompt"),
        ({"task": Task("ask", prompt="a " * 2040)}, "more than the context of 2048"),
        ({"task": Task("ask", prompt="how many <image>")}, "control token"),
        ({"task": Task("ask", prompt="how many"), "max_new_tokens": 5000}, "more than the context"),
        ({"rows": 1, "columns": 2}, r"the request needs \(3, 64, 64, 3\)"),
        ({"frame": (64, 0)}, r"needs \(0, 64, 3\)"),
        ({"width": 0}, "0x480 pixels"),
    ],
)
def test_refusals_name_cause_and_remedy(engine: Engine, change: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        engine.run([replace(REQUEST, **change)], [pictures(0)])  # type: ignore[arg-type]
    assert run(engine, REQUEST).status == Status.OK


def test_too_many_tiles(tiled: Path) -> None:
    with pytest.raises(TaskError, match="at most 10"):
        run(Engine(EngineConfig(str(tiled))), replace(REQUEST, rows=5, columns=5))


def exhaust(engine: Engine, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let the vision tower ask for more memory than there is, for more than ``most`` tiles."""
    model = engine.model
    assert isinstance(model, NativeModel)
    vision = model.vision.function

    def see(tiles: torch.Tensor) -> torch.Tensor:
        return vision(tiles) if len(tiles) <= most else torch.empty(1 << 50, 1 << 10)

    monkeypatch.setattr(model.vision, "function", see)


@pytest.mark.slow
def test_a_frame_that_memory_does_not_hold_is_answered_as_one_tile(
    tiled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(EngineConfig(str(tiled)))
    requests = [replace(REQUEST, id=i, rows=r, columns=r) for i, r in enumerate((0, 2, 0))]
    tiles = [pictures(i, r.tiles) for i, r in enumerate(requests)]
    before = engine.run(requests, tiles)
    exhaust(engine, monkeypatch, 1)
    small, cut, also_small = engine.run(requests, tiles)
    assert "out of memory for a frame of 5 tiles" in caplog.text
    assert cut.status == Status.TRUNCATED
    assert cut.visual_tokens == small.visual_tokens == engine.info.tokens_per_tile
    assert len(cut.detections) <= 2
    monkeypatch.undo()
    assert all(map(same, engine.run(requests, tiles), before))
    if not engine.recipes.camera_batch:
        assert same(small, before[0])
        assert same(also_small, before[2])


@pytest.mark.slow
def test_too_little_memory_is_an_error_and_the_engine_stays_usable(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(EngineConfig(str(tiny)))
    before = run(engine, REQUEST)
    exhaust(engine, monkeypatch, 0)
    with pytest.raises(
        MemoryError, match="too little memory for even one tile of a frame: free the device, or use dtype"
    ):
        run(engine, REQUEST)
    monkeypatch.undo()
    assert same(run(engine, REQUEST), before)


def test_layouts_never_seen_before_are_answered_as_by_an_engine_that_knows_nothing_else(tiled: Path) -> None:
    engine = Engine(EngineConfig(str(tiled)))
    for rows, columns, classes in (
        (0, 0, ()),
        (3, 3, ()),
        (1, 3, ("cone",)),
        (2, 2, ("light", "cone")),
        (3, 1, ()),
    ):
        request = replace(REQUEST, rows=rows, columns=columns, task=Task("detect", classes))
        fresh = Engine(EngineConfig(str(tiled)))
        first = run(engine, request)
        assert same(first, run(fresh, request))
        assert same(first, run(engine, request))  # and once more, when it is known


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"device": "cuda:99"}, "CUDA devices"),
        ({"dtype": "int3"}, "unknown dtype 'int3'"),
        ({"backend": "onnx"}, "unknown backend 'onnx'"),
        ({"preset": "ludicrous"}, "unknown preset 'ludicrous'"),
    ],
)
def test_configurations_refused(tiny: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        Engine(replace(EngineConfig(str(tiny)), **change))  # type: ignore[arg-type]


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 1e-3, 1.0, 1e4, float("nan"), float("inf")])
)
def test_answers_parse_whatever_the_weights(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, scale: float
) -> None:
    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("weights") / "random")
    weights = load_file(folder / "model.safetensors")
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore", invalid="ignore"):
        save_file(
            {k: (rng.normal(0, 1, w.shape) * scale).astype(w.dtype) for k, w in weights.items()},
            folder / "model.safetensors",
            {"format": "pt"},
        )
    if not np.isfinite(scale):
        with pytest.raises(CheckpointError, match="holds NaN or an infinity"):
            Engine(EngineConfig(str(folder)))
        return
    engine = Engine(EngineConfig(str(folder)))
    for task in (Task("detect"), Task("dense_caption"), Task("ask", prompt="how many")):
        try:
            answer = run(engine, replace(REQUEST, task=task), seed)
        except FloatingPointError:
            if scale <= 1.0:
                raise
            continue
        for d in answer.detections:
            assert 0 <= d.x_min < d.x_max <= 640
            assert 0 <= d.y_min < d.y_max <= 480
            assert 0 <= d.score <= 1
            assert d.label in ("cone", "ball", "box")
