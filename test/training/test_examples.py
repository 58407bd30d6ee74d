"""Examples say in tokens what the engine will ask and read."""

from functools import cache

import numpy as np
import pytest
from transformers import AutoProcessor, PreTrainedTokenizerFast

from argus_ros.core import checkpoint
from argus_ros.core.types import Task
from argus_ros.training.examples import Example, Examples, answer_to, draw_task
from argus_ros.training.scenes import Scene, SceneObject
from argus_ros.vlm.formats import prompts
from argus_ros.vlm.models import blank

CLASSES = ("cone", "ball", "box")
SCENE = Scene(
    np.full((60, 80, 3), 128, np.uint8),
    (
        SceneObject("box", "red", (0.0, 0.0, 40.0, 30.0)),
        SceneObject("cone", "blue", (10.0, 30.0, 30.0, 60.0)),
        SceneObject("box", "green", (79.9, 59.9, 80.0, 60.0)),
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(blank.write_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def examples(folder: str) -> Examples:
    read = checkpoint.read(folder)
    assert read.vocabulary is not None
    tokenizer = tokenizer_of(folder)
    return Examples(tokenizer, read.vocabulary, read.tiling.tile, read.tiling.tokens_per_tile)


@cache
def tokenizer_of(folder: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(folder)


def words(example: Example, folder: str) -> str:
    return tokenizer_of(folder).decode(example.tokens[example.answer_start :])


@pytest.mark.parametrize(
    "task",
    [
        Task("detect", CLASSES),
        Task("detect", ("ball",)),
        Task("dense_caption"),
        Task("ask", prompt="how many cones are there"),
    ],
)
def test_the_prompt_is_the_stock_processors(task: Task, examples: Examples, folder: str) -> None:
    example = examples.make(SCENE, task)
    vocabulary = checkpoint.read(folder).vocabulary
    assert vocabulary is not None
    processor = AutoProcessor.from_pretrained(folder)
    stock = processor(text=prompts.full_text(task, vocabulary), images=[SCENE.image], return_tensors="np")
    assert example.tokens[: example.answer_start].tolist() == stock["input_ids"][0].tolist()


def test_an_answer_names_and_places_what_was_asked(examples: Examples, folder: str) -> None:
    everything = words(examples.make(SCENE, Task("detect", CLASSES)), folder).split()
    assert everything[:5] == ["box", "<loc_000>", "<loc_000>", "<loc_064>", "<loc_064>"]
    assert everything[5:10] == ["cone", "<loc_016>", "<loc_064>", "<loc_048>", "<loc_127>"]
    assert words(examples.make(SCENE, Task("detect", ("ball",))), folder) == prompts.END
    captions = words(examples.make(SCENE, Task("dense_caption")), folder)
    assert captions.startswith("red box <loc_000>")


def test_the_smallest_object_has_a_box_that_the_grammar_allows(examples: Examples, folder: str) -> None:
    tokens = words(examples.make(SCENE, Task("detect", CLASSES)), folder).split()
    assert tokens[10:15] == ["box", "<loc_126>", "<loc_126>", "<loc_127>", "<loc_127>"]


def test_positions_stand_at_the_location_tokens(examples: Examples) -> None:
    example = examples.make(SCENE, Task("detect", CLASSES))
    places = example.position >= 0
    assert places.sum() == 12
    first = example.tokens[places] - example.position[places]
    assert np.ptp(first) <= 1.0  # token minus exact bin: one base, up to rounding


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("how many boxes are there", "2"),
        ("how many balls are there", "0"),
        ("is there a blue cone", "yes"),
        ("is there a red cone", "no"),
        ("is there a cone?", "yes"),
    ],
)
def test_questions_are_answered_from_the_truth(question: str, answer: str) -> None:
    assert answer_to(question, SCENE.objects) == answer


def test_tasks_drawn_can_be_asked(folder: str, examples: Examples) -> None:
    read = checkpoint.read(folder)
    assert read.vocabulary is not None
    rng = np.random.default_rng(0)
    tasks = [draw_task(rng, read.vocabulary, SCENE) for _ in range(200)]
    assert {t.name for t in tasks} == {"detect", "dense_caption", "ask"}
    for task in tasks:
        prompts.check(task, read)
        assert "<unk>" not in words(examples.make(SCENE, task), folder)
