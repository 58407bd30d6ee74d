"""Decode passes of few tokens in five Triton kernels per layer (recipe ``fused_kernels``).

This module sizes and launches the kernels; their code is in ``kernels.py``. Without Triton this module can be
imported, and ``unavailable`` gives the reason.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from argus_ros.vlm.decoding.generation import FLOOR
from argus_ros.vlm.decoding.loop import COUNT, LEAST_X, LEAST_Y, LIMIT, MOST, OBJECTS, PLACE, STATE
from argus_ros.vlm.formats import grammar

if TYPE_CHECKING:
    from argus_ros.vlm.models.architecture import TextShape
    from argus_ros.vlm.models.decoder import Decoder

log = logging.getLogger(__name__)

#: Maximum number of tokens per row, and of rows.
MOST_TOKENS, MOST_ROWS = 16, 8
#: Maximum number of parts of a product's sum, which one block adds up, and of the cache.
MOST_PARTS, MOST_SPLITS = 16, 64
#: A longer sum is split into parts.
LONG = 2048
#: Maximum bytes per block: of the input, of matrices, and of keys.
TOKENS_TILE, MATRIX_TILE, KEYS_TILE = 1 << 14, 1 << 15, 1 << 15
#: Products of a query and a key per block at a time: fewer without tensor cores.
QUERIES = 1 << 15
#: Of these, one warp holds this many when a block has as many warps as fit.
WARP_TILE = 1 << 13
#: Logits per block at a time.
CHOICES, CHOICE_WARPS = 2048, 4
ATTENTION_WARPS = 4
#: The layout of a row's registers and the grammar's states, for the kernel that selects tokens.
STATES = {
    "PLACE": PLACE,
    "COUNT": COUNT,
    "STATE": STATE,
    "LEAST_X": LEAST_X,
    "LEAST_Y": LEAST_Y,
    "OBJECTS": OBJECTS,
    "MOST": MOST,
    "LIMIT": LIMIT,
    "SCALARS": LIMIT + 1,
    "FULL": grammar.FULL,
    "Y_MIN": grammar.Y_MIN,
    "X_MAX": grammar.X_MAX,
    "Y_MAX": grammar.Y_MAX,
}

Made = TypeVar("Made")


def unavailable(device: torch.device, shape: TextShape) -> str:
    """Why this device cannot run the kernels for this model; "" where it can."""
    if shape.qk_norm:
        return "not supported for models that normalise queries and keys"
    if find_spec("triton") is None:
        return "Triton is not installed"
    import triton

    if device.type == "cpu":
        return "" if triton.knobs.runtime.interpret else "needs CUDA"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "needs a GPU of compute capability 8.0 or later"
    return ""


@dataclass(frozen=True)
class Tuning:
    """Settings found by measurement. All give the same numbers up to rounding."""

    blocks: int = 132  #: minimum blocks of a long product: one for each multiprocessor
    warps: int = 0  #: per block; 0: by the size of its matrices
    split: int = 256  #: positions of the cache per block
    launch_early: bool = False  #: programmatic dependent launch: compute capability 9.0

    def __str__(self) -> str:
        early = ", launched early" if self.launch_early else ""
        return f"{self.blocks} blocks, {self.warps or 'fitting'} warps, {self.split} places{early}"

    @staticmethod
    def tried(device: torch.device) -> list[Tuning]:
        """The settings worth measuring on a device, the best known first."""
        if device.type != "cuda":
            return [Tuning(blocks=1)]
        blocks = torch.cuda.get_device_properties(device).multi_processor_count
        early = torch.cuda.get_device_capability(device) >= (9, 0)
        # The first was the fastest on an H200. There are few, as each takes seconds to compile.
        cuts = ((blocks, 4, 256), (2 * blocks, 0, 256), (4 * blocks, 0, 256), (blocks, 4, 128))
        return [Tuning(*cut, early) for cut in cuts]


@dataclass(frozen=True)
class Launch:
    """A kernel with its launch parameters, without its tensors."""

    kernel: str
    grid: tuple[int, ...]
    constants: dict[str, int]
    numbers: int  #: numbers it reads from matrices or the cache
    warps: int

    @property
    def blocks(self) -> int:
        return math.prod(self.grid)


def layer(
    shape: TextShape, rows: int, count: int, reach: int, tuning: Tuning, size: int
) -> dict[str, Launch]:
    """The kernels of a layer, in order, for ``rows`` rows of ``count`` tokens and ``reach`` positions.

    One number has ``size`` bytes.
    """
    s, tokens = shape, rows * count
    heads, half, width = s.heads * s.head_dim, s.head_dim // 2, s.width
    sides = s.heads + 2 * s.kv_heads
    turned = _product(tokens, sides * half, width, tuning, size, matrices=2)
    turned["BN"] = min(turned["BN"], _power(half))
    gated = _product(tokens, s.mlp, width, tuning, size, matrices=2)
    out, down = (_product(tokens, width, k, tuning, size, split=True) for k in (heads, s.mlp))
    # Normalising the tokens takes registers, too.
    norms = turned["MP"] if tokens > 1 else 0
    return {
        "qkv": Launch(
            "qkv",
            (sides, -(-half // turned["BN"])),
            {"K": width, "HEADS": s.heads, "KV": s.kv_heads, "HD": s.head_dim, **turned},
            sides * s.head_dim * width,
            _warps(tuning, turned, 2 * turned["BN"] + norms, size),
        ),
        **_attention(s, rows, count, reach, tuning, size),
        "out": Launch(
            "project",
            (-(-width // out["BN"]), out["SPLITS"]),
            {"K": heads, "N": width, **out},
            heads * width,
            _warps(tuning, out, out["BN"], size),
        ),
        "gate_up": Launch(
            "gate_up",
            (-(-s.mlp // gated["BN"]),),
            {"K": width, "N": s.mlp, **gated},
            2 * s.mlp * width,
            _warps(tuning, gated, 2 * gated["BN"] + norms, size),
        ),
        "down": Launch(
            "project",
            (-(-width // down["BN"]), down["SPLITS"]),
            {"K": s.mlp, "N": width, **down},
            s.mlp * width,
            _warps(tuning, down, down["BN"], size),
        ),
    }


def _attention(
    s: TextShape, rows: int, count: int, reach: int, tuning: Tuning, size: int
) -> dict[str, Launch]:
    """Attention and, where its positions are split, the combination of the parts."""
    parts = _attention_parts(s, count, reach, tuning, size)
    attention = Launch(
        "attention",
        (rows * s.kv_heads, parts["SPLITS"]),
        {"HEADS": s.heads, "KV": s.kv_heads, "HD": s.head_dim, **parts},
        2 * rows * s.kv_heads * reach * s.head_dim,
        tuning.warps or ATTENTION_WARPS,
    )
    if parts["SPLITS"] == 1:
        return {"attention": attention}
    together = {name: parts[name] for name in ("HDP", "SPLITS")}
    together |= {"HD": s.head_dim, "SP": max(2, _power(parts["SPLITS"]))}
    combine = Launch("combine", (rows * count * s.heads,), together, 0, tuning.warps or 1)
    return {"attention": attention, "combine": combine}


def head(shape: TextShape, rows: int, columns: int, tuning: Tuning, size: int) -> Launch:
    """The output layer for each row's last token."""
    cut = _product(rows, columns, shape.width, tuning, size)
    warps = _warps(tuning, cut, cut["BN"] + (cut["MP"] if rows > 1 else 0), size)
    grid = (-(-columns // cut["BN"]),)
    return Launch("logits", grid, {"K": shape.width, **cut}, columns * shape.width, warps)


def choice(rows: int, columns: int, longest: int) -> Launch:
    """The kernel after the logits, for steps of ``longest`` tokens at most."""
    block = min(_power(columns), CHOICES)
    cut = {"BC": block, "BLOCKS": -(-columns // block)}
    constants = {"LONGEST": longest, "LP": _power(longest), **cut, **STATES}
    return Launch("choose", (rows,), constants, 0, CHOICE_WARPS)


def _product(
    tokens: int, n: int, k: int, tuning: Tuning, size: int, matrices: int = 1, split: bool = False
) -> dict[str, int]:
    """The blocks of a product of ``tokens`` rows with ``matrices`` of (n, k); ``split``: along ``k`` too."""
    padded = 1 if tokens == 1 else max(16, _power(tokens))
    least, columns = (1, 16) if tokens == 1 else (8, 32)
    while columns > least and n / columns < tuning.blocks:
        columns //= 2
    splits = 1
    if split:
        wanted = max(-(-k // LONG), round(tuning.blocks * columns / n))
        splits = max(1, min(wanted, k // 256, MOST_PARTS))
    part = -(-k // (64 * splits)) * 64 if splits > 1 else k
    # A short one is loaded at once; a long one, or one of many tokens, in parts.
    room = min(TOKENS_TILE // padded, MATRIX_TILE // (columns * matrices)) // size
    inner = max(16, min(_power(part), _power(room + 1) // 2))
    cut = {"MP": padded, "BN": columns, "BK": inner}
    return {**cut, "SPLITS": splits} if split else cut


def _warps(tuning: Tuning, cut: dict[str, int], rows: int, size: int) -> int:
    """Warps of a block that holds ``rows`` rows of numbers, of matrices and of tokens that it normalises."""
    return tuning.warps or min(8, _power(max(1, rows * cut["BK"] * size // WARP_TILE)))


def _attention_parts(shape: TextShape, count: int, reach: int, tuning: Tuning, size: int) -> dict[str, int]:
    """The parts of the cache for the queries of one row and group of heads."""
    queries = max(16, _power(shape.heads // shape.kv_heads * count))
    dims = max(16, _power(shape.head_dim))
    places = max(16, min(tuning.split, KEYS_TILE // (dims * size), QUERIES // size**2 // queries))
    split = places
    while -(-reach // split) > MOST_SPLITS:
        split *= 2
    return {"HDP": dims, "MQ": queries, "SPLIT": split, "SPLITS": -(-reach // split), "BS": places}


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


class Fused:
    """A decoder's passes in fused kernels, with the decoder's weights, each (out, in) and contiguous.

    A kernel that cannot be compiled or launched turns the recipe off, with one line in the log.
    """

    def __init__(self, decoder: Decoder, one: Tuning | None, several: Tuning | None) -> None:
        """``one`` is for passes of one token, ``several`` for longer ones; None: without kernels."""
        from argus_ros.vlm.models import kernels

        self._kernels = kernels
        self.decoder, self.one, self.several = decoder, one, several
        self._matrices = [
            [matrix.t().contiguous() for matrix in (layer.qkv, layer.out, layer.gate_up, layer.down)]
            for layer in decoder.layers
        ]
        # How many of the blocks that share a result have ended; each kernel resets it to zero.
        self.arrived = torch.zeros(decoder.shape.width, dtype=torch.int32, device=decoder.embedding.device)

    def takes(self, rows: int, count: int) -> bool:
        few = rows <= MOST_ROWS and count <= MOST_TOKENS
        return few and self._tuning(rows * count) is not None

    def _tuning(self, tokens: int) -> Tuning | None:
        return self.one if tokens == 1 else self.several

    def __call__(self, x: Tensor, places: Tensor, reach: int, first: int = 0) -> Tensor | None:
        """The same as ``Decoder.__call__``; None where the plain decoder has to run the pass."""
        return self._attempt(partial(self._pass, x, places, reach, first))

    def _pass(self, x: Tensor, places: Tensor, reach: int, first: int = 0) -> Tensor:
        s, norm = self.decoder.shape, self.decoder.norm
        return F.rms_norm(self.states(x, places, reach, first), (s.width,), norm, s.eps)

    def trial(self, tuning: Tuning, x: Tensor, places: Tensor, reach: int) -> Callable[[], Tensor] | None:
        """A pass with a new tuning, which stays in use; None where it does not run."""
        self.one = self.several = tuning
        run = partial(self._pass, x, places, reach)
        try:
            run()  # compiles it, too
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            log.info("kernels of %s do not run on this device: %s", tuning, _line(error))
            return None
        return run

    def step(
        self, registers: Tensor, tables: Sequence[Tensor], longest: int, reach: int
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """The same as ``DeviceLoop._step`` with its ``tables``; None where that has to run the step."""

        def run() -> tuple[Tensor, Tensor, Tensor]:
            places = registers[:, PLACE, None] + torch.arange(longest, device=registers.device)
            states = self.states(self.decoder.embed(registers[:, LIMIT + 1 :]), places, reach)
            tuning = self._tuning(len(registers) * longest) or Tuning()
            logits = self.logits(tuning, states, tables[-1], registers)
            return (*self.choose(tuning, registers, logits, tables, longest), logits)

        return self._attempt(run)

    def _attempt(self, run: Callable[[], Made]) -> Made | None:
        try:
            return run()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of an unknown compiler, driver or GPU
            self.one = self.several = None
            log.warning("recipe fused_kernels is off from here on: %s", _line(error))
            return None

    def states(self, x: Tensor, places: Tensor, reach: int, first: int = 0) -> Tensor:
        """The hidden states before the last norm."""
        x = x.clone(memory_format=torch.contiguous_format)
        for _, run in self.launches(x, places, reach, first):
            run()
        return x

    def launches(
        self, x: Tensor, places: Tensor, reach: int, first: int = 0
    ) -> Iterator[tuple[str, Callable[[], None]]]:
        """All kernels of a pass in order, by name; ``x`` is changed in place."""
        d, s = self.decoder, self.decoder.shape
        (rows, count, width), tokens = x.shape, x.shape[0] * x.shape[1]
        places = places.contiguous()
        tuning = self._tuning(tokens) or Tuning()
        kernels = layer(s, rows, count, reach, tuning, x.element_size())
        cache = kernels["attention"].constants
        q, attended = (x.new_empty(tokens, s.heads * s.head_dim) for _ in range(2))
        y = x.new_empty(tokens, s.mlp)
        parts = max(kernels[name].constants["SPLITS"] for name in ("out", "down"))
        sums = x.new_empty(parts * tokens * width, dtype=torch.float32)
        queries = tokens * s.heads * cache["SPLITS"]
        acc, peak, total = (x.new_empty(queries * n, dtype=torch.float32) for n in (cache["HDP"], 1, 1))
        for i, (of, (qkv, out, gate_up, down)) in enumerate(zip(d.layers, self._matrices, strict=True)):
            keys, values = d.keys[i], d.values[i]
            given: dict[str, tuple[Tensor | float, ...]] = {
                "qkv": (
                    x, of.norm1, qkv, of.qkv_bias, d.cos, d.sin, places, q, keys, values,
                    tokens, count, first, d.capacity, s.eps,
                ),
                "attention": (
                    q, keys, values, places, attended, acc, peak, total,
                    count, first, d.capacity, s.head_dim**-0.5,
                ),
                "combine": (acc, peak, total, attended),
                "out": (attended, out, x, sums, self.arrived, tokens),
                "gate_up": (x, of.norm2, gate_up, y, tokens, s.eps),
                "down": (y, down, x, sums, self.arrived, tokens),
            }  # fmt: skip
            for name, launch in kernels.items():
                yield name, partial(self.launch, tuning, launch, *given[name])

    def logits(self, tuning: Tuning, states: Tensor, tokens: Tensor, registers: Tensor) -> Tensor:
        """Float32 logits (rows, columns) of ``tokens``, of the last token of each row of (rows, n, width)."""
        d, (rows, count, _) = self.decoder, states.shape
        made = states.new_empty(rows, len(tokens), dtype=torch.float32)
        kernel = head(d.shape, rows, len(tokens), tuning, states.element_size())
        self.launch(
            tuning, kernel, states, d.norm, d.head, tokens, registers[:, COUNT], made,
            rows, count, len(tokens), d.shape.eps, registers.stride(0),
        )  # fmt: skip
        return made

    def choose(
        self, tuning: Tuning, registers: Tensor, logits: Tensor, tables: Sequence[Tensor], longest: int
    ) -> tuple[Tensor, Tensor]:
        """Mask ``logits`` in place and choose: the next registers, and columns (rows, longest)."""
        rows, columns = logits.shape
        following, chosen = torch.empty_like(registers), registers.new_empty(rows, longest)
        kernel = choice(rows, columns, longest)
        self.launch(tuning, kernel, registers, logits, *tables, following, chosen, columns, float(FLOOR))
        return following, chosen

    def launch(self, tuning: Tuning, launch: Launch, *arguments: Tensor | float) -> None:
        early = tuning.launch_early
        options: dict[str, Any] = {"num_warps": launch.warps, "num_stages": 2, "PDL": early}
        if early:
            options["launch_pdl"] = True
        getattr(self._kernels, launch.kernel)[launch.grid](*arguments, **launch.constants, **options)
