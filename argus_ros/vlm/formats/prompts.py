"""The fixed words of an Argus checkpoint's prompts and answers.

All static text is before the image, so that its keys and values can be kept
(recipe ``prefix_kv``)::

    <|im_start|>detect cone ball<image><answer>cone<loc_012><loc_030><loc_050><loc_090>…<end_of_utterance>
"""

from __future__ import annotations

import re

from argus_ros.core.checkpoint import UNASKED, Checkpoint, Vocabulary
from argus_ros.core.types import TASKS, Task

BEGIN = "<|im_start|>"
IMAGE = "<image>"
ANSWER = "<answer>"
END = "<end_of_utterance>"

_VERBS = {
    "detect": "detect",
    "ground": "ground",
    "dense_caption": "describe",
    "caption": "caption",
    "ask": "ask",
}


class TaskError(ValueError):
    """This checkpoint cannot do the task; the message lists what it can do."""


def location_token(index: int) -> str:
    return f"<loc_{index:03d}>"


#: Maximum number of characters of prompt and classes together, and of classes; checked first.
MOST_TEXT, MOST_CLASSES = 4096, 512


def check(task: Task, checkpoint: Checkpoint) -> None:
    """Raise TaskError unless the checkpoint can do ``task``."""
    if (length := sum(map(len, (task.prompt, *task.classes)))) > MOST_TEXT or len(
        task.classes
    ) > MOST_CLASSES:
        raise TaskError(
            f"the task has {length} characters of text and {len(task.classes)} classes; {MOST_TEXT} and "
            f"{MOST_CLASSES} are the limits"
        )
    if task.name not in TASKS:
        raise TaskError(f"unknown task {task.name!r}; tasks are {', '.join(TASKS)}")
    if task.name not in checkpoint.tasks:
        raise TaskError(f"{checkpoint.name} cannot do {task.name!r}; it can do {', '.join(checkpoint.tasks)}")
    if task.name in ("ground", "ask") and not task.prompt.strip():
        raise TaskError(f"task {task.name!r} needs a prompt, which is empty")
    known = checkpoint.vocabulary.classes if checkpoint.vocabulary else ()
    if task.name == "detect" and known:
        unknown = [c for c in task.classes if c not in known]
        if unknown:
            raise TaskError(
                f"{checkpoint.name} does not know {', '.join(map(repr, unknown))}; "
                f"its classes are {', '.join(known)}"
            )
    if task.name == "detect" and not (known or task.classes) and checkpoint.format not in UNASKED:
        raise TaskError(f"{checkpoint.name} has an open vocabulary: list in 'classes' what to detect")


def check_question(task: Task, checkpoint: Checkpoint) -> None:
    """Raise TaskError, with the known kinds, for a question that the checkpoint was not trained on.

    A closed vocabulary is trained on two kinds. Answers to other questions would be empty or arbitrary.
    """
    vocabulary = checkpoint.vocabulary
    if task.name != "ask" or not vocabulary or not vocabulary.classes:
        return
    asked, colour = question(task.prompt), ""
    if vocabulary.colours:
        colour = f"(?:(?:{'|'.join(map(re.escape, vocabulary.colours))}) )?"
    classes = "|".join(map(re.escape, vocabulary.classes))
    plurals = "|".join(map(re.escape, map(plural, vocabulary.classes)))
    if re.fullmatch(f"how many (?:{plurals}) are there|is there a {colour}(?:{classes})", asked):
        return
    which = f"where CLASS is one of {', '.join(vocabulary.classes)}"
    if vocabulary.colours:
        which += f" and COLOUR one of {', '.join(vocabulary.colours)}"
    raise TaskError(
        f"{checkpoint.name} was not trained on {task.prompt!r}; it answers 'how many CLASSES are there' "
        f"and 'is there a {'[COLOUR] ' if colour else ''}CLASS', {which}"
    )


def question(prompt: str) -> str:
    """A question in the spelling of the training data."""
    words = prompt.lower().rstrip("? \n").split()
    return " ".join("a" if words[:2] == ["is", "there"] and word == "an" else word for word in words)


def plural(noun: str) -> str:
    """Plural of a class name, as in the trained questions."""
    irregular = {"person": "people"}
    if noun in irregular:
        return irregular[noun]
    return noun + ("es" if noun.endswith(("x", "s", "ch", "sh")) else "s")


def asked_classes(task: Task, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Classes of a ``detect`` task in the order of the vocabulary and of training."""
    if not vocabulary.classes:
        return task.classes
    return tuple(c for c in vocabulary.classes if c in task.classes or not task.classes)


def static_text(task: Task, vocabulary: Vocabulary) -> str:
    """The text before the image: the verb, and the classes, phrase or question."""
    words = {
        "detect": asked_classes(task, vocabulary),
        "ground": (task.prompt,),
        "ask": (question(task.prompt),),
    }
    return " ".join((BEGIN + _VERBS[task.name], *(w.strip().lower() for w in words.get(task.name, ()))))


def full_text(task: Task, vocabulary: Vocabulary) -> str:
    """The whole prompt of an Argus checkpoint with one picture's placeholder, for the stock processor."""
    return static_text(task, vocabulary) + IMAGE + ANSWER
