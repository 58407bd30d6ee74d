"""Choices on the device, with recordings' static shapes: on the CPU the same operations run unrecorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Status, Task
from argus_ros.vlm.decoding import loop
from argus_ros.vlm.decoding.loop import DeviceLoop
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats import grammar
from argus_ros.vlm.formats.grammar import Cursor
from argus_ros.vlm.formats.tokens import Tokens
from argus_ros.vlm.models.graphs import Graphs

CPU = torch.device("cpu")
REQUEST = FrameRequest(1, 0, 0, 0, 640, 480, Task("dense_caption"))


def pictures(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, 4, 4, 3), np.uint8).repeat(16, 1).repeat(16, 2)


@pytest.fixture(scope="module")
def engines(tiny: Path) -> tuple[Engine, Engine]:
    """With the loop and without."""
    presets = "realtime+device_loop", "realtime"
    ours, plain = (Engine(EngineConfig(str(tiny), device="cpu", preset=preset)) for preset in presets)
    assert "device_loop" in ours.info.recipes
    assert "device_loop" not in plain.info.recipes  # on the CPU it has to be asked for
    return ours, plain


def test_steps_run_in_chunks(engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    """All decode steps are the loop's; after an end at most the chunks that were on their way are run."""
    ours, plain = engines
    launched: list[int] = []
    launch = DeviceLoop.launch

    def counting(self: DeviceLoop, registers: torch.Tensor, reach: int) -> tuple:
        launched.append(reach)
        return launch(self, registers, reach)

    monkeypatch.setattr(DeviceLoop, "launch", counting)
    monkeypatch.setattr(ours.model, "append", None)
    lengths = set()
    for seed in range(20):
        launched.clear()
        made, alone = ours.generate(REQUEST, pictures(seed)), plain.generate(REQUEST, pictures(seed))
        assert made.columns == alone.columns
        assert made.passes == alone.passes
        assert launched == [256] * len(launched)  # one shape
        assert len(launched) * loop.CHUNK < made.passes + 2 * loop.CHUNK
        lengths.add(made.passes)
    assert len(lengths) >= 3


def test_limits(engines: tuple[Engine, Engine]) -> None:
    ours, plain = engines
    seed = next(s for s in range(100) if plain.generate(REQUEST, pictures(s)).passes > 8)
    whole = plain.generate(REQUEST, pictures(seed))
    for most in range(1, 9):
        cut = ours.generate(replace(REQUEST, max_new_tokens=most), pictures(seed))
        assert cut.columns == whole.columns[:most]
        assert cut.truncated
    for objects in (1, 2):
        request = replace(REQUEST, max_detections=objects)
        assert (
            ours.generate(request, pictures(seed)).columns == plain.generate(request, pictures(seed)).columns
        )
    late = ours.run([replace(REQUEST, deadline=time.monotonic())], [pictures(seed)])[0]
    assert (late.status, late.generated_tokens) == (Status.TRUNCATED, 1)
    in_time = ours.run([replace(REQUEST, deadline=time.monotonic() + 3600)], [pictures(seed)])[0]
    assert in_time.generated_tokens == len(whole.columns)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data(), name=st.sampled_from(["tiny", "tiled", "unbounded"]), jump=st.booleans())
def test_the_automaton_on_the_device_is_the_cursor(
    data: st.DataObject, name: str, jump: bool, request: pytest.FixtureRequest, read_tokens: Callable
) -> None:
    """Any logits, NaN and infinities too: the same columns in the same order, until the end."""
    tokens: Tokens = read_tokens(request.getfixturevalue(name))
    task = Task(
        data.draw(st.sampled_from(["detect", "dense_caption"])),
        tokens.checkpoint.vocabulary.classes or ("a",),
    )
    g = grammar.build(task, tokens)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    logits = rng.normal(0, 3, (200, len(g.tokens))).astype(np.float32)
    logits[:, : g.bins] += np.linspace(0, data.draw(st.floats(-9, 9)), g.bins, dtype=np.float32)
    logits[rng.random(logits.shape) < 0.02] = data.draw(st.sampled_from([np.inf, -np.inf, np.nan, 5]))
    most = data.draw(st.integers(1, 4))
    cursor, expected, given = Cursor(g, most), [], []
    for row in logits:
        if cursor.done:
            break
        if jump and (forced := cursor.forced()) >= 0 and expected:
            expected.append(forced)
            given.append(row)
        else:
            masked = np.where(cursor.allowed(), np.maximum(row, np.float32(-1e30)), -np.inf)
            expected.append(int(masked.argmax()))
            given.append(row)
        cursor.advance(expected[-1])

    # The first choice is the host's; each step then gets the logits of the place it has come to.
    found = expected[:1]
    start = Cursor(g, most)
    start.advance(found[0])
    device = DeviceLoop(
        g, lambda last: torch.from_numpy(given[len(found)])[None], _Nothing(), jump=jump, recorded=_plain
    )
    registers = torch.zeros(1, loop.LIMIT + 1 + device.longest, dtype=torch.long)
    registers[0, loop.COUNT], registers[0, loop.STATE], registers[0, loop.MOST] = (
        1,
        start.state,
        start.max_objects,
    )
    registers[0, loop.LEAST_X], registers[0, loop.LIMIT] = start.x_min, 1000
    while len(found) < len(expected):
        registers, columns, _ = device.step(registers, 256)
        found += [column for column in columns[0].tolist() if column >= 0]
        assert registers[0, loop.COUNT] == (columns >= 0).sum()
    assert found == expected
    assert (registers[0, loop.STATE] == grammar.DONE) == cursor.done


class _Nothing:
    """A decoder whose states nobody looks at."""

    embedding = torch.zeros(1, 1)
    fused = None

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*tokens.shape, 1)

    def __call__(self, x: torch.Tensor, places: torch.Tensor, reach: int) -> torch.Tensor:
        return x


def _plain(function: Callable) -> Graphs:
    return Graphs(function, CPU, None, on=False)


def test_recordings_by_shape() -> None:
    """A shape runs as it is, then on buffers of its own; what was given out stays as it was."""
    calls: list[torch.Tensor] = []

    def double(x: torch.Tensor, *, plus: int) -> torch.Tensor:
        calls.append(x)
        return 2 * x + plus

    graphs = Graphs(double, CPU, None, on=True)
    given = [torch.full((size,), float(i)) for i, size in enumerate((2, 2, 3, 2, 3, 3, 2))]
    made = [graphs(x, plus=1) for x in given]
    for x, y in zip(given, made, strict=True):
        torch.testing.assert_close(y, 2 * x + 1)
    eager = [i for i, x in enumerate(given) if calls[i] is x]
    assert eager == [0, 2]
    assert calls[1] is calls[3] is calls[6]
    assert calls[4] is calls[5]
    assert graphs(given[0], plus=2)[0] == 2
    graphs.clear()
    assert graphs(given[1], plus=1)[0] == 3
    assert calls[-1] is given[1]
