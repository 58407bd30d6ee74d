"""Creates an untrained Argus checkpoint: an ordinary transformers folder with random weights.

Idefics3 (SmolVLM) architecture, a word-level tokenizer with one token per location bin, and the stock image
processor without splitting, so that transformers' own ``AutoProcessor`` and ``generate`` run it.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

# Imported from its own module: some versions hide it at the top where torchvision is missing.
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from argus_ros.core.checkpoint import Vocabulary
from argus_ros.vlm.formats import prompts

#: Words of the fixed questions, in addition to the classes and colours.
QUESTION_WORDS = [
    "detect",
    "ground",
    "describe",
    "caption",
    "ask",
    "how",
    "many",
    "is",
    "are",
    "there",
    "a",
    "an",
    "any",
    "the",
    "in",
    "picture",
    "and",
    "nothing",
    "yes",
    "no",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "what",
    "colour",
    "left",
    "right",
    "of",
]


@dataclass(frozen=True)
class Shape:
    """Sizes of the model. The defaults are argus-nano's: 4 M parameters."""

    tile: int = 256
    patch: int = 16
    shuffle: int = 2
    vision_width: int = 192
    vision_layers: int = 4
    vision_heads: int = 3
    text_width: int = 192
    text_layers: int = 4
    text_heads: int = 3
    text_mlp: int = 512


NANO = Shape()
#: Small enough for unit tests: 0.1 M parameters.
TINY = Shape(
    tile=64,
    vision_width=32,
    vision_layers=2,
    vision_heads=2,
    text_width=32,
    text_layers=2,
    text_heads=2,
    text_mlp=64,
)


def make_tokenizer(vocabulary: Vocabulary) -> PreTrainedTokenizerFast:
    """Word-level tokenizer with the known words, SmolVLM's image tokens and the location tokens."""
    special = ["<unk>", "<pad>", prompts.BEGIN, prompts.END, prompts.ANSWER]
    special += [prompts.IMAGE, "<fake_token_around_image>", "<global-img>"]
    special += [prompts.location_token(i) for i in range(vocabulary.bins)]
    phrases = (*vocabulary.classes, *(prompts.plural(c) for c in vocabulary.classes), *vocabulary.colours)
    words = dict.fromkeys(w for p in (*QUESTION_WORDS, *phrases) for w in p.split())
    ids = {token: i for i, token in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token=prompts.BEGIN,
        eos_token=prompts.END,
        extra_special_tokens={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": prompts.IMAGE,
            "global_image_token": "<global-img>",
            "end_of_utterance_token": prompts.END,
        },
        additional_special_tokens=[t for t in special if t not in ("<unk>", "<pad>")],
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )


def make_config(shape: Shape, vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerFast) -> Idefics3Config:
    """Configuration of a model. Raises ValueError for a tile that is not a whole number of visual tokens."""
    if shape.tile <= 0 or shape.tile % (shape.patch * shape.shuffle):
        step = shape.patch * shape.shuffle
        raise ValueError(f"a tile of {shape.tile} pixels does not fit whole tokens; use a multiple of {step}")
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids(prompts.IMAGE),
        scale_factor=shape.shuffle,
        pad_token_id=pad,
        tie_word_embeddings=False,
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.text_width,
            intermediate_size=shape.text_mlp,
            num_hidden_layers=shape.text_layers,
            num_attention_heads=shape.text_heads,
            max_position_embeddings=2048,
            pad_token_id=pad,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end,
            tie_word_embeddings=False,
        ).to_dict(),
        vision_config={
            "hidden_size": shape.vision_width,
            "intermediate_size": 4 * shape.vision_width,
            "num_hidden_layers": shape.vision_layers,
            "num_attention_heads": shape.vision_heads,
            "image_size": shape.tile,
            "patch_size": shape.patch,
        },
    )
    config.argus = section(vocabulary)
    return config


def section(vocabulary: Vocabulary) -> dict[str, Any]:
    """The ``argus`` section of config.json."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(vocabulary).items()}


def make_model(config: Idefics3Config, seed: int = 0) -> Idefics3ForConditionalGeneration:
    """A model with random weights; neighbouring location tokens and patch positions start similar."""
    torch.manual_seed(seed)
    model = Idefics3ForConditionalGeneration(config)
    bins = config.argus["bins"]
    first = config.image_token_id + 3  # the location tokens follow the image tokens
    places = waves(torch.linspace(0, 1, bins), config.text_config.hidden_size)
    vision = model.model.vision_model.embeddings
    side = vision.num_patches_per_side
    axis = waves((torch.arange(side) + 0.5) / side, config.vision_config.hidden_size // 2)
    grid = torch.cat([axis[:, None].expand(side, side, -1), axis[None, :].expand(side, side, -1)], -1)
    with torch.no_grad():
        for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
            embedding.weight[first : first + bins] = places * embedding.weight.std() * math.sqrt(2)
        vision.position_embedding.weight.copy_(grid.flatten(0, 1) * 0.1)
    return model


def waves(x: torch.Tensor, width: int) -> torch.Tensor:
    """Sines and cosines of 0.25 to 16 periods: (n,) in [0, 1] to (n, width)."""
    frequency = torch.logspace(-2, 4, width // 2, base=2.0) * 2 * math.pi
    angle = x[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)


def make_processor(config: Idefics3Config, tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    """The stock processor for a model that takes a whole picture as one tile."""
    tile = {"longest_edge": config.vision_config.image_size}
    # The stock processor scales to ``size`` before it makes a square: large enough to lose nothing.
    room = {"longest_edge": 4 * tile["longest_edge"]}
    images = Idefics3ImageProcessorPil(do_image_splitting=False, max_image_size=tile, size=room)
    side = tile["longest_edge"] // config.vision_config.patch_size // config.scale_factor
    return Idefics3Processor(images, tokenizer, image_seq_len=side * side)


def save(model: Idefics3ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model, tokenizer and processor in transformers' format, weights in fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    make_processor(model.config, tokenizer).save_pretrained(folder)
    dtype = model.dtype
    model.half().save_pretrained(folder)
    model.to(dtype)
    # Weights are written readable for their owner only, but another user may run the node.
    shutil.copymode(folder / "config.json", folder / "model.safetensors")


def write_checkpoint(
    folder: Path,
    shape: Shape = TINY,
    classes: Sequence[str] = ("cone", "ball", "box"),
    colours: Sequence[str] = ("red", "green", "blue"),
    tasks: Sequence[str] = ("detect", "dense_caption", "ask"),
    seed: int = 0,
) -> Path:
    """An untrained checkpoint for tests and benchmarks; latency does not depend on the weights."""
    vocabulary = Vocabulary(tuple(tasks), bins=128, classes=tuple(classes), colours=tuple(colours))
    tokenizer = make_tokenizer(vocabulary)
    save(make_model(make_config(shape, vocabulary, tokenizer), seed), tokenizer, folder)
    return folder
