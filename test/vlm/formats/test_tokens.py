"""Prompts are laid out as the stock processor lays them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoProcessor, AutoTokenizer

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.types import Task
from argus_ros.vlm.formats import chat, prompts
from argus_ros.vlm.formats.tokens import Tokens

ReadTokens = Callable[[Path], Tokens]

SIDE = 64  # of a tile of these checkpoints
TOKENS = 4  # visual tokens that it gives
SPLITS = 3  # tiles along the longest edge


def stock_ids(path: Path, task: Task, image: np.ndarray) -> tuple[list[int], int]:
    """Token ids and tiles that the stock processor makes."""
    processor = AutoProcessor.from_pretrained(path)
    text = chat.full_text(task, checkpoints.read(path))
    inputs = processor(text=text, images=[image], return_tensors="pt")
    return inputs["input_ids"][0].tolist(), inputs["pixel_values"].shape[-4]


def test_one_tile(tiny: Path, read_tokens: ReadTokens) -> None:
    task = Task("detect", ("cone", "ball"))
    ids, tiles = stock_ids(tiny, task, np.zeros((48, 64, 3), np.uint8))
    assert tiles == 1
    assert list(read_tokens(tiny).prompt(task, 0, 0, TOKENS).ids) == ids


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 192), (192, 64), (96, 128)])
def test_tiles(tiled: Path, chat: Path, read_tokens: ReadTokens, height: int, width: int) -> None:
    for path, task in (
        (tiled, Task("detect")),
        (chat, Task("caption")),
        (chat, Task("ask", prompt="A cone?\n\n")),
    ):
        scale = SPLITS * SIDE / max(height, width)
        rows, columns = -int(-height * scale // SIDE), -int(-width * scale // SIDE)
        ids, tiles = stock_ids(path, task, np.zeros((height, width, 3), np.uint8))
        assert tiles == rows * columns + 1
        prompt = read_tokens(path).prompt(task, rows, columns, TOKENS)
        assert list(prompt.ids) == ids
        assert prompt.rest.count(prompt.image_token) == tiles * TOKENS


def test_intern(intern: Path, read_tokens: ReadTokens) -> None:
    """The stock processor needs torchvision; what it does to the text is this."""
    task = Task("ask", prompt="A cone?")
    text = chat.full_text(task, checkpoints.read(intern))
    for rows, columns in ((0, 0), (1, 2)):
        expanded = f"<img>{'<IMG_CONTEXT>' * TOKENS * (rows * columns + 1)}</img>"
        ids = AutoTokenizer.from_pretrained(intern)(text.replace("<IMG_CONTEXT>", expanded))["input_ids"]
        assert list(read_tokens(intern).prompt(task, rows, columns, TOKENS).ids) == ids


def test_prefix_is_all_static_text(tiny: Path, read_tokens: ReadTokens) -> None:
    tokens = read_tokens(tiny)
    prompt = tokens.prompt(Task("detect", ("cone",)), 0, 0, TOKENS)
    assert prompt.prefix == tokens.prompt(Task("detect", ("cone",)), 2, 3, TOKENS).prefix
    assert len(prompt.prefix) == len((prompts.BEGIN, "detect", "cone"))
