"""The forms of question that an Argus checkpoint is taught, and what is said to others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from argus_ros.core import checkpoint
from argus_ros.core.types import Task
from argus_ros.training.examples import draw_task
from argus_ros.training.scenes import Scene
from argus_ros.vlm.formats import prompts

NANO = checkpoint.read("argus-nano")


def test_every_question_that_is_taught_is_known() -> None:
    assert NANO.vocabulary
    rng, scene = np.random.default_rng(0), Scene(np.zeros((8, 8, 3), np.uint8), ())
    drawn = {
        task for task in (draw_task(rng, NANO.vocabulary, scene) for _ in range(400)) if task.name == "ask"
    }
    assert len(drawn) > 20
    for task in drawn:
        prompts.check_question(task, NANO)
        assert prompts.question(task.prompt) == task.prompt


@pytest.mark.parametrize("prompt", ["Is there an orange ball?", " is there a orange  ball ? "])
def test_a_question_has_the_spelling_of_training(prompt: str) -> None:
    """Else a question mark makes the last word one that the model does not know."""
    assert NANO.vocabulary
    prompts.check_question(Task("ask", prompt=prompt), NANO)
    taught = Task("ask", prompt="is there a orange ball")
    assert prompts.static_text(Task("ask", prompt=prompt), NANO.vocabulary) == prompts.static_text(
        taught, NANO.vocabulary
    )


@pytest.mark.parametrize(
    "prompt",
    [
        "is the door open?",
        "what is it",
        "how many unicorns are there",
        "is there a pink ball",
        "is there a",
        "how many",
    ],
)
def test_a_question_of_another_form_is_refused_with_those_there_are(prompt: str) -> None:
    with pytest.raises(prompts.TaskError) as refused:
        prompts.check_question(Task("ask", prompt=prompt), NANO)
    assert f"argus-nano was not trained on {prompt!r}" in str(refused.value)
    assert "'how many CLASSES are there' and 'is there a [COLOUR] CLASS'" in str(refused.value)
    assert "person, cone" in str(refused.value)
    open_model = replace(NANO, vocabulary=None)
    prompts.check_question(Task("ask", prompt=prompt), open_model)
