"""Start from a checkpoint: its weights in a model of other words, more location bins or a larger tile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import AddedToken
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, PreTrainedTokenizerFast

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import CheckpointError, Vocabulary
from argus_ros.core.families import IDEFICS3
from argus_ros.vlm.formats import prompts
from argus_ros.vlm.models import blank
from argus_ros.vlm.models.vision import position_ids

EMBEDDINGS = ("model.text_model.embed_tokens.weight", "lm_head.weight")
LAYERS = "model.vision_model.encoder.layers."
POSITIONS = "model.vision_model.embeddings.position_embedding.weight"


def grow(
    base: str | Path, vocabulary: Vocabulary, tile: int = 0, seed: int = 0, vision_layers: int = 0
) -> tuple[Idefics3ForConditionalGeneration, PreTrainedTokenizerFast]:
    """A model with the weights of checkpoint ``base`` that speaks ``vocabulary`` and sees ``tile`` pixels.

    A base with a tokenizer of whole words gets a new one: words that it knows keep their embeddings, new ones
    start near the mean of the base's classes. A tokenizer of subwords (``argus convert``) has tokens for
    every class and is kept. Location bins and patch positions are interpolated where their number changes.
    Where nothing changes the weights are the base's. Further ``vision_layers`` stand between those of the
    base and change nothing at first. ``tile`` and ``vision_layers`` 0 mean the base's. Raises CheckpointError
    for no Argus checkpoint.
    """
    read = checkpoints.read(base)
    if read.vocabulary is None or read.family is not IDEFICS3:
        raise CheckpointError(
            f"{read.path} is no Argus checkpoint, so training cannot start from it; "
            "argus convert makes one of a SmolVLM folder"
        )
    old = Idefics3ForConditionalGeneration.from_pretrained(
        read.path, dtype=torch.float32, local_files_only=True
    )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(read.path, local_files_only=True)
    known = tokenizer.get_vocab()
    shape = shape_of(old.config)
    layers = vision_layers or shape.vision_layers
    if layers < shape.vision_layers:
        raise ValueError(f"{read.name} has {shape.vision_layers} vision layers; {layers} would be fewer")
    deeper = _deeper(shape.vision_layers, layers)
    shape = replace(shape, tile=tile or shape.tile, vision_layers=layers)
    whole_words = isinstance(tokenizer.backend_tokenizer.model, WordLevel)
    if whole_words:
        tokenizer = blank.make_tokenizer(vocabulary)
        model = blank.make_model(blank.make_config(shape, vocabulary, tokenizer), seed)
    else:
        _name_places(tokenizer, vocabulary.bins)
        torch.manual_seed(seed)
        model = Idefics3ForConditionalGeneration(_like(old.config, shape, vocabulary, tokenizer))
    weights, fresh, ids = old.state_dict(), model.state_dict(), tokenizer.get_vocab()
    for name in EMBEDDINGS:
        before = weights[name]
        if whole_words:
            weights[name] = _words(before, fresh[name], known, ids, read.vocabulary)
        else:
            weights[name] = torch.cat([before, fresh[name][len(before) :]])
        bins = [known[prompts.location_token(i)] for i in range(read.vocabulary.bins)]
        first = ids[prompts.location_token(0)]
        weights[name][first : first + vocabulary.bins] = _stretch(before[bins], vocabulary.bins)
    weights[POSITIONS] = _regrid(weights[POSITIONS], shape.tile // shape.patch)
    model.load_state_dict({**fresh, **_moved(weights, fresh, deeper)})
    return model, tokenizer


def _name_places(tokenizer: PreTrainedTokenizerFast, bins: int) -> None:
    """Have a tokenizer say so many places, one id after the other. Raises CheckpointError where it cannot."""
    places = [prompts.location_token(i) for i in range(bins)]
    tokenizer.add_tokens([AddedToken(p, special=True, normalized=False) for p in places], special_tokens=True)
    ids = tokenizer.convert_tokens_to_ids(places)
    if ids != list(range(ids[0], ids[0] + bins)):
        raise CheckpointError(
            f"{tokenizer.name_or_path} has other tokens behind its location tokens, which leave no room for "
            f"{bins} bins; leave out --bins"
        )


def _like(
    old: Idefics3Config, shape: blank.Shape, vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerFast
) -> Idefics3Config:
    """The configuration of a base with another tile, depth and vocabulary."""
    if shape.tile // shape.patch % shape.shuffle:
        step = shape.patch * shape.shuffle
        raise ValueError(f"a tile of {shape.tile} pixels cannot be cut; take a multiple of {step}")
    config = Idefics3Config.from_dict(old.to_dict())
    config.vision_config.image_size, config.vision_config.num_hidden_layers = shape.tile, shape.vision_layers
    config.text_config.vocab_size = max(config.text_config.vocab_size, len(tokenizer))
    config.argus = blank.section(vocabulary)
    return config


def _deeper(before: int, after: int) -> list[int]:
    """Places of the base's layers among those of the deeper encoder, spread evenly."""
    return [(i + 1) * after // before - 1 for i in range(before)]


def _moved(weights: dict[str, Tensor], fresh: dict[str, Tensor], places: list[int]) -> dict[str, Tensor]:
    """The weights under the names of a deeper encoder, whose other layers add nothing to their input."""
    moved = {}
    for name, value in weights.items():
        if name.startswith(LAYERS):
            number, rest = name.removeprefix(LAYERS).split(".", 1)
            name = f"{LAYERS}{places[int(number)]}.{rest}"
        moved[name] = value
    for name, value in fresh.items():
        if name not in moved and any(part in name for part in ("out_proj", "fc2")):
            moved[name] = torch.zeros_like(value)
    return moved


def shape_of(config: Idefics3Config) -> blank.Shape:
    """Sizes of a checkpoint that ``blank`` made."""
    vision, text = config.vision_config, config.text_config
    return blank.Shape(
        tile=vision.image_size,
        patch=vision.patch_size,
        shuffle=config.scale_factor,
        vision_width=vision.hidden_size,
        vision_layers=vision.num_hidden_layers,
        vision_heads=vision.num_attention_heads,
        text_width=text.hidden_size,
        text_layers=text.num_hidden_layers,
        text_heads=text.num_attention_heads,
        text_mlp=text.intermediate_size,
    )


def _words(
    old: Tensor, fresh: Tensor, known: dict[str, int], ids: dict[str, int], vocabulary: Vocabulary
) -> Tensor:
    """Rows (tokens, width) of all tokens by their spelling; a new one is the mean class and its own noise."""
    rows = fresh.clone()
    classes = [known[word] for name in vocabulary.classes for word in name.split()]
    mean = old[classes].mean(0) if classes else old.mean(0)
    for token, i in ids.items():
        rows[i] = old[known[token]] if token in known else mean + fresh[i]
    return rows


def _stretch(rows: Tensor, count: int) -> Tensor:
    """(bins, width) to (count, width): bin ``i`` stands for the edge ``i / (bins - 1)`` in both."""
    if len(rows) == count:
        return rows
    return F.interpolate(rows.T[None], count, mode="linear", align_corners=True)[0].T


def _regrid(table: Tensor, side: int) -> Tensor:
    """Patch positions (patches, width) of a square grid to those of ``side`` patches a side."""
    before = round(len(table) ** 0.5)
    if before == side:
        return table
    grid = table[position_ids(before)].permute(2, 0, 1)[None]
    return F.interpolate(grid, (side, side), mode="bicubic")[0].flatten(1).T
