"""Drafts save passes where they are good, and change no token whatever they say."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argus_ros.core.image import Pixels
from argus_ros.core.preparation import scale
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Task
from argus_ros.training.scenes.film import Walk, film
from argus_ros.vlm.decoding import drafts
from argus_ros.vlm.decoding.drafts import Draft, Memories, Memory, PassCost
from argus_ros.vlm.decoding.generation import Generated, Limits
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats import grammar
from argus_ros.vlm.formats.grammar import Grammar
from argus_ros.vlm.formats.tokens import Tokens

TIE = 1e-4
FREE = PassCost(0, 0)
SPEEDS = {"still": 0.0, "slow": 0.7, "fast": 1.4}
REQUEST = FrameRequest(1, 0, 0, 0, 640, 480, Task("detect"), camera="front")

Seen = tuple[str, tuple[int, int, int, int]]


@pytest.fixture(scope="module")
def tokens(tiny: Path, read_tokens: Callable[[Path], Tokens]) -> Tokens:
    return read_tokens(tiny)


@pytest.fixture(scope="module")
def detect(tokens: Tokens) -> Grammar:
    return grammar.build(Task("detect"), tokens)


def answer(g: Grammar, tokens: Tokens, *objects: Seen) -> list[int]:
    """Columns of an answer."""
    columns = []
    for label, box in objects:
        columns += [*(g.column[token] for token in tokens.encode(label)), *box]
    return [*columns, g.bins]


def passes(memory: Memory, g: Grammar, columns: list[int], moment: float | None = None) -> int:
    """Show a memory an answer; passes that it would have taken after the one of the prompt."""
    draft, count = memory.draft(g, moment), 0
    while True:
        guess, left = draft.propose(100, FREE), columns[len(draft.columns) :]
        right = next((i for i, (a, b) in enumerate(zip(guess, left, strict=False)) if a != b), len(guess))
        draft.follow(left[: right + 1])
        if len(draft.columns) == len(columns):
            memory.learn(draft, truncated=False)
            return count
        count += 1


CONE, BALL, BOX = ("cone", (10, 10, 60, 60)), ("ball", (70, 20, 90, 40)), ("box", (100, 100, 110, 110))


def test_a_still_scene_takes_no_pass(detect: Grammar, tokens: Tokens) -> None:
    memory, columns = Memory(), answer(detect, tokens, CONE, BALL, BOX)
    assert passes(memory, detect, columns) > 10
    assert [passes(memory, detect, columns) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("moments", [None, (0.0, 0.1, 0.3, 0.35, 0.65)])
def test_constant_motion_is_predicted(
    detect: Grammar, tokens: Tokens, moments: tuple[float, ...] | None
) -> None:
    """By counting pictures, and by when they were taken."""
    memory = Memory()
    for i, moment in enumerate(moments or [None] * 5):
        step = i if moment is None else round(moment * 20)
        cone = ("cone", (10 + 2 * step, 30, 40 + 2 * step, 60))
        ball = ("ball", (100 - 3 * step, 10, 110 - 3 * step, 20))
        taken = passes(memory, detect, answer(detect, tokens, cone, ball), moment)
        assert i < 2 or taken == 0


def test_drafting_continues_after_a_different_choice(detect: Grammar, tokens: Tokens) -> None:
    first = answer(detect, tokens, CONE, BALL, BOX)
    changes = {
        "gone": [CONE, BOX],
        "new": [CONE, ("box", (0, 70, 30, 90)), BALL, BOX],
        "shifted": [("cone", (13, 12, 63, 62)), BALL, BOX],
        "renamed": [CONE, ("cone", (70, 20, 90, 40)), BOX],
    }
    taken = {}
    for name, objects in changes.items():
        memory = Memory()
        passes(memory, detect, first)
        taken[name] = passes(memory, detect, answer(detect, tokens, *objects))
    assert taken == {"gone": 1, "new": 5, "shifted": 4, "renamed": 1}, "a pass for each token that is news"


def test_the_label_of_a_further_object_is_drafted_where_it_is_nearly_free(
    detect: Grammar, tokens: Tokens
) -> None:
    """The most frequent one of the answer, after its last known object or after a box from the head."""
    draft = Draft(detect, (), (), drafts.first_chances())
    columns = answer(detect, tokens, CONE, BALL, BALL, ("box", (0, 70, 30, 90)))[:-1]
    cone, ball = columns[0], columns[5]
    draft.follow(columns[:5])
    assert draft.propose(100, PassCost(0, 0.003)) == [cone]
    assert draft.propose(100, PassCost(0.2, 0.15)) == []
    draft.follow(columns[5:-3])
    assert draft.propose(100, FREE) == [], "the box of a new object is not known"
    draft.add_box([0, 70, 30, 90])
    assert draft.propose(100, FREE) == [70, 30, 90, ball]
    draft.follow([70, 30, 90, ball])
    assert draft.accepted == 4


def test_no_draft_contains_the_end(detect: Grammar, tokens: Tokens) -> None:
    """It is chosen by the pass that runs the token before it, so drafting it saves nothing."""
    text = grammar.build(Task("ask", prompt="how many"), tokens)
    for g, columns in ((detect, answer(detect, tokens, CONE, BALL)), (text, [5, 6, 7, 0])):
        memory = Memory()
        passes(memory, g, columns)
        draft = memory.draft(g, None)
        guess = draft.propose(100, FREE)
        assert guess[: len(columns) - 1] == columns[:-1]
        assert all(not g.bins <= column < g.bins + g.ends for column in guess)
        assert passes(memory, g, columns) == 0


def test_a_truncated_answer_keeps_the_other_objects(detect: Grammar, tokens: Tokens) -> None:
    memory, columns = Memory(), answer(detect, tokens, CONE, BALL, BOX)
    passes(memory, detect, columns)
    draft = memory.draft(detect, None)
    draft.follow(columns[:7])
    memory.learn(draft, truncated=True)
    assert passes(memory, detect, columns) == 0


def test_free_text_is_proposed_while_it_is_the_same(tokens: Tokens) -> None:
    g, memory = grammar.build(Task("ask", prompt="how many"), tokens), Memory()
    assert passes(memory, g, [5, 6, 7, 8, 0]) == 4
    assert passes(memory, g, [5, 6, 7, 8, 0]) == 0
    assert passes(memory, g, [5, 6, 9, 8, 0]) == 2


def test_bad_guesses_are_given_up_where_they_cost(detect: Grammar, tokens: Tokens) -> None:
    memory, rng = Memory(), np.random.default_rng(0)
    for _ in range(40):
        low, high = np.sort(rng.integers(0, 100, (2, 2)), axis=0)
        passes(memory, detect, answer(detect, tokens, ("cone", (*low, *(high + 10)))))
    draft = memory.draft(detect, None)
    draft.follow(draft.propose(1, FREE))
    assert draft.propose(100, PassCost(1.0, 0.08)) == []
    assert len(draft.propose(100, FREE)) == 5


def test_memories_are_few_and_forget(detect: Grammar) -> None:
    memories = Memories()
    front = memories.of("front", "cones")
    assert memories.of("front", "cones") is front
    assert memories.of("rear", "cones") is not front
    assert memories.of("front", "balls") is not front
    assert memories.of("front", "cones") is not front
    for i in range(1000):
        memories.of(str(i), "cones")
    assert len(memories) == drafts.CAMERAS
    last = memories.of("999", "cones")
    last.draft(detect, 10.0)
    assert memories.of("999", "cones", 10.0 + drafts.PAUSE) is last
    assert memories.of("999", "cones", 10.1 + drafts.PAUSE) is not last
    front = memories.of("front", "cones")
    front.draft(detect, 10.0)
    assert memories.of("front", "cones", 9.9) is not front, "a bag that starts again"


@settings(max_examples=50, deadline=None)
@given(moments=st.lists(st.floats(-1e9, 1e9) | st.none(), min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_no_answer_and_no_clock_breaks_a_memory(
    detect: Grammar, tokens: Tokens, moments: list[float | None], seed: int
) -> None:
    memory, rng = Memory(), np.random.default_rng(seed)
    for moment in moments:
        low, high = np.sort(rng.integers(0, 127, (2, 2)), axis=0)
        box = (int(low[0]), int(low[1]), int(high[0]) + 1, int(high[1]) + 1)
        draft = memory.draft(detect, moment)
        cursor = grammar.Cursor(detect)
        for column in draft.propose(100, FREE):
            assert cursor.allowed()[column]
            cursor.advance(column)
        draft.follow(answer(detect, tokens, ("cone", box)))
        memory.learn(draft, bool(rng.integers(2)))


# --- with a model -----------------------------------------------------------------------------------


def assert_same(ours: Generated, plain: Generated) -> None:
    """Equal columns; after a tie either is right."""
    for step, (a, b) in enumerate(zip(ours.columns, plain.columns, strict=False)):
        if a != b:
            second, first = np.sort(plain.logits[step])[-2:]
            print(f"step {step}: {a} or {b}, {first - second:.1e} apart")
            assert first - second <= TIE
            return
    assert len(ours.columns) == len(plain.columns)
    choice = np.isfinite(plain.logits).sum(1) > 1
    np.testing.assert_allclose(ours.logits[choice], plain.logits[choice], atol=2e-3, rtol=1e-3)
    assert ours.truncated == plain.truncated


class Scripted(Draft):
    """Proposes what it was given, whatever the answer is."""

    def __init__(self, columns: list[list[int]]) -> None:
        self.script, self.drafted, self.accepted = iter(columns), 0, 0

    def propose(self, room: int, cost: PassCost) -> list[int]:
        return next(self.script, [])[: max(room, 0)]

    def follow(self, columns: object) -> None:
        pass


@pytest.fixture(scope="module", params=["realtime", "realtime-compiled_step", "realtime+device_loop"])
def either(request: pytest.FixtureRequest, tiny: Path) -> Engine:
    """Passes in numpy, in torch, and in torch with static shapes and choices on the device."""
    return Engine(EngineConfig(str(tiny), device="cpu", dtype="float32", preset=request.param))


def blocks(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (1, 4, 4, 3), np.uint8)
    return coarse.repeat(16, 1).repeat(16, 2)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    seed=st.integers(0, 30),
    limits=st.tuples(st.integers(0, 30), st.integers(0, 4)),
    task=st.sampled_from([Task("detect"), Task("dense_caption"), Task("ask", prompt="how many")]),
)
def test_no_draft_changes_a_token(
    either: Engine, data: st.DataObject, seed: int, limits: tuple[int, int], task: Task
) -> None:
    """Drafts that are wrong, empty, right for a while, too long, or another task's."""
    request = replace(REQUEST, camera="", task=task, max_new_tokens=limits[0], max_detections=limits[1])
    plain = either.generate(request, blocks(seed))
    prompt, g = either.prompt_and_grammar(request)
    column = st.integers(0, len(g.tokens) - 1)
    start = data.draw(st.integers(0, len(plain.columns)))
    script = data.draw(st.lists(st.lists(column, max_size=40), max_size=5))
    wanted = Limits(either.token_limit(request, g), request.max_detections)
    draft = Scripted([plain.columns[:start] + (script[0] if script else []), *script])
    assert_same(either.model.generate(prompt, g, blocks(seed), wanted, draft), plain)


def test_right_drafts_save_passes(either: Engine) -> None:
    for seed in range(5):
        request = replace(REQUEST, camera=f"camera {seed}")
        first, *again = (either.generate(request, blocks(seed)) for _ in range(10))
        for made in again:
            assert_same(made, first)
            assert made.passes <= first.passes / 4
        assert again[-1].passes == 0  # by now it is trusted
        assert again[-1].accepted >= len(first.columns) - 1


def test_limits_with_drafts(either: Engine) -> None:
    """A deadline that has passed cuts an answer to a prefix; the next one is whole again."""
    request = replace(REQUEST, camera="hurried")
    whole = either.generate(replace(request, camera=""), blocks(3))
    for _ in range(2):
        late = either.generate(replace(request, deadline=time.monotonic()), blocks(3))
        assert late.columns == whole.columns[: len(late.columns)]
        for most in (1, 2, 6, 100):
            cut = either.generate(replace(request, max_new_tokens=most), blocks(3))
            assert cut.columns == whole.columns[:most]
            assert cut.truncated == (most < len(whole.columns))
        assert_same(either.generate(request, blocks(3)), whole)


@cache
def frames(speed: float, side: int, count: int) -> list[np.ndarray]:
    """A film as the engine's tiles."""
    shots = film(Walk(seed=3, seconds=count / 15, speed=speed))
    return [scale(Pixels(shot.image, None), side, side)[None] for shot in shots]


def compare_films(engine: Engine, count: int) -> dict[str, tuple[int, int]]:
    """Passes with and without drafts of each film, whose tokens are the same."""
    taken = {}
    for name, speed in SPEEDS.items():
        with_drafts = without = 0
        for tiles in frames(speed, engine.info.tile, count):
            plain = engine.generate(replace(REQUEST, camera=""), tiles)
            ours = engine.generate(replace(REQUEST, camera=name), tiles)
            assert_same(ours, plain)
            with_drafts, without = with_drafts + ours.passes, without + plain.passes
        taken[name] = with_drafts, without
    return taken


@pytest.mark.slow
def test_films_of_a_blank_model(either: Engine) -> None:
    compare_films(either, 20)


@pytest.mark.slow
def test_films_of_argus_nano() -> None:
    engine = Engine(EngineConfig("argus-nano", device="cpu", dtype="float32"))
    taken = compare_films(engine, 60)
    print(taken)
    assert taken["still"][0] * 2 < taken["still"][1]
    assert taken["slow"][0] * 1.5 < taken["slow"][1]
