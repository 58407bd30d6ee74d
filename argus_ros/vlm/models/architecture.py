"""Reads the sizes of a model from ``config.json``, with transformers' defaults for missing keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from argus_ros.core.checkpoint import Checkpoint
from argus_ros.core.families import Family
from argus_ros.core.section import CheckpointError, Section
from argus_ros.vlm.models import rope
from argus_ros.vlm.models.rope import Rope


@dataclass(frozen=True)
class VisionShape:
    """A vision transformer and the pixel-unshuffle after it."""

    width: int
    layers: int
    heads: int
    mlp: int
    image: int  #: side of a tile, pixels
    patch: int
    unshuffle: int  #: patches per side that become one token
    eps: float
    qkv_bias: bool = True
    qk_norm: bool = False  #: queries and keys are normalised over all heads
    rms_norm: bool = False  #: RMSNorm instead of LayerNorm

    @property
    def side(self) -> int:
        """Patches per side of a tile; a remainder at its right and bottom is ignored."""
        return self.image // self.patch

    @property
    def tokens(self) -> int:
        """Visual tokens per tile."""
        return (self.side // self.unshuffle) ** 2


@dataclass(frozen=True)
class TextShape:
    """A Llama-style decoder. Qwen2 has biases in its attention; Qwen3 normalises queries and keys."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int
    context: int
    eps: float
    rope: Rope = field(default_factory=Rope)
    qkv_bias: bool = False
    qk_norm: bool = False  #: queries and keys are normalised per head
    tied: bool = True  #: the output layer shares the embeddings, unless the folder has weights for it


def read(checkpoint: Checkpoint) -> tuple[VisionShape, TextShape]:
    """The sizes of a checkpoint's model. Raises CheckpointError for what these modules do not support."""
    config = Section(checkpoint.config, str(checkpoint.path / "config.json"))
    vision = TOWERS[checkpoint.native.tower](config, checkpoint.native)
    if vision.side < vision.unshuffle or vision.side % vision.unshuffle or vision.width % vision.heads:
        raise CheckpointError(
            f"{config.where}: sizes do not divide: image {vision.image}, patch {vision.patch}, "
            f"scale_factor {vision.unshuffle}, width {vision.width}, heads {vision.heads}"
        )
    text = config.section("text_config")
    return vision, replace(_text(text), tied=may_be_tied(config, text))


def may_be_tied(*sections: Section) -> bool:
    """Whether the embeddings may serve as the output layer: a section says so, or none says anything."""
    # Versions of transformers write it in different places: one of them is enough.
    said = [section for section in sections if "tie_word_embeddings" in section]
    return not said or any(section.flag("tie_word_embeddings", True) for section in said)


def _siglip(config: Section, family: Family) -> VisionShape:
    vision = config.section("vision_config")
    vision.require("hidden_act", "gelu_pytorch_tanh")
    return VisionShape(
        width=vision.count("hidden_size", 1152),
        layers=vision.count("num_hidden_layers", 12),
        heads=vision.count("num_attention_heads", 16),
        mlp=vision.count("intermediate_size", 3072),
        image=vision.side("image_size", family.image),
        patch=vision.side("patch_size", family.patch),
        unshuffle=family.unshuffle(config),
        eps=vision.number("layer_norm_eps", 1e-6),
    )


def _intern(config: Section, family: Family) -> VisionShape:
    vision = config.section("vision_config")
    for key, value in (
        ("hidden_act", "gelu"),
        ("use_mean_pooling", True),
        ("use_absolute_position_embeddings", True),
    ):
        vision.require(key, value)
    config.require("projector_hidden_act", "gelu")
    config.require("vision_feature_layer", -1)
    config.require("vision_feature_select_strategy", "default")
    norm = vision.word("norm_type", "layer_norm")
    if norm not in ("layer_norm", "rms_norm"):
        raise vision.error("norm_type", "'layer_norm' or 'rms_norm'")
    return VisionShape(
        width=vision.count("hidden_size", 1024),
        layers=vision.count("num_hidden_layers", 24),
        heads=vision.count("num_attention_heads", 16),
        mlp=vision.count("intermediate_size", 4096),
        image=vision.side("image_size", family.image),
        patch=vision.side("patch_size", family.patch),
        unshuffle=family.unshuffle(config),
        eps=vision.number("layer_norm_eps", 1e-6),
        qkv_bias=vision.flag("attention_bias", False),
        qk_norm=vision.flag("use_qk_norm", False),
        rms_norm=norm == "rms_norm",
    )


#: The functions that read the sizes, by a family's tower.
TOWERS: dict[str, Callable[[Section, Family], VisionShape]] = {"siglip": _siglip, "internvit": _intern}


def _text(text: Section) -> TextShape:
    kind = text.word("model_type", "llama")
    if kind not in ("llama", "qwen2", "qwen3"):
        raise text.error("model_type", "llama, qwen2 or qwen3")
    if kind != "llama":
        text.require("use_sliding_window", False)
    text.require("hidden_act", "silu")
    text.require("attention_bias", False)
    text.require("mlp_bias", False)
    width, heads = text.count("hidden_size", 4096), text.count("num_attention_heads", 32)
    kv_heads = text.count("num_key_value_heads", heads)
    head_dim = text.count("head_dim", 128 if kind == "qwen3" else max(width // heads, 1))
    if heads % kv_heads or head_dim % 2 or width < heads:
        raise CheckpointError(
            f"{text.where}: sizes do not divide: hidden_size {width}, num_attention_heads {heads}, "
            f"num_key_value_heads {kv_heads}, head_dim {head_dim}"
        )
    context = text.count("max_position_embeddings", 2048)
    return TextShape(
        width=width,
        layers=text.count("num_hidden_layers", 32),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp=text.count("intermediate_size", 11008),
        vocabulary=text.count("vocab_size", 32000),
        context=context,
        eps=text.number("rms_norm_eps", 1e-6),
        rope=rope.read(text, context),
        qkv_bias=kind == "qwen2",
        qk_norm=kind == "qwen3",
    )
