"""The latency recipes (named switches), and the presets made of them.

*exact* recipes produce the reference's tokens, *bounded* ones change pixels or weights within a
tested bound, *approximate* ones may change the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace


def _recipe(doc: str, kind: str) -> bool:
    return field(default=False, metadata={"doc": doc, "kind": kind})


@dataclass(frozen=True)
class Recipes:
    """Which recipes are on. All are off by default, which is preset ``stock``."""

    direct_resize: bool = _recipe("one OpenCV pass from the camera frame to uint8 tiles", "bounded")
    device_resize: bool = _recipe("the frame is uploaded once, and cut and resized on the device", "bounded")
    uint8_transfer: bool = _recipe(
        "uint8 tiles are uploaded; normalisation folded into the patch embedding", "bounded"
    )
    pinned_async: bool = _recipe("pinned buffers, copied on a separate stream", "exact")
    prompt_cache: bool = _recipe("token ids per task, classes and tile layout are computed once", "exact")
    prefix_kv: bool = _recipe("the keys and values of the prompt before the image are kept", "exact")
    fixed_shapes: bool = _recipe("no pixel masks, position searches or hidden synchronisations", "exact")
    lean_modules: bool = _recipe(
        "fused weights, static KV buffers, only the output rows the grammar can use", "exact"
    )
    device_loop: bool = _recipe("mask, argmax and stop test stay on the device, read in chunks", "exact")
    compiled_step: bool = _recipe(
        "decode steps without a call per operation: CUDA graphs, numpy on the CPU", "exact"
    )
    fused_kernels: bool = _recipe(
        "decode steps on a GPU in five Triton kernels per layer, and two for token selection", "exact"
    )
    jump_forward: bool = _recipe("tokens that the grammar forces are appended without a step each", "exact")
    last_frame_draft: bool = _recipe(
        "the camera's previous answer is verified in one pass as a draft", "exact"
    )
    box_draft: bool = _recipe(
        "a head of the checkpoint predicts the rest of a box that has begun; verified in one pass", "exact"
    )
    overlap: bool = _recipe("the next frame is prepared while this one is generated", "exact")
    camera_batch: bool = _recipe("frames of several cameras run in one pass", "exact")
    token_budget: bool = _recipe("tiles and tokens are chosen per frame by its deadline", "approximate")
    still_gate: bool = _recipe("an unchanged scene repeats the last answer, marked REUSED", "approximate")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the recipes that are on, in the order above."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name))

    def without(self, names: Iterable[str]) -> Recipes:
        return replace(self, **dict.fromkeys(names, False))


def doc(name: str) -> str:
    """One line about a recipe: what it does and whether it is exact, bounded or approximate."""
    metadata = Recipes.__dataclass_fields__[name].metadata
    return f"{metadata['doc']} ({metadata['kind']})"


def _of_kind(*kinds: str) -> Recipes:
    return Recipes(**{f.name: f.metadata["kind"] in kinds for f in fields(Recipes)})


#: ``stock``: none. ``paper``: the paper's. ``realtime``: all exact and bounded ones (the default). ``edge``:
#: the approximate ones as well.
PRESETS = {
    "stock": Recipes(),
    "paper": Recipes(direct_resize=True, pinned_async=True, prompt_cache=True),
    "realtime": _of_kind("exact", "bounded"),
    "edge": _of_kind("exact", "bounded", "approximate"),
}


def preset(name: str) -> Recipes:
    """The recipes of a preset, or of a changed one: ``realtime-prefix_kv``, ``stock+direct_resize+overlap``.

    Raises ValueError, with the valid names.
    """
    base, *changes = re.split(r"([+-])", name)
    if base not in PRESETS:
        raise ValueError(f"unknown preset {base!r}; presets are {', '.join(PRESETS)}")
    known = {f.name for f in fields(Recipes)}
    unknown = [recipe for recipe in changes[1::2] if recipe not in known]
    if unknown:
        raise ValueError(f"unknown recipe {unknown[0]!r} in {name!r}; recipes are {', '.join(sorted(known))}")
    signs = zip(changes[1::2], changes[::2], strict=True)
    return replace(PRESETS[base], **{recipe: sign == "+" for recipe, sign in signs})
