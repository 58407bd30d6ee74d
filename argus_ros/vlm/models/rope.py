"""Rotary position embeddings: the frequency of each pair of a head's numbers, as in transformers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from argus_ros.core.section import Section

#: ``dynamic`` equals ``default`` within the context; longer sequences are refused.
KINDS = ("default", "dynamic", "linear", "yarn", "llama3")


@dataclass(frozen=True)
class Rope:
    """RoPE settings of config.json."""

    kind: str = "default"
    theta: float = 10000.0
    factor: float = 1.0
    original: int = 0  #: context that the model was trained with, in tokens
    low: float = 1.0  #: llama3: wavelengths above original / low are stretched
    high: float = 4.0  #: llama3: wavelengths below original / high are unchanged
    fast: float = 32.0  #: yarn: pairs with more turns in the original context are unchanged
    slow: float = 1.0  #: yarn: pairs with fewer turns are stretched
    whole: bool = True  #: yarn: these bounds are rounded to whole pairs
    scale: float = 1.0  #: of cosines and sines


def read(text: Section, context: int) -> Rope:
    """RoPE of a text_config, under either of its two key names. Raises CheckpointError."""
    given = text.section("rope_scaling")
    given = given if given.values else text.section("rope_parameters")
    kind = given.word("rope_type") or given.word("type", "default")
    if kind not in KINDS:
        key = "rope_type" if "rope_type" in given else "type"
        raise given.error(key, f"one of {', '.join(KINDS)} for the native backend")
    for section in (given, text):
        section.require("partial_rotary_factor", section.values.get("partial_rotary_factor") and 1.0)
    theta = given.number("rope_theta", text.number("rope_theta", 10000.0), 1.0)
    if kind in ("default", "dynamic"):
        return Rope(kind, theta)
    if "factor" not in given:
        raise given.error("factor", f"given for {kind}")
    factor, original = given.number("factor", 1.0), given.count("original_max_position_embeddings", context)
    if kind == "linear":
        return Rope(kind, theta, factor)
    if kind == "llama3":
        low, high = given.number("low_freq_factor", 1.0), given.number("high_freq_factor", 4.0)
        if high <= low:
            raise given.error("high_freq_factor", f"more than low_freq_factor, which is {low:g}")
        return Rope(kind, theta, factor, original, low, high)
    return Rope(
        kind,
        theta,
        factor,
        text.count("original_max_position_embeddings", original),
        fast=given.number("beta_fast", 32.0),
        slow=given.number("beta_slow", 1.0),
        whole=given.flag("truncate", True),
        scale=_yarn_scale(given, factor),
    )


def _yarn_scale(given: Section, factor: float) -> float:
    def scale(by: float) -> float:
        return 0.1 * by * math.log(factor) + 1.0 if factor > 1 else 1.0

    if "attention_factor" in given:
        return given.number("attention_factor", 1.0)
    if given.values.get("mscale") and given.values.get("mscale_all_dim"):
        return scale(given.number("mscale", 1.0)) / scale(given.number("mscale_all_dim", 1.0))
    return scale(1.0)


def frequencies(rope: Rope, width: int) -> Tensor:
    """(width / 2,) float32: radians per token, of heads ``width`` wide."""
    plain = 1.0 / rope.theta ** (torch.arange(0, width, 2, dtype=torch.float) / width)
    if rope.kind == "linear":
        return plain / rope.factor
    if rope.kind == "llama3":
        turns = rope.original * plain / (2 * math.pi)
        share = ((turns - rope.low) / (rope.high - rope.low)).clamp(0, 1)
        return plain / rope.factor * (1 - share) + plain * share
    if rope.kind == "yarn":

        def pair(turns: float) -> float:
            """The pair with this many turns within the original context."""
            return width * math.log(rope.original / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

        low, high = pair(rope.fast), pair(rope.slow)
        if rope.whole:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        stretched = (torch.arange(width // 2) - low) / (high - low if high != low else 0.001)
        share = stretched.clamp(0, 1)
        return plain / rope.factor * share + plain * (1 - share)
    return plain
