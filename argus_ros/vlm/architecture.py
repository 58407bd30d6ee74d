"""Sizes of a model, read from ``config.json``, with transformers' defaults where a key is missing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from argus_ros.core.checkpoint import Checkpoint, CheckpointError

FAMILIES = ("idefics3", "smolvlm", "internvl")


@dataclass(frozen=True)
class VisionShape:
    """A vision transformer and the pixel-unshuffle behind it."""

    width: int
    layers: int
    heads: int
    mlp: int
    image: int  #: side of a tile, pixels
    patch: int
    unshuffle: int  #: patches per side that become one token
    eps: float
    qkv_bias: bool = True

    @property
    def side(self) -> int:
        """Patches per side of a tile."""
        return self.image // self.patch

    @property
    def tokens(self) -> int:
        """Visual tokens per tile."""
        return (self.side // self.unshuffle) ** 2


@dataclass(frozen=True)
class TextShape:
    """A Llama-style decoder; Qwen2 has biases in its attention."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int
    context: int
    eps: float
    rope_theta: float
    qkv_bias: bool = False


def read(checkpoint: Checkpoint) -> tuple[VisionShape, TextShape]:
    """Sizes of a checkpoint's model. Raises CheckpointError for what these modules cannot run."""
    if checkpoint.family not in FAMILIES:
        raise CheckpointError(
            f"{checkpoint.path / 'config.json'}: model_type {checkpoint.family!r} is not supported; "
            f"supported are {', '.join(FAMILIES)}"
        )
    config = checkpoint.config
    try:
        vision = _intern(config) if checkpoint.family == "internvl" else _siglip(config)
        shapes = vision, _text(config.get("text_config", {}))
        for shape in shapes:
            for name, value in asdict(shape).items():
                if not isinstance(value, (int, float)) or (value <= 0 and value is not False):
                    raise ValueError(f"{name} is {value!r}, which is no size")
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{checkpoint.path / 'config.json'}: {error}") from None
    if vision.image % vision.patch or vision.side % vision.unshuffle or vision.width % vision.heads:
        raise CheckpointError(
            f"{checkpoint.path / 'config.json'}: sizes do not divide: "
            f"image {vision.image}, patch {vision.patch}, scale_factor {vision.unshuffle}, "
            f"width {vision.width}, heads {vision.heads}"
        )
    return shapes


def _siglip(config: dict[str, Any]) -> VisionShape:
    vision = config.get("vision_config", {})
    _require(vision, "hidden_act", "gelu_pytorch_tanh")
    return VisionShape(
        width=vision.get("hidden_size", 1152),
        layers=vision.get("num_hidden_layers", 12),
        heads=vision.get("num_attention_heads", 16),
        mlp=vision.get("intermediate_size", 3072),
        image=_side(vision.get("image_size", 224)),
        patch=_side(vision.get("patch_size", 32)),
        unshuffle=config.get("scale_factor", 2),
        eps=vision.get("layer_norm_eps", 1e-6),
    )


def _intern(config: dict[str, Any]) -> VisionShape:
    vision = config.get("vision_config", {})
    for key, value in (
        ("hidden_act", "gelu"),
        ("norm_type", "layer_norm"),
        ("use_qk_norm", False),
        ("use_mean_pooling", True),
        ("use_absolute_position_embeddings", True),
    ):
        _require(vision, key, value)
    _require(config, "projector_hidden_act", "gelu")
    _require(config, "vision_feature_layer", -1)
    _require(config, "vision_feature_select_strategy", "default")
    return VisionShape(
        width=vision.get("hidden_size", 1024),
        layers=vision.get("num_hidden_layers", 24),
        heads=vision.get("num_attention_heads", 16),
        mlp=vision.get("intermediate_size", 4096),
        image=_side(vision.get("image_size", 448)),
        patch=_side(vision.get("patch_size", 14)),
        unshuffle=round(1 / config.get("downsample_ratio", 0.5)),
        eps=vision.get("layer_norm_eps", 1e-6),
        qkv_bias=vision.get("attention_bias", False),
    )


def _text(text: dict[str, Any]) -> TextShape:
    qwen = text.get("model_type") == "qwen2"
    if qwen:
        _require(text, "use_sliding_window", False)
    else:
        _require(text, "model_type", "llama")
    _require(text, "hidden_act", "silu")
    _require(text, "attention_bias", False)
    _require(text, "mlp_bias", False)
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    _require(rope, "rope_type", "default")
    width, heads = text.get("hidden_size", 4096), text.get("num_attention_heads", 32)
    return TextShape(
        width=width,
        layers=text.get("num_hidden_layers", 32),
        heads=heads,
        kv_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or width // heads,
        mlp=text.get("intermediate_size", 11008),
        vocabulary=text.get("vocab_size", 32000),
        context=text.get("max_position_embeddings", 2048),
        eps=text.get("rms_norm_eps", 1e-6),
        rope_theta=rope.get("rope_theta") or text.get("rope_theta", 10000.0),
        qkv_bias=qwen,
    )


def _require(section: dict[str, Any], key: str, value: object) -> None:
    if section.get(key, value) != value:
        raise ValueError(f"{key} is {section[key]!r}; only {value!r} is supported")


def _side(size: int | list[int]) -> int:
    """A side given as a number or as two equal ones."""
    if isinstance(size, int):
        return size
    if len(set(size)) != 1:
        raise ValueError(f"size {size} is not square")
    return size[0]
