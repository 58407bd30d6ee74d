"""Creates checkpoints of real sizes with random weights: latency does not depend on the weights.

Architecture, sizes, image processor and vocabulary size are those of the checkpoints of the same names. The
tokenizer is a byte-level BPE of the same size with invented words, so that a text has about as many tokens
and takes as long to encode.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3Processor,
    InternVLConfig,
    PreTrainedTokenizerFast,
)

# Imported from their own modules: some versions hide them at the top where torchvision is missing.
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from argus_ros.core.checkpoint import CheckpointError, Vocabulary
from argus_ros.vlm.formats import prompts
from argus_ros.vlm.models import blank
from argus_ros.vlm.processors import ImagesOnly

#: SmolLM2's sizes.
SMALL = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}
MEDIUM = {
    "hidden_size": 960,
    "intermediate_size": 2560,
    "num_hidden_layers": 32,
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
}
LARGE = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
#: SigLIP-B/16 at 512 pixels.
SIGLIP = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 512,
    "patch_size": 16,
}
#: SigLIP-SO400M/14 at 384 pixels: 27 patches per side, with 6 pixels left over.
SIGLIP_LARGE = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
#: Qwen2.5-1.5B and InternViT-300M, the parts of InternVL3-2B.
QWEN = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
}
INTERN_VIT = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "attention_bias": True,
    "image_size": 448,
    "patch_size": 14,
}
#: Rows and columns of tiles for which SmolVLM's vocabulary has tokens.
SPLITS = range(1, 7)


@dataclass(frozen=True)
class Parts:
    """The parts of a checkpoint folder."""

    config: Any
    tokenizer: PreTrainedTokenizerFast
    processor: Any


def write(name: str, folder: Path, weights: bool = True) -> Path:
    """Write the checkpoint ``name`` into ``folder``; without ``weights`` only its JSON files.

    Raises CheckpointError for an unknown name.
    """
    if name not in NAMES:
        raise CheckpointError(f"unknown configuration {name!r}; the configurations are {', '.join(NAMES)}")
    if name == "argus-nano":
        return blank.write_checkpoint(folder, blank.NANO)
    parts = CONFIGURATIONS[name]()
    (save if weights else describe)(parts, folder)
    return folder


@contextmanager
def temporary(name: str, weights: bool = True) -> Iterator[Path]:
    """The checkpoint ``name`` in a temporary folder of that name, removed at the end of the context."""
    with tempfile.TemporaryDirectory(prefix="argus-") as folder:
        yield write(name, Path(folder) / name, weights)


def describe(parts: Parts, folder: Path) -> None:
    """Write configuration, tokenizer and processor in transformers' format."""
    folder.mkdir(parents=True, exist_ok=True)
    parts.config.save_pretrained(folder)
    end, pad = parts.tokenizer.eos_token_id, parts.tokenizer.pad_token_id
    GenerationConfig(eos_token_id=end, pad_token_id=pad).save_pretrained(folder)
    parts.processor.save_pretrained(folder)


def save(parts: Parts, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a whole checkpoint, with random weights."""
    describe(parts, folder)
    with torch.device("meta"):
        shapes = getattr(transformers, parts.config.architectures[0])(parts.config).state_dict()
    # Drawing billions of random numbers takes minutes; slices of one draw take seconds.
    most = min(1 << 24, 2 * max(value.numel() for value in shapes.values()))
    pool = torch.randn(most, generator=torch.Generator().manual_seed(0)).mul_(0.02).to(dtype)
    weights = {name: _weight(name, value.shape, pool) for name, value in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _weight(name: str, shape: torch.Size, pool: torch.Tensor) -> torch.Tensor:
    if len(shape) > 1:
        rest = pool[zlib.crc32(name.encode()) % (len(pool) // 2) :]
        if shape.numel() > len(rest):
            rest = rest.repeat(-(-shape.numel() // len(rest)))
        return rest[: shape.numel()].view(shape).clone()
    value = 0.0 if name.endswith("bias") else 0.1 if "lambda" in name else 1.0
    return torch.full(shape, value, dtype=pool.dtype)


def make_tokenizer(size: int, special: Sequence[str], **named: Any) -> PreTrainedTokenizerFast:
    """Byte-level BPE of ``size`` tokens, the special ones last; its words are short strings of letters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words, merges = dict.fromkeys(alphabet), []
    level = [*ascii_lowercase, "Ġ"]
    while len(words) < size - len(special):
        pairs = list(product(level, ascii_lowercase))[: size - len(special) - len(words)]
        merges += pairs
        level = ["".join(pair) for pair in pairs]
        words |= dict.fromkeys(level)
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, model_max_length=8192, **named
    )


def smolvlm(
    text: dict[str, Any],
    vision: dict[str, Any] = SIGLIP,
    *,
    vocabulary: Vocabulary | None = None,
    longest_edge: int = 2048,
    tokens: int = 49280,
    unshuffle: int = 4,
) -> Parts:
    """SmolVLM; with a ``vocabulary``, an Argus checkpoint with a location token per bin."""
    special = ["<pad>", prompts.BEGIN, prompts.IMAGE, "<fake_token_around_image>", "<global-img>"]
    special += [f"<row_{i}_col_{j}>" for i in SPLITS for j in SPLITS]
    if vocabulary:
        special += [prompts.ANSWER, *map(prompts.location_token, range(vocabulary.bins))]
        tokens += 1 + vocabulary.bins
    tokenizer = make_tokenizer(
        tokens, [*special, prompts.END], pad_token="<pad>", bos_token=prompts.BEGIN, eos_token=prompts.END
    )
    side, image = vision["image_size"] // vision["patch_size"], {"longest_edge": vision["image_size"]}
    config = Idefics3Config(
        architectures=["Idefics3ForConditionalGeneration"],
        image_token_id=tokenizer.convert_tokens_to_ids(prompts.IMAGE),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=unshuffle,
        tie_word_embeddings=False,
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 8192,
            "rope_theta": 100_000.0,
            "rms_norm_eps": 1e-5,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "tie_word_embeddings": False,
            **text,
        },
        vision_config=vision,
    )
    if vocabulary:
        config.argus = blank.section(vocabulary)
    split = longest_edge > vision["image_size"]
    images = Idefics3ImageProcessorPil(
        do_image_splitting=split, max_image_size=image, size={"longest_edge": longest_edge}
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=(side // unshuffle) ** 2)
    return Parts(config, tokenizer, processor)


def argus(text: dict[str, Any], vision: dict[str, Any] = SIGLIP, **sizes: int) -> Parts:
    """SmolVLM's modules with one tile per picture, location tokens and an open vocabulary."""
    vocabulary = Vocabulary(
        ("detect", "ground", "dense_caption", "caption", "ask"), bins=1000, max_objects=32
    )
    return smolvlm(text, vision, vocabulary=vocabulary, longest_edge=vision["image_size"], **sizes)


def internvl(
    text: dict[str, Any] = QWEN, vision: dict[str, Any] = INTERN_VIT, *, tokens: int = 151674
) -> Parts:
    """InternVL3 in the format of transformers."""
    names = {"start_image_token": "<img>", "end_image_token": "</img>"}
    names |= {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tokenizer = make_tokenizer(
        tokens,
        ["<|endoftext|>", "<|im_start|>", *names.values(), "<|im_end|>"],
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=names,
    )
    side, ratio = vision["image_size"], 0.5
    visual = int((side // vision["patch_size"] * ratio) ** 2)
    config = InternVLConfig(
        architectures=["InternVLForConditionalGeneration"],
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=visual,
        downsample_ratio=ratio,
        tie_word_embeddings=False,
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "eos_token_id": tokenizer.eos_token_id,
            "tie_word_embeddings": False,
            **text,
        },
        vision_config=vision,
    )
    images = GotOcr2ImageProcessorPil(
        size={"height": side, "width": side},
        crop_to_patches=True,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    return Parts(config, tokenizer, ImagesOnly(images, tokenizer, visual))


#: The configurations, by the name that ``--config`` takes.
CONFIGURATIONS: dict[str, Callable[[], Parts]] = {
    "smolvlm-256m": lambda: smolvlm(SMALL),
    "smolvlm-500m": lambda: smolvlm(MEDIUM),
    "smolvlm-2b": lambda: smolvlm(LARGE, SIGLIP_LARGE, longest_edge=1536, tokens=49155, unshuffle=3),
    "internvl3-2b": internvl,
    "argus-256m": lambda: argus(SMALL),
    "argus-500m": lambda: argus(MEDIUM),
    "argus-2b": lambda: argus(LARGE, SIGLIP_LARGE, tokens=49155, unshuffle=3),
}
#: argus-nano is created by ``blank``, as for its training.
NAMES = (*CONFIGURATIONS, "argus-nano")
