"""What is fastest is taken, remembered, and never a matter of what the answers are."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Task
from argus_ros.tools.evaluate import prepared
from argus_ros.vlm.decoding import choosing, loop
from argus_ros.vlm.decoding.choosing import SEVERAL, SWEEPS, TOKENS, Choices, Kept, name_of
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats import grammar
from argus_ros.vlm.models.fused import Tuning

SLOW, QUICK = Tuning(132, 4), Tuning(264, 2)


class Passes:
    """A device on a clock of its own, on which every pass takes as long as it is said to."""

    def __init__(self, times: dict[tuple[int, Tuning | None], float], broken: Tuning | None = None) -> None:
        self.times, self.broken = times, broken
        self.now, self.ran = 0.0, list[tuple[int, Tuning | None]]()

    def run(self, count: int, tuning: Tuning | None) -> Callable[[], object] | None:
        if tuning and tuning == self.broken:
            return None
        return lambda: self._pass(count, tuning)

    def _pass(self, count: int, tuning: Tuning | None) -> None:
        self.ran.append((count, tuning))
        self.now += self.times.get((count, tuning), 5.0 if tuning else 1.0)

    def timer(self, run: Callable[[], object]) -> float:
        before = self.now
        run()
        return self.now - before

    def choices(self, step: float = 0.0, ways: dict[str, float] | None = None) -> Choices:
        """``ways``: milliseconds of other ways by name."""
        tried = [SLOW, QUICK]
        named = {name: partial(self._way, ms) for name, ms in (ways or {}).items()}
        timings = choosing.measure(self.run, tried, self.timer, lambda: self.now, named)
        return Choices.of(timings, tried, step)

    def _way(self, ms: float) -> None:
        self.now += ms


def test_kernels_are_used_where_they_are_faster() -> None:
    """Each for itself: passes of one token, and of several."""
    made = Passes({(1, None): 2.0, (1, SLOW): 1.5, (1, QUICK): 1.2, (SEVERAL, SLOW): 3, (SEVERAL, QUICK): 4})
    found = made.choices()
    assert (found.one, found.several) == (QUICK, None)
    assert "kernels of 264 blocks, 2 warps, 256 places 1.20 ms, plain 2.00" in str(found)
    assert "a pass of several plain 1.00 ms" in str(found)


def test_an_equally_fast_setting_is_not_used() -> None:
    assert Passes({(1, None): 1.0, (1, QUICK): 0.99}).choices().one is None


def test_kernels_that_do_not_run_are_not_used() -> None:
    times = {(count, QUICK): 0.1 for count in TOKENS}
    found = Passes(times, broken=QUICK).choices()
    assert found.one is None
    assert found.several is None


def test_no_more_is_tried_than_there_is_time_for() -> None:
    made = Passes({(1, SLOW): 2 * choosing.ENOUGH})
    made.choices()
    assert (1, SLOW) in made.ran
    assert (1, QUICK) not in made.ran


def test_the_cost_of_a_draft() -> None:
    """In passes of one token: the first token of a draft 0.5 more than the 0.1 of each."""
    times = {(count, None): 2.0 + 1.0 * (count > 1) + 0.2 * (count - 1) for count in TOKENS}
    found = Passes({**times, (96, None): 3.0 + 32 * 0.4, (64, None): 3.0}).choices()
    assert (found.after.any, found.after.each) == pytest.approx((0.5, 0.1))
    assert (found.behind.any, found.behind.each) == pytest.approx((0.0, 0.2))


def test_a_draft_also_saves_the_work_around_a_pass() -> None:
    times = {(count, None): 2.0 + 1.0 * (count > 1) + 0.2 * (count - 1) for count in TOKENS}
    found = Passes({**times, (96, None): 3.0 + 32 * 0.4, (64, None): 3.0}).choices(step=4.0)
    assert (found.after.any, found.after.each, found.behind.each) == pytest.approx((0.25, 0.05, 0.1))


def test_a_moment_in_which_the_machine_is_busy_does_not_decide() -> None:
    made, quick = Passes({}), Passes({}).choices()
    busy = iter([100.0])  # for the first pass alone
    timer = made.timer
    made.timer = lambda run: timer(run) + next(busy, 0.0)  # type: ignore[method-assign]
    assert made.choices().timings == quick.timings


def test_a_busy_machine_makes_no_token_dearer_than_a_pass() -> None:
    found = Passes({(4, None): 900.0, (16, None): 5000.0, (96, None): 7000.0}).choices()
    for cost in (found.after, found.behind):
        assert 0 <= cost.any <= 1
        assert 0 <= cost.each <= 1


def test_jumping_has_to_pay(tiny: Path, read_tokens: Callable) -> None:
    tokens = read_tokens(tiny)
    words = tokens.checkpoint.vocabulary.classes
    boxes = grammar.build(Task("dense_caption", words), tokens)
    longest, share = loop.longest(boxes), choosing.forced_share(boxes)
    assert longest > 1
    assert 0 < share < 1
    for times, pays in ((1.0, True), (0.9 / (1 - share), True), (1.1 / (1 - share), False)):
        found = Passes({(count, None): times for count in TOKENS[1:]}).choices()
        assert found.pays_to_jump(boxes, longest) == pays


CHUNKED = {choosing.chunk_name(steps): 10.0 for steps in choosing.CHUNKS}


@pytest.mark.parametrize("steps", choosing.CHUNKS)
def test_the_fastest_chunk_is_taken(steps: int) -> None:
    found = Passes({}).choices(ways={**CHUNKED, choosing.chunk_name(steps): 8.0})
    assert found.chunk == steps
    assert f"chunks of {steps} 8.00 ms" in str(found)


@pytest.mark.parametrize(
    ("device", "host", "on_device"), [(1.0, 2.0, True), (2.0, 1.0, False), (1.0, 0.99, True)]
)
def test_a_frame_is_cut_where_that_is_faster(device: float, host: float, on_device: bool) -> None:
    found = Passes({}).choices(ways={choosing.ON_DEVICE: device, choosing.ON_HOST: host})
    assert found.on_device == on_device
    assert f"resize on the host {host:.2f} ms{', not taken' * on_device}" in str(found)


@pytest.mark.parametrize(
    ("plain", "kernels", "taken"), [(1.0, 2.0, False), (2.0, 1.0, True), (1.0, 0.99, False)]
)
def test_kernels_for_long_rows_are_taken_where_they_are_faster(
    plain: float, kernels: float, taken: bool
) -> None:
    """For prompts and for the vision encoder, each for itself."""
    for ways, others in ((choosing.PROMPTS, choosing.VISIONS), (choosing.VISIONS, choosing.PROMPTS)):
        times = dict(zip([*ways, *others], (plain, kernels, 1.0, 2.0), strict=True))
        found = Passes({}).choices(ways=times)
        expected = (taken, False) if ways == choosing.PROMPTS else (False, taken)
        assert (found.long_prompts, found.long_vision) == expected


def test_what_was_not_timed_stays_as_it_is() -> None:
    found = Passes({}).choices()
    assert (found.chunk, found.on_device) == (loop.CHUNK, True)
    assert "chunks" not in str(found)
    assert "resize" not in str(found)


@given(times=st.lists(st.floats(0.01, 100), min_size=10, max_size=10))
def test_no_choice_is_slower_than_the_way_without_it(times: list[float]) -> None:
    """By more than the margin of measurement."""
    names = [*CHUNKED, *choosing.RESIZES, *choosing.PROMPTS, *choosing.VISIONS]
    ways = dict(zip(names, times, strict=True))
    found = Passes({}).choices(ways=ways)
    most = 1 / (1 - choosing.MARGIN) + 1e-6
    assert ways[choosing.chunk_name(found.chunk)] <= most * min(ways[name] for name in CHUNKED)
    taken = choosing.ON_DEVICE if found.on_device else choosing.ON_HOST
    assert ways[taken] <= most * min(ways[name] for name in choosing.RESIZES)
    for names, kernels in ((choosing.PROMPTS, found.long_prompts), (choosing.VISIONS, found.long_vision)):
        assert ways[names[kernels]] <= most * min(ways[name] for name in names)


# --- kept -------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "cache" / "timings.json")


def timings(ms: float = 1.0) -> dict[str, float]:
    return {"prompt": ms, "longer prompt": ms, **{name_of(count, None): ms for count in TOKENS}}


def test_timings_are_remembered_by_their_key(kept: Kept) -> None:
    assert kept.get("a") is None
    kept.put("a", timings(1))
    kept.put("b", timings(2))
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (timings(1), timings(2), None)
    for index in range(choosing.KEPT):
        kept.put(str(index), timings())
    assert kept.get("b") is None
    assert [file.name for file in kept.file.parent.iterdir()] == ["timings.json"]


def test_an_entry_of_an_older_version_is_measured_again(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """One without the timings of a way that is chosen by now."""
    kept.put("key", timings())
    with caplog.at_level(logging.WARNING):
        assert kept.get("key", CHUNKED) is None
    (record,) = caplog.records
    assert "measured again" in record.getMessage()
    kept.put("key", {**timings(), **CHUNKED})
    assert kept.get("key", CHUNKED) == {**timings(), **CHUNKED}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"key": 3}', '{"key": {}}', "[" * 9999, "\udcff"),
        *(json.dumps({"key": timings(ms)}) for ms in (-1.0, math.nan, math.inf, 10**400)),
    ],
)
def test_a_broken_file_is_named_and_replaced(kept: Kept, text: str, caplog: pytest.LogCaptureFixture) -> None:
    kept.file.parent.mkdir()
    kept.file.write_bytes(text.encode(errors="surrogateescape"))
    with caplog.at_level(logging.WARNING):
        assert kept.get("key") is None
    (record,) = caplog.records
    assert str(kept.file) in record.getMessage()
    kept.put("key", timings())
    assert kept.get("key") == timings()


def test_a_file_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        Kept(tmp_path / "file" / "timings.json").put("key", timings())
    assert "cannot be saved" in caplog.text


def test_without_a_home_folder_no_timings_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ours = Kept.of_user()
    assert ours
    assert ours.file == tmp_path / "argus_ros" / "timings.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)  # whom no list of users has
    assert Kept.of_user() is None


# --- in the engine ----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["realtime", "realtime+device_loop", "realtime-compiled_step"])
def test_an_engine_chooses_once_and_answers_the_same(tiny: Path, kept: Kept, preset: str) -> None:
    engine = Engine(EngineConfig(str(tiny), device="cpu", preset=preset))
    model, ran = engine.model, list[object]()
    assert isinstance(model, NativeModel)
    request = FrameRequest(1, 0, 0, 0, 640, 480, Task("dense_caption"), max_new_tokens=30)
    picture = np.random.default_rng(3).integers(0, 256, (1, 64, 64, 3), np.uint8)
    before = engine.generate(request, picture)

    def timer(run: Callable[[], object]) -> float:
        run()
        ran.append(run)
        return 1.0 + len(ran)  # several tokens are dearer than one: no jumps

    assert model.choose(("tiny",), timer, kept)
    count = SWEEPS * (2 + len(TOKENS)) + len(choosing.CHUNKS) * ("+device_loop" in preset)
    assert len(ran) == count
    after = [engine.generate(request, picture) for _ in range(2)]
    assert not model.choose(("tiny",), timer, kept)
    assert model.choose(("another",), timer, kept)
    assert len(ran) == 2 * count
    after.append(engine.generate(request, picture))
    for made in after:
        assert made.columns == before.columns


@pytest.mark.parametrize("host", [0.5, 2.0])
def test_an_engine_takes_whole_frames_where_the_device_cuts_them_faster(tiny: Path, host: float) -> None:
    engine = Engine(EngineConfig(str(tiny), device="cpu", preset="realtime+device_resize+device_loop"))
    assert engine.info.whole_frames

    def timer(run: Callable[[], object]) -> float:
        run()
        return host if getattr(run, "args", None) == (False,) else 1.0

    engine.choose(timer=timer)
    assert engine.info.whole_frames == ("device_resize" in engine.info.recipes) == (host > 1)
    picture = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)
    request, pixels = prepared(engine, picture, Task("dense_caption"))
    assert any(request.frame) == (host > 1)
    (answer,) = engine.run([request], [pixels])
    assert answer.generated_tokens


def test_an_engine_that_cannot_be_timed_is_ready_all_the_same(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(EngineConfig(str(tiny), device="cpu"))

    def fail(_: object) -> float:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(choosing, "timer_of", lambda _: fail)
    with caplog.at_level(logging.WARNING):
        engine.warm_up()
    (record,) = caplog.records
    assert "could not be timed, the defaults are used: CUDA error" in record.getMessage()
    assert engine.info.frame_seconds > 0


def test_a_lack_of_memory_during_timing_is_reported(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(EngineConfig(str(tiny), device="cpu"))

    def fail(_: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(choosing, "timer_of", lambda _: fail)
    with pytest.raises(torch.OutOfMemoryError):
        engine.warm_up()
