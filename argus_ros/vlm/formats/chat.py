"""The whole prompt of a task: an Argus checkpoint's fixed words, or the folder's chat template."""

from __future__ import annotations

import json
from typing import Any

from argus_ros.core.checkpoint import Checkpoint
from argus_ros.core.section import CheckpointError, read_json
from argus_ros.core.types import Task
from argus_ros.vlm.formats import prompts

#: Special tokens that templates use by these names.
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def full_text(task: Task, checkpoint: Checkpoint) -> str:
    """The prompt with one picture's placeholder, for the stock processor. Raises CheckpointError."""
    if checkpoint.vocabulary is not None:
        return prompts.full_text(task, checkpoint.vocabulary)
    return render(template(checkpoint), question(task, checkpoint), checkpoint)


def question(task: Task, checkpoint: Checkpoint) -> str:
    """The question for an open model, in the words of its answer format."""
    from argus_ros.vlm import formats  # formats imports this module

    return formats.of(checkpoint.format).questions(task)[0].text


def inputs(processor: Any, picture: Any, asked: str) -> Any:
    """A stock processor's inputs for a PIL picture and a question, by its chat template."""
    content = [{"type": "image", "image": picture}, {"type": "text", "text": asked}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def starts_itself(text: str, checkpoint: Checkpoint) -> bool:
    """Whether a chat already starts with the bos token, so that the tokenizer adds none."""
    begin = special_tokens(checkpoint).get("bos_token", "")
    return checkpoint.vocabulary is None and bool(begin) and text.startswith(begin)


def template(checkpoint: Checkpoint) -> str:
    """The folder's chat template, in the places that transformers reads; else the family's default.

    Raises CheckpointError for a file that cannot be read.
    """
    folder = checkpoint.path
    sections = (
        ("processor_config.json", True),
        ("chat_template.json", True),
        ("tokenizer_config.json", False),
    )
    for name, before in sections:
        if not before and (folder / "chat_template.jinja").is_file():
            try:
                return (folder / "chat_template.jinja").read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{folder / 'chat_template.jinja'} cannot be read: {error}") from None
        if not (folder / name).is_file():
            continue
        section = read_json(folder / name)
        found = section.values.get("chat_template")
        if isinstance(found, list):  # several, by name
            named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
            found = named.get("default")
        if found is not None and not isinstance(found, str):
            raise section.error("chat_template", "a string")
        if found:
            return found
    return checkpoint.family.chat if checkpoint.family else ""


def special_tokens(checkpoint: Checkpoint) -> dict[str, str]:
    """The tokens that tokenizer_config.json names."""
    path = checkpoint.path / "tokenizer_config.json"
    values = read_json(path).values if path.is_file() else {}
    found = {name: values.get(name) for name in NAMED}
    texts = {name: t.get("content") if isinstance(t, dict) else t for name, t in found.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def render(template: str, asked: str, checkpoint: Checkpoint) -> str:
    """The chat with one picture and a question, up to the start of the answer. Raises CheckpointError."""
    from transformers.utils.chat_template_utils import render_jinja_template  # takes a second to import

    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": asked}]}]
    try:
        (text,), _ = render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=True, **special_tokens(checkpoint)
        )
    except Exception as error:  # a template is code, and can raise anything
        raise CheckpointError(
            f"{checkpoint.path}: the chat template cannot be rendered: {type(error).__name__}: {error}"
        ) from None
    count = text.count(checkpoint.native.placeholder)
    if count != 1:
        raise CheckpointError(
            f"{checkpoint.path}: the chat template has {count} of {checkpoint.native.placeholder} for one "
            f"picture; it has to be one: {json.dumps(text[:200])}"
        )
    return text
