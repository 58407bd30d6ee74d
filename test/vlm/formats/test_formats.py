"""Answer formats: what each family writes is read as it means it, and nothing else ever is."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from argus_ros.core.checkpoint import FORMATS
from argus_ros.core.types import STRUCTURED_TASKS, Task
from argus_ros.vlm import formats
from argus_ros.vlm.formats import answers, kosmos2
from argus_ros.vlm.formats.reading import Question, Sizes, read

SIZES = Sizes(640, 480, 1280, 960)
DETECT = Task("detect", ("cone", "traffic light"))
#: An answer of each family about the same two found, and what it means in pixels of 640 x 480.
SAID = {
    "internvl": (
        "<ref>cone</ref><box>[[250, 500, 500, 750], [0, 0, 1000, 1000]]</box> and "
        "<ref>a red traffic light</ref><box>[[100, 100, 200, 200]]</box>",
        [("cone", 160, 240, 320, 360), ("cone", 0, 0, 640, 480), ("traffic light", 64, 48, 128, 96)],
    ),
    "qwen2_vl": (
        "<|object_ref_start|>cone<|object_ref_end|><|box_start|>(250,500),(500,750)<|box_end|>",
        [("cone", 160, 240, 320, 360)],
    ),
    "qwen2_5_vl": (
        '```json\n[\n\t{"bbox_2d": [320, 480, 640, 720], "label": "Cone"},\n'
        '\t{"bbox_2d": [128, 96, 256, 192], "label": "traffic lights"}\n]\n```',
        [("cone", 160, 240, 320, 360), ("traffic light", 64, 48, 128, 96)],
    ),
    "qwen3_vl": (
        '[{"bbox_2d": [250, 500, 500, 750], "label": "orange cone"}]',
        [("cone", 160, 240, 320, 360)],
    ),
    "lfm2_5_vl": (
        '[{"label": "cone", "bbox": [0.25, 0.5, 0.5, 0.75]}]',
        [("cone", 160, 240, 320, 360)],
    ),
    "paligemma": (
        "<loc0512><loc0256><loc0768><loc0512> cone ; <loc0000><loc0000><loc1023><loc1023> traffic light",
        [("cone", 160, 240, 320, 360), ("traffic light", 0, 0, 639.375, 479.53125)],
    ),
    "florence2": (
        "cone<loc_249><loc_499><loc_499><loc_749>traffic light<loc_0><loc_0><loc_99><loc_99>",
        [("cone", 159.68, 239.76, 319.68, 359.76), ("traffic light", 0.32, 0.24, 63.68, 47.76)],
    ),
    "kosmos2": (
        "<phrase> cone</phrase><object><patch_index_0520><patch_index_0784>"
        "</delimiter_of_multi_objects/><patch_index_0000><patch_index_0001></object>",
        [("cone", 170, 247.5, 330, 367.5), ("cone", 0, 0, 40, 15)],
    ),
}


def parsed(name: str, text: str, task: Task = DETECT, subject: str = "") -> tuple[list[tuple], int]:
    reading = read(formats.of(name), task, Question("", subject), text, SIZES)
    return [(t.label, *t.box) for t in reading.found], reading.dropped


@pytest.mark.parametrize("name", SAID)
def test_answers_of_each_family_are_parsed(name: str) -> None:
    text, expected = SAID[name]
    found, dropped = parsed(name, text)
    assert dropped == 0
    assert [t[0] for t in found] == [t[0] for t in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[1:] == pytest.approx(theirs[1:])


@pytest.mark.parametrize("name", SAID)
def test_an_answer_cut_off_anywhere_is_read_as_far_as_it_goes(name: str) -> None:
    text = SAID[name][0]
    whole = parsed(name, text)[0]
    for end in range(len(text)):
        found, _ = parsed(name, text[:end], subject="")
        boxes = [t[1:] for t in whole]
        assert all(t[1:] in boxes for t in found), text[:end]


WRONG = {
    "internvl": [
        "[[1, 2, 3]]",
        "[[500, 0, 100, 10]]",
        "[[0, 0, 2000, 10]]",
        "[[5, 5, 5, 9]]",
        "[[1, 2, 3, 4, 5]]",
    ],
    "qwen2_vl": [
        "<|box_start|>(1,2),(3)<|box_end|>",
        "<|box_start|>(9,9),(1,1)<|box_end|>",
        "<|box_start|>1 2 3 4<|box_end|>",
        "<|box_start|>(1,2),(3,4)",
    ],
    "qwen2_5_vl": [
        '{"bbox_2d": [1, 2, 3], "label": "cone"}',
        '{"bbox_2d": ["1", 2, 3, 4], "label": "cone"}',
        '{"bbox_2d": [1, 2, 1e999, 4], "label": "cone"}',
        '{"label": "cone"}',
        '{"bbox_2d": [1, 2, 30, 40], "label": 7}',
        '{"bbox_2d": [1, 2, 30, 40]',
    ],
    "qwen3_vl": ['{"bbox_2d": [10, 20, 5000, 40], "label": "cone"}'],
    "lfm2_5_vl": [
        '{"label": "cone", "bbox": [0.1, 0.2, 0.1, 0.4]}',
        '{"label": "cone", "bbox": [NaN, 0, 1, 1]}',
    ],
    "paligemma": ["<loc0001><loc0002><loc0003>cone", "<loc0512><loc0512><loc0001><loc0600> cone"],
    "florence2": [
        "cone<loc_1><loc_2><loc_3>",
        "cone<loc_500><loc_2><loc_3><loc_4>",
        "cone<loc_0><loc_0><loc_0><loc_9>",
    ],
    "kosmos2": [
        "<object><patch_index_0100><patch_index_0003></object>",
        "<object><patch_index_0100></object>",
    ],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in WRONG.items() for text in texts])
def test_invalid_boxes_are_counted(name: str, text: str) -> None:
    assert parsed(name, text, subject="cone") == ([], 1)


def test_boxes_that_were_not_requested_are_counted() -> None:
    text = '[{"bbox_2d": [1, 2, 300, 400], "label": "dog"}, {"bbox_2d": [1, 2, 300, 400], "label": ""}]'
    assert parsed("qwen3_vl", text) == ([], 2)
    assert len(parsed("qwen3_vl", text, Task("dense_caption"))[0]) == 1


def test_duplicate_boxes_are_removed_and_rounded_ones_are_clipped() -> None:
    once = '{"bbox_2d": [-4, 0, 1005, 500], "label": "cone"}'
    assert parsed("qwen3_vl", f"[{once}, {once}]") == ([("cone", 0, 0, 640, 240)], 0)


SIGNS_OF_ALL = (
    "<ref> </ref> <box> </box> [[ ]] [ ] { } : ( ) , ; - 0.5 1e400 NaN cone [1,2,3,4] (1,2),(3,4) \u0663 "
    '"bbox_2d" "bbox" "label" "cone" <phrase> </phrase> <object> </object> </delimiter_of_multi_objects/> '
    "\x00 <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> 999999999999999999999999999999"
)
PIECES = st.sampled_from(SIGNS_OF_ALL.split()) | st.integers(0, 1100).flatmap(
    lambda n: st.sampled_from([f"<loc{n:04d}>", f"<loc_{n}>", f"<patch_index_{n:04d}>", str(n), " "])
)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@given(text=st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=200))
@example("{" * 5000)
@example('{"bbox": ' * 3000)
@example("[" * 9000)
@example("<object>" * 3000)
@example("<loc_1>" * 4000)
@example("1," * 16000)
def test_whatever_is_written_only_valid_boxes_in_the_picture_come_of_it(name: str, text: str) -> None:
    for subject in ("", "cone"):
        for task in (DETECT, Task("ground", prompt="cone"), Task("dense_caption")):
            for sizes in (SIZES, Sizes(1, 1)):
                reading = read(formats.of(name), task, Question("", subject), text, sizes)
                assert reading.dropped >= 0
                for item in reading.found:
                    x0, y0, x1, y1 = item.box
                    assert all(map(math.isfinite, item.box))
                    assert 0 <= x0 < x1 <= sizes.width
                    assert 0 <= y0 < y1 <= sizes.height
                    assert item.label
                    assert 0 <= item.span[0] < item.span[1] <= len(text)


@pytest.mark.parametrize("name", FORMATS)
def test_every_task_has_its_question(name: str) -> None:
    for task in FORMATS[name]:
        asked = Task(task, DETECT.classes, "the small dog")
        questions = formats.of(name).questions(asked)
        text = " ".join(q.text for q in questions)
        words = (
            DETECT.classes if task == "detect" else ("the small dog",) if task in ("ground", "ask") else ()
        )
        assert all(word in text for word in words)
    assert set(FORMATS[name]) <= {*STRUCTURED_TASKS, "caption", "ask"}


def test_a_score_is_the_mean_probability_of_its_tokens() -> None:
    pieces = ["no ", "<ref>cone</ref>", "<box>", "[[1,", " 2,", " 30,", " 40]", "]", "</box>"]
    probabilities = [0.1, 0.2, 0.3, 0.9, 0.4, 0.9, 0.4, 0.5, 0.6]
    text, ends = answers.spoken(range(len(pieces)), lambda ids: "".join(pieces[i] for i in ids))
    detections, dropped = answers.written(
        formats.of("internvl"), DETECT, Question(""), text, ends, probabilities, SIZES
    )
    assert dropped == 0
    assert detections[0].score == pytest.approx(float(np.exp(np.log([0.9, 0.4, 0.9, 0.4]).mean())))


class Known:
    """A tokenizer of signs and a few words, for constraints."""

    def __init__(self, signs: list[str]) -> None:
        self.all = [*signs, "<eos>", " cone", " traffic", " light", " ;", " a", " b"]
        self.ends = (self.all.index("<eos>"),)
        self.words = tuple(range(self.ends[0] + 1, len(self.all)))
        self.token = {sign: i for i, sign in enumerate(self.all)}.__getitem__

    def encode(self, text: str) -> list[int]:
        return [self.all.index(f" {word}") for word in text.split()]


SIGNS = {
    "paligemma": [f"<loc{i:04d}>" for i in range(1024)],
    "florence2": [f"<loc_{i}>" for i in range(1000)],
    "kosmos2": [*(f"<patch_index_{i:04d}>" for i in range(1024)), "<object>", kosmos2.MORE, "</object>"],
}


def sampled(rng: np.random.Generator, logits: np.ndarray, temperature: float = 2.0) -> int:
    """A column drawn by logits (columns,); never one with -inf."""
    return int((logits / temperature + rng.gumbel(size=len(logits))).argmax())


#: Number of answers sampled per format at temperature 2, in the quick and in the slow test.
FEW, MANY = 300, 10_000


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SIGNS)
def test_whatever_is_chosen_under_an_automaton_parses(name: str, count: int) -> None:
    """Random logits at temperature 2: every complete answer is valid boxes, none of them dropped."""
    words, rng, format = Known(SIGNS[name]), np.random.default_rng(0), formats.of(name)
    counts = set()
    for _ in range(count):
        task = DETECT if rng.random() < 0.7 else Task("ground", prompt="a b")
        question = format.questions(task)[0]
        most = int(rng.integers(1, 5))
        constraint = format.constraint(task, words, most)
        assert constraint is not None
        said: list[int] = []
        while not constraint.done:
            allowed = constraint.allowed()
            assert allowed.any()
            column = sampled(rng, np.where(allowed, rng.standard_normal(len(allowed)), -np.inf))
            assert constraint.column[int(constraint.tokens[column])] == column
            said.append(int(constraint.tokens[column]))
            constraint.advance(column)
            assert len(said) < 200
        text = "".join(words.all[i] for i in said if i not in words.ends)
        reading = read(format, task, question, text, SIZES)
        assert reading.dropped == 0, text
        assert len(reading.found) <= most
        counts.add(len(reading.found))
    assert len(counts) > 1


#: What the answers of the formats that are text are made of, beside digits and what is asked for.
PIECES_OF = {
    "internvl": ["<ref>cone</ref>", "<ref>", "</ref>", "<box>", "</box>", "[[", "]]", "[", "]", ", ", "."],
    "qwen2_vl": [
        "<|object_ref_start|>",
        "<|object_ref_end|>",
        "<|box_start|>",
        "<|box_end|>",
        "(",
        "),(",
        ")",
        ",",
    ],
    "qwen2_5_vl": ['{"bbox_2d": [', '], "label": "', '"}', "[", "]", ", ", '"', "```json\n", "}", "-", "."],
    "qwen3_vl": ['{"bbox_2d": [', '], "label": "', '"}', "[", "]", ", ", '"', "}", "-", "."],
    "lfm2_5_vl": ['{"label": "', '", "bbox": [', "]}", "[", "]", ", ", "0.", "1.0", "-", '"', "}"],
}


def scrambled(text: str, pieces: list[str], rng: np.random.Generator) -> str:
    """A right answer in which some places are other numbers, and some characters other pieces."""
    text = (
        re.sub(r"\d+", lambda n: str(rng.integers(0, 10 ** len(n[0]))), text) if rng.random() < 0.7 else text
    )
    rate = rng.choice([0.0, 0.02, 0.1])
    return "".join(pieces[rng.integers(len(pieces))] if rng.random() < rate else letter for letter in text)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PIECES_OF)
def test_whatever_is_written_as_text_gives_only_boxes_in_the_picture(name: str, count: int) -> None:
    """Half of the answers by random logits at temperature 2, by pieces; half right ones, scrambled."""
    rng, format, kept, dropped = np.random.default_rng(0), formats.of(name), 0, 0
    pieces = [*PIECES_OF[name], "cone", "traffic light", " ", *map(str, range(10)), "25", "500", "<end>"]
    for turn in range(count):
        if turn % 2:
            logits = rng.normal(0, 6, (len(pieces), len(pieces)))
            said = [0]
            while len(said) < 120 and pieces[said[-1]] != "<end>":
                said.append(sampled(rng, logits[said[-1]]))
            text = "".join(pieces[i] for i in said)
        else:
            text = scrambled(SAID[name][0], pieces, rng)
        width, height = int(rng.integers(1, 4000)), int(rng.integers(1, 4000))
        reading = read(format, DETECT, Question("", "cone"), text, Sizes(width, height, 1280, 960))
        for item in reading.found:
            x0, y0, x1, y1 = item.box
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
        kept, dropped = kept + len(reading.found), dropped + reading.dropped
    assert kept > count // 20
    assert dropped > count // 20
