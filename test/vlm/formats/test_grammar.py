"""Whatever is decoded under the grammar parses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from argus_ros.core.types import Task
from argus_ros.vlm.decoding.generation import FLOOR
from argus_ros.vlm.decoding.reference import GrammarProcessor
from argus_ros.vlm.formats import answers, grammar
from argus_ros.vlm.formats.grammar import Cursor, Grammar
from argus_ros.vlm.formats.prompts import TaskError
from argus_ros.vlm.formats.tokens import Tokens

TASKS = {
    "some": Task("detect", ("cone", "traffic light", "traffic")),
    "one": Task("detect", ("traffic light",)),
    "all": Task("detect"),
    "ground": Task("ground", prompt="the Dark cone"),
    "describe": Task("dense_caption"),
}


@pytest.fixture(scope="module")
def tokens(tiled: Path, read_tokens: Callable[[Path], Tokens]) -> Tokens:
    return read_tokens(tiled)


@pytest.fixture(scope="module")
def grammars(tokens: Tokens) -> dict[str, Grammar]:
    return {name: grammar.build(task, tokens) for name, task in TASKS.items()}


@pytest.fixture(scope="module")
def open_tokens(unbounded: Path, read_tokens: Callable[[Path], Tokens]) -> Tokens:
    return read_tokens(unbounded)


def decode(g: Grammar, logits: np.ndarray, max_objects: int = 0) -> tuple[list[int], np.ndarray, bool]:
    """Greedy decoding of given logits (steps, columns): columns, masked logits, whether it ended."""
    cursor, columns = Cursor(g, max_objects), []
    rows = np.empty_like(logits)
    for row in logits:
        allowed = cursor.allowed()
        assert allowed.any()
        assert (cursor.forced() >= 0) == (allowed.sum() == 1)
        rows[len(columns)] = np.where(allowed, row, -np.inf)
        columns.append(int(rows[len(columns)].argmax()))
        assert allowed[columns[-1]]
        assert cursor.forced() in (-1, columns[-1])
        cursor.advance(columns[-1])
        if cursor.done:
            break
    return columns, rows[: len(columns)], cursor.done


def random_logits(g: Grammar, seed: int, steps: int, hostile: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 10 ** rng.uniform(-2, 2), (steps, len(g.tokens))).astype(np.float32)
    logits[:, g.bins : g.bins + g.ends] += rng.normal(0, 5)  # endings early, late, or never
    if hostile:
        logits[rng.random(logits.shape) < 0.3] = np.nan
        logits[rng.random(logits.shape) < 0.3] = np.inf
    return np.maximum(logits, FLOOR)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    name=st.sampled_from([*TASKS, "open"]),
    limit=st.integers(0, 9),
    hostile=st.booleans(),
    cut=st.integers(1, 200),
)
def test_every_answer_parses(
    tokens: Tokens,
    open_tokens: Tokens,
    grammars: dict[str, Grammar],
    seed: int,
    name: str,
    limit: int,
    hostile: bool,
    cut: int,
) -> None:
    g = grammar.build(TASKS["describe"], open_tokens) if name == "open" else grammars[name]
    most = g.longest(max_objects=limit)
    columns, rows, done = decode(g, random_logits(g, seed, most, hostile), limit)
    assert done, "the longest answer is longer than the grammar says"
    check(g, columns, rows, open_tokens if name == "open" else tokens, limit)
    check(g, columns[:cut], rows[:cut], open_tokens if name == "open" else tokens, limit)


def check(g: Grammar, columns: list[int], rows: np.ndarray, tokens: Tokens, limit: int) -> None:
    found = answers.detections(g, columns, rows, tokens, 1.3, (640, 480))
    assert len(found) <= len(grammar.objects(g, columns)) <= min(limit or g.max_objects, g.max_objects)
    assert len(set(found)) == len(found)
    for d in found:
        assert d.label
        assert 0 <= d.x_min < d.x_max <= 640
        assert 0 <= d.y_min < d.y_max <= 480
        assert 0 <= d.score <= 1


def test_labels_are_the_requested_ones(grammars: dict[str, Grammar]) -> None:
    classes = {"traffic light", "traffic cone", "traffic", "light", "cone"}
    expected = {
        "some": {"cone", "traffic light", "traffic"},
        "one": {"traffic light"},
        "all": classes,
        "ground": {"the Dark cone"},
        "describe": classes | {f"{c} {k}" for c in ("light", "dark blue") for k in classes},
    }
    for name, g in grammars.items():
        assert g.labels is not None
        assert {description or label for label, description in g.labels.values()} == expected[name]
        for words in g.labels:
            cursor = Cursor(g)
            for column in [*(g.column[token] for token in words), 2, 3, 4, 5]:
                assert cursor.allowed()[column]
                cursor.advance(column)
            assert cursor.objects == 1


def test_equal_remainders_are_one_state(grammars: dict[str, Grammar]) -> None:
    """Classes behind a colour cost no states of their own for each colour."""
    assert len(grammars["describe"].allowed) <= len(grammars["all"].allowed) + 6


def test_truncated_answers_keep_whole_objects(tokens: Tokens, grammars: dict[str, Grammar]) -> None:
    g = grammars["some"]
    columns, _, _ = decode(g, random_logits(g, 3, g.longest(), False))
    whole = grammar.objects(g, columns)
    assert len(whole) > 2
    for cut in range(len(columns)):
        kept = grammar.objects(g, columns[:cut])
        assert kept == [o for o in whole if o.start + len(o.words) + 4 <= cut]


def test_scores(tokens: Tokens, grammars: dict[str, Grammar]) -> None:
    """Sure words and bins score 1; a coordinate spread over neighbouring bins is as good, a flat one not."""
    g = grammars["one"]
    columns = [g.column[t] for t in tokens.encode("traffic light")] + [3, 4, 9, 12]
    rows = np.full((6, len(g.tokens)), -50, np.float32)
    rows[range(6), columns] = 50
    assert answers.detections(g, columns, rows, tokens, 1.0, (1, 1))[0].score == pytest.approx(1)
    rows[2, 1:6] = 50
    rows[2, 3] += 1e-3
    assert answers.detections(g, columns, rows, tokens, 1.0, (1, 1))[0].score == pytest.approx(1, abs=1e-3)
    rows[2, :16] = 50
    expected = (5 / 16) ** 0.25
    assert answers.detections(g, columns, rows, tokens, 1.0, (1, 1))[0].score == pytest.approx(
        expected, rel=1e-3
    )
    rows[0, g.bins] = 50  # the end was as likely as the object
    assert answers.detections(g, columns, rows, tokens, 1.0, (1, 1))[0].score == pytest.approx(
        expected / 2, rel=1e-3
    )


def test_logits_processor_is_the_same_grammar(grammars: dict[str, Grammar]) -> None:
    g = grammars["describe"]
    size = int(g.tokens.max()) + 9
    logits = torch.from_numpy(np.random.default_rng(5).normal(0, 3, (g.longest(), size)).astype(np.float32))
    columns, rows, _ = decode(g, logits[:, torch.from_numpy(g.tokens)].numpy())
    processor, ids = GrammarProcessor(g, 0, 2), [0, 0]
    for row, expected in zip(logits, rows, strict=False):
        masked = processor(torch.tensor([ids]), row[None])[0]
        assert torch.equal(masked[torch.from_numpy(g.tokens)], torch.from_numpy(expected))
        ids.append(int(masked.argmax()))
    assert ids[2:] == [int(g.tokens[c]) for c in columns]


def test_free_text_has_no_location_tokens(tokens: Tokens) -> None:
    g = grammar.build(Task("caption"), tokens)
    assert not set(tokens.locations) & set(g.tokens.tolist())
    assert tokens.image not in g.tokens
    assert g.longest(7) == 7


@pytest.mark.parametrize("label", ["zeppelin", "<loc_003>", " "])
def test_a_label_without_words_is_refused(open_tokens: Tokens, label: str) -> None:
    with pytest.raises(TaskError, match="no words for"):
        grammar.build(Task("detect", (label,)), open_tokens)
