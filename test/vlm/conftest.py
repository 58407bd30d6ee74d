"""Untrained checkpoints, shared by the tests of the engine."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from served import Fault, fault_server
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import Vocabulary
from argus_ros.core.protocol import EngineConfig
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats import prompts
from argus_ros.vlm.formats.tokens import Tokens
from argus_ros.vlm.models import blank

ALL_TASKS = ("detect", "ground", "dense_caption", "caption", "ask")
SPLITS = 3  # tiles along the longest edge of a picture that is cut


def write(
    folder: Path,
    vocabulary: Vocabulary,
    *,
    boldness: float = 3.0,
    split: bool = False,
    heads: tuple[int, int] = (2, 2),
) -> Path:
    """A checkpoint whose random weights are scaled up, so that answers depend on the picture."""
    tokenizer = blank.make_tokenizer(vocabulary)
    if split:
        tokenizer.add_tokens(
            [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)], special_tokens=True
        )
    config = blank.make_config(replace(blank.TINY, text_heads=heads[0]), vocabulary, tokenizer)
    config.text_config.num_key_value_heads = heads[1]
    model = blank.make_model(config)
    for name, weight in model.named_parameters():
        if "norm" not in name:
            weight.data *= boldness
    blank.save(model, tokenizer, folder)
    if split:
        cut_pictures(folder)
    return folder


def cut_pictures(folder: Path) -> None:
    edit(
        folder / "processor_config.json",
        lambda c: c["image_processor"].update(
            do_image_splitting=True, size={"longest_edge": SPLITS * blank.TINY.tile}
        ),
    )


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def byte_level(special: Sequence[str], **named: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on two sentences."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=list(special), initial_alphabet=alphabet)
    bpe.train_from_iterator(
        ["User:Describe this image briefly.\n\n\nAssistant: a cone and a ball.\n\n"] * 9, trainer
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, clean_up_tokenization_spaces=False, **named)


def write_chat(folder: Path) -> Path:
    """A checkpoint as SmolVLM's: byte-level BPE, pictures cut into tiles, no Argus section."""
    special = [
        "<pad>",
        prompts.BEGIN,
        prompts.END,
        "<fake_token_around_image>",
        "<global-img>",
        prompts.IMAGE,
    ]
    special += [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    tokenizer = byte_level(special, pad_token="<pad>", bos_token=prompts.BEGIN, eos_token=prompts.END)
    config = blank.make_config(blank.TINY, Vocabulary(tasks=("caption",), bins=2), tokenizer)
    del config.argus
    model = transformers.Idefics3ForConditionalGeneration(config)
    for weight in model.parameters():
        weight.data *= 2
    blank.save(model, tokenizer, folder)
    cut_pictures(folder)
    return folder


def write_intern(folder: Path) -> Path:
    """A checkpoint as InternVL3's in transformers' format."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>"]
    tokenizer = byte_level(special, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    config = transformers.InternVLConfig(
        image_token_id=special.index("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "eos_token_id": 2,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "attention_bias": True,
            "image_size": 56,
            "patch_size": 14,
        },
    )
    torch.manual_seed(0)
    model = transformers.InternVLForConditionalGeneration(config)
    for weight in model.parameters():
        weight.data += torch.randn(weight.shape) * 0.15
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="session")
def tiny(folder: Path) -> Path:
    """One tile, closed vocabulary."""
    return write(
        folder / "tiny",
        Vocabulary(("detect", "dense_caption", "ask"), 128, ("cone", "ball", "box"), ("red", "green")),
    )


@pytest.fixture(scope="session")
def tiled(folder: Path) -> Path:
    """Several tiles, grouped-query attention, labels of several words that begin and end alike."""
    classes = ("traffic light", "traffic cone", "traffic", "light", "cone")
    return write(
        folder / "tiled", Vocabulary(ALL_TASKS, 16, classes, ("light", "dark blue")), split=True, heads=(4, 2)
    )


@pytest.fixture(scope="session")
def unbounded(folder: Path) -> Path:
    """Open vocabulary."""
    return write(folder / "unbounded", Vocabulary(ALL_TASKS, 128, (), ("red", "green"), max_objects=3))


@pytest.fixture(scope="session")
def chat(folder: Path) -> Path:
    """No Argus checkpoint."""
    return write_chat(folder / "chat")


@pytest.fixture(scope="session")
def intern(folder: Path) -> Path:
    return write_intern(folder / "intern")


@pytest.fixture(scope="session")
def read_tokens() -> Callable[[Path], Tokens]:
    def read(path: Path) -> Tokens:
        checkpoint = checkpoints.read(path)
        return Tokens(checkpoint, checkpoint.config["text_config"]["vocab_size"])

    return read


@pytest.fixture(scope="session")
def engine(tiny: Path) -> Engine:
    return Engine(EngineConfig(str(tiny), device="cpu", dtype="float32"))


@pytest.fixture
def fault() -> Iterator[Fault]:
    with fault_server() as started:
        yield started


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
