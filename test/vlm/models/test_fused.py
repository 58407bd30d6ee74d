"""Fused kernels against the plain decoder, run by Triton's interpreter; and compiled for real cards.

``ARGUS_TEST_DEVICE=cuda`` runs them on a GPU instead, and layers of real sizes too.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import drawn

from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Task
from argus_ros.vlm.decoding import choosing, loop
from argus_ros.vlm.decoding.loop import DeviceLoop
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats import grammar
from argus_ros.vlm.models import fused
from argus_ros.vlm.models.architecture import TextShape
from argus_ros.vlm.models.decoder import Decoder
from argus_ros.vlm.models.fused import Fused, Tuning
from argus_ros.vlm.models.graphs import Graphs

ROOT = Path(__file__).resolve().parents[3]
DEVICE = torch.device(os.environ.get("ARGUS_TEST_DEVICE", "cpu"))
ON_CPU = DEVICE.type == "cpu"

triton = pytest.importorskip("triton", reason="there is no Triton for this machine")
if ON_CPU and not triton.knobs.runtime.interpret:
    pytest.skip("Triton is compiled here: ARGUS_TEST_DEVICE=cuda", allow_module_level=True)
only_interpreted = pytest.mark.skipif(not ON_CPU, reason="for the CPU")

#: Llama with heads whose halves are no power of two, and Qwen2 with several groups.
LLAMA = TextShape(48, 1, 4, 2, 12, 72, 50, 1024, 1e-5)
QWEN = TextShape(64, 1, 6, 2, 32, 160, 50, 1024, 1e-6, qkv_bias=True)
#: A layer of SmolLM2-135M, and a sum that is split.
SMALL = TextShape(576, 1, 9, 3, 64, 1536, 50, 1024, 1e-5)
LONG = TextShape(64, 1, 4, 2, 128, 2304, 50, 1024, 1e-6, qkv_bias=True)
#: Layers of SmolLM2-360M and Qwen2.5-1.5B.
MEDIUM = TextShape(960, 1, 15, 5, 64, 2560, 50, 1024, 1e-5)
LARGE = TextShape(1536, 1, 12, 2, 128, 8960, 50, 1024, 1e-6, qkv_bias=True)


def decoder(shape: TextShape, rows: int, dtype: torch.dtype = torch.float32) -> Decoder:
    return drawn(shape, rows, DEVICE, dtype)


def compare(
    shape: TextShape, rows: int, count: int, tuning: Tuning, dtype: torch.dtype = torch.float32
) -> None:
    """One pass of ``count`` tokens of ``rows`` rows of different lengths, the plain way and the fused way."""
    plain, draw = decoder(shape, rows + 1, dtype), torch.Generator().manual_seed(rows * count)
    # The edges of what a block looks at, the end of the buffers, and places in between.
    starts = [0, tuning.split - 1, 512 - count, tuning.split, tuning.split + 63, 77, 1, 300][:rows]
    places = (torch.tensor(starts)[:, None] + torch.arange(count)).to(DEVICE)
    x = torch.randn(rows, count, shape.width, generator=draw).to(DEVICE, dtype)
    for kept in (plain.keys, plain.values):
        kept.copy_(torch.randn(kept.shape, generator=draw))
    before = plain.keys.clone(), plain.values.clone()
    wanted = plain(x, places, 512, 1)
    keys, values = plain.keys.clone(), plain.values.clone()
    for kept, old in zip((plain.keys, plain.values), before, strict=True):
        kept.copy_(old)
        for row, last in enumerate(places[:, -1].tolist(), 1):
            kept[:, row, :, last + 1 :] = torch.nan  # what was there before is never looked at
    kernels = Fused(plain, tuning, tuning)
    found = kernels(x, places, 512, 1)
    assert found is not None, "a kernel failed; the log says why"
    near = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.15, "rtol": 0.05}
    torch.testing.assert_close(found, wanted, **near)
    for ours, theirs in ((plain.keys, keys), (plain.values, values)):
        torch.testing.assert_close(ours[:, 0], theirs[:, 0])  # a row that was not asked for
        for row, last in enumerate(places[:, -1].tolist(), 1):
            torch.testing.assert_close(ours[:, row, :, : last + 1], theirs[:, row, :, : last + 1], **near)
    assert not kernels.arrived.any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "rows", "count", "tuning"),
    [
        (LLAMA, 1, 1, Tuning(blocks=1)),
        (LLAMA, 8, 2, Tuning(blocks=1)),
        (QWEN, 3, 1, Tuning(blocks=1, split=64)),
        (QWEN, 1, 16, Tuning(blocks=12, split=128)),
        (SMALL, 1, 1, Tuning(blocks=1)),
        (LONG, 1, 1, Tuning(blocks=1)),
        (LONG, 2, 4, Tuning(blocks=1)),
    ],
)
def test_a_pass_is_the_plain_ones(shape: TextShape, rows: int, count: int, tuning: Tuning) -> None:
    compare(shape, rows, count, tuning)


@pytest.mark.gpu
@pytest.mark.skipif(ON_CPU, reason="takes the interpreter minutes")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [SMALL, MEDIUM, LARGE])
def test_layers_of_real_sizes(shape: TextShape, dtype: torch.dtype) -> None:
    """With the tuning that is tried first on this device, and the last one."""
    for rows, count in ((1, 1), (1, 5), (3, 1), (8, 16)):
        for tuning in (Tuning.tried(DEVICE)[0], Tuning.tried(DEVICE)[-1]):
            compare(shape, rows, count, tuning, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    compare(QWEN, 1, 1, Tuning(blocks=1), dtype)
    compare(QWEN, 2, 2, Tuning(blocks=1), dtype)


def test_real_sizes_are_cut_into_blocks_that_cover_them() -> None:
    """Every number of every matrix is some block's, whatever the sizes, tokens and tuning."""
    shapes = [
        SMALL,
        TextShape(960, 32, 15, 5, 64, 2560, 50, 8192, 1e-5),
        TextShape(1536, 28, 12, 2, 128, 8960, 50, 32768, 1e-6, qkv_bias=True),
        LLAMA,
    ]
    for shape in shapes:
        for rows, count in ((1, 1), (1, 2), (1, 16), (8, 1), (8, 16)):
            for tuning in (Tuning(), Tuning(264, 2), Tuning(8, split=128)):
                for size in (2, 4):
                    made = fused.layer(shape, rows, count, 3584, tuning, size)
                    for name, launch in made.items():
                        c = launch.constants
                        if "BK" in c:
                            assert c["MP"] >= rows * count
                            assert c["MP"] == 1 or (c["MP"] >= 16 and c["BN"] >= 8)
                            assert c["MP"] * c["BK"] * size <= max(fused.TOKENS_TILE, 16 * c["MP"] * size)
                        if name in ("out", "gate_up", "down"):
                            assert launch.grid[0] * c["BN"] >= c["N"]
                        if name in ("out", "down"):
                            assert launch.grid[1] == c["SPLITS"] <= fused.MOST_PARTS
                            assert launch.grid[0] <= shape.width  # counters
                    half = shape.head_dim // 2
                    assert made["qkv"].grid[0] == shape.heads + 2 * shape.kv_heads
                    assert made["qkv"].grid[1] * made["qkv"].constants["BN"] >= half
                    look = made["attention"].constants
                    assert look["SPLIT"] * look["SPLITS"] >= 3584
                    assert look["SPLIT"] % look["BS"] == 0
                    assert look["MQ"] >= shape.heads // shape.kv_heads * count
                    assert ("combine" in made) == (look["SPLITS"] > 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "tiled", "unbounded"])
def test_a_choice_is_the_loops(name: str, request: pytest.FixtureRequest, read_tokens: Callable) -> None:
    """Any state, registers and logits, NaN and infinities too."""
    tokens = read_tokens(request.getfixturevalue(name))
    words = tokens.checkpoint.vocabulary.classes or ("a",)
    g, rng = grammar.build(Task("dense_caption", words), tokens), np.random.default_rng(4)
    made = DeviceLoop(g, lambda x: x, decoder(LLAMA, 1), jump=True, recorded=_plain)
    rows = 40
    registers = torch.from_numpy(rng.integers(0, 9, (rows, loop.LIMIT + 1 + made.longest)))
    registers[:, loop.STATE] = torch.from_numpy(rng.integers(0, len(g.allowed), rows))
    registers[:8, loop.STATE] = torch.tensor([grammar.DONE, grammar.FULL, 2, 3, 4, 5, 3, 4])
    registers[:, loop.LEAST_X : loop.LEAST_Y + 1] = torch.from_numpy(rng.integers(0, g.bins - 1, (rows, 2)))
    logits = torch.from_numpy(rng.normal(0, 3, (rows, len(g.tokens))).astype(np.float32))
    for value in (torch.inf, -torch.inf, torch.nan, -1e38):
        logits[torch.from_numpy(rng.random(logits.shape) < 0.01)] = value
    registers, logits = registers.to(DEVICE), logits.to(DEVICE)
    wanted = made.choose(registers, logits)
    kernels = Fused(decoder(LLAMA, 1), Tuning(), Tuning())
    following, columns = kernels.choose(Tuning(), registers, logits, made.tables, made.longest)
    for ours, theirs in zip((following, columns, logits), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def _plain(function: Callable) -> Graphs:
    return Graphs(function, DEVICE, None, on=False)


@pytest.fixture
def engines(tiny: Path) -> tuple[Engine, Engine]:
    """With the kernels and without."""
    # On the CPU they have to be asked for.
    presets = "realtime+device_loop+fused_kernels", "realtime+device_loop" + "-fused_kernels" * (not ON_CPU)
    ours, plain = (
        Engine(EngineConfig(str(tiny), device=str(DEVICE), dtype="float32", preset=preset))
        for preset in presets
    )
    assert "fused_kernels" in ours.info.recipes
    assert "fused_kernels" not in plain.info.recipes
    return ours, plain


REQUEST = FrameRequest(1, 0, 0, 0, 640, 480, Task("dense_caption"), max_new_tokens=3)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, 4, 4, 3), np.uint8).repeat(16, 1).repeat(16, 2)


@pytest.mark.slow
def test_answers_are_the_same(engines: tuple[Engine, Engine], caplog: pytest.LogCaptureFixture) -> None:
    ours, plain = engines
    with caplog.at_level(logging.WARNING):
        made, alone = (engine.generate(REQUEST, picture(3)) for engine in (ours, plain))
    assert made.columns == alone.columns
    np.testing.assert_allclose(made.logits, alone.logits, atol=1e-3)
    assert not caplog.records


def test_a_kernel_that_fails_is_followed_by_the_plain_pass(
    engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours, plain = engines

    def fail(*_: object) -> None:
        raise RuntimeError("out of resource: shared memory, Required: 99999\nHardware limit: 1")

    monkeypatch.setattr(Fused, "launch", fail)
    with caplog.at_level(logging.WARNING):
        for seed in range(2):
            request = replace(REQUEST, max_new_tokens=20)
            made, alone = (engine.generate(request, picture(seed)) for engine in (ours, plain))
            assert made.columns == alone.columns
    (record,) = caplog.records
    assert "fused_kernels is off from here on: out of resource: shared memory" in record.getMessage()
    model = ours.model
    assert isinstance(model, NativeModel)
    assert model.decoder.fused is not None
    assert not model.decoder.fused.takes(1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])
def test_kernels_that_run_are_taken_though_others_do_not(
    engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Those that fail may be the first, of frames before anything is timed, or a later one."""
    ours, _ = engines
    model, good, bad = ours.model, Tuning(1), Tuning(1, split=100)  # 100 is no power of two
    assert isinstance(model, NativeModel)
    kernels = model.decoder.fused
    assert kernels is not None
    tried = [good, bad] if first == 0 else [bad, good]
    monkeypatch.setattr(Tuning, "tried", staticmethod(lambda _: tried))
    monkeypatch.setattr(choosing, "ANSWER", 2)  # the interpreter takes seconds for a step
    monkeypatch.setattr(choosing, "CHUNKS", (2,))
    kernels.one = kernels.several = tried[0]
    ours.generate(REQUEST, picture(1))
    assert kernels.takes(1, 1) == (first == 0)
    times = iter([*range(100, 2, -1), *[2.0] * 100])  # what comes later is faster
    assert model.choose(("tiny",), lambda run: (run(), next(times))[1])
    assert (kernels.one, kernels.several) == (good, good)
    assert kernels.takes(1, 1)


@pytest.mark.slow
def test_kernels_stay_as_they_were_where_passes_cannot_be_timed(
    engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, first, second = engines[0].model, Tuning(1), Tuning(2)
    assert isinstance(model, NativeModel)
    kernels = model.decoder.fused
    assert kernels is not None
    monkeypatch.setattr(Tuning, "tried", staticmethod(lambda _: [first, second]))
    kernels.one = kernels.several = first

    def timer(_: object) -> float:
        if kernels.one == second:
            raise RuntimeError("CUDA error: an illegal memory access")
        return 1.0

    with pytest.raises(RuntimeError, match="illegal"):
        model.choose(("tiny",), timer)
    assert (kernels.one, kernels.several) == (first, first)


@pytest.mark.slow
@only_interpreted
def test_they_compile_for_cards_that_are_not_here() -> None:
    """All kernels of a step, by Triton's own compiler, for an Orin and, launched early, for an H100."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [
        sys.executable,
        str(ROOT / "bench" / "decode_kernels.py"),
        "--compile",
        "argus-256m",
        "--cards",
        "87,90",
    ]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stdout.count("compiled") == 4  # those of steps and those of long rows
