"""Chooses the fastest settings for this device and model, by timing passes once at warm-up.

Recipes allow optimisations, some of which gain on one device and cost on another. The timings are kept in
``$XDG_CACHE_HOME/argus_ros/timings.json``, under a key of everything they depend on, so that the next start
needs no measurement. The choice never changes answers.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import statistics
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from argus_ros.vlm.decoding.drafts import PassCost
from argus_ros.vlm.formats.grammar import START, Cursor, Grammar
from argus_ros.vlm.models import compiler
from argus_ros.vlm.models.fused import Tuning

log = logging.getLogger(__name__)

#: Tokens of the passes that are timed; the second one represents all passes of several tokens.
TOKENS = 1, 2, 4, 8, 16
SEVERAL = 8
#: Tokens of a prompt, and of a prompt with a draft behind it.
PROMPT, LONGER = 64, 32
#: Number of runs for the median on a GPU; seconds of runs for the minimum on the CPU, which other processes
#: use too, and the largest number of them; and how often plain passes are timed, one after the other.
RUNS, PATIENCE, MOST, SWEEPS = 7, 0.05, 100, 4
#: Seconds after which no further kernels are tried.
ENOUGH = 30.0
#: A setting has to be faster than the default by this part: measurements vary by as much.
MARGIN = 0.03
#: Upper limit of a plausible time, milliseconds.
LONGEST = 1e9
#: Number of keys in the file; the oldest are removed.
KEPT = 32
#: Files whose changes make timings invalid.
CODE = (
    *("kernels.py", "fused.py", "row_kernels.py", "elementwise.py", "decoder.py", "vision.py"),
    *("host.py", "host.c"),
)
#: Tokens of the answer with which chunks of steps are timed, and steps per chunk, the default first. The
#: answer ends within a chunk, as answers do.
ANSWER, CHUNKS = 29, (2, 1, 4, 8)
#: Where a frame is cut into tiles, the default first.
RESIZES = ON_DEVICE, ON_HOST = "resize on the device", "resize on the host"
#: Tokens of a prompt; it and a tile in torch's operations, the default, and in kernels for long rows.
LONG = 128
PROMPTS = "long prompt, plain", "long prompt, kernels"
VISIONS = "tile, plain", "tile, kernels"
#: Tokens of a random answer, from which the share of forced tokens is measured.
SAMPLE = 400

#: Milliseconds by measurement: ``"8 tokens, plain"``, ``"1 token, 132 blocks, 4 warps, 256 places"``.
Timings = dict[str, float]
#: Measures the milliseconds of a function.
Timer = Callable[[Callable[[], object]], float]


@dataclass(frozen=True)
class Choices:
    """The settings. ``one`` and ``several``: kernels for passes of one token and of more; None: plain."""

    timings: Mapping[str, float]
    one: Tuning | None
    several: Tuning | None
    behind: PassCost  #: of a draft in the prefill
    after: PassCost  #: of a draft in a later pass
    chunk: int = CHUNKS[0]  #: steps between two results that the host reads
    on_device: bool = True  #: whether a frame is cut into tiles on the device
    long_prompts: bool = False  #: whether prompts use kernels for long rows
    long_vision: bool = False  #: whether the vision encoder does

    @staticmethod
    def of(timings: Mapping[str, float], tried: list[Tuning], step: float = 0.0) -> Choices:
        """``step``: milliseconds from one choice of a token to the next, with the work around the pass."""
        one, several = (_fastest(timings, count, tried) for count in (1, SEVERAL))
        took = {n: _of_pass(timings, n, several if n > 1 else one) for n in TOKENS}
        # A token costs at most a pass of its own; a higher measurement comes from a busy machine. Two tokens
        # are often padded to four.
        whole, more = max(step, took[1]), (took[16] - took[4]) / 12
        each = _part(more, whole)
        any = _part(took[4] - took[1] - 3 * each * whole, whole)
        longer = _part((timings["longer prompt"] - timings["prompt"]) / LONGER, whole)
        chunk = quickest(timings, CHUNKS, chunk_name)
        taken = (quickest(timings, ways) for ways in (RESIZES, PROMPTS, VISIONS))
        chosen = (way in (ON_DEVICE, PROMPTS[1], VISIONS[1]) for way in taken)
        return Choices(timings, one, several, PassCost(0.0, longer), PassCost(any, each), chunk, *chosen)

    def pays_to_jump(self, grammar: Grammar, longest: int) -> bool:
        """Whether steps of ``longest`` tokens, with the tokens that the grammar forces, beat steps of one."""
        count = next((n for n in TOKENS if n >= longest), TOKENS[-1])
        with_jump = _of_pass(self.timings, count, self.several if count > 1 else self.one)
        return with_jump * (1 - forced_share(grammar)) < _of_pass(self.timings, 1, self.one)

    def __str__(self) -> str:
        said = []
        for name, count, tuning in (("one token", 1, self.one), ("several", SEVERAL, self.several)):
            plain, taken = (_of_pass(self.timings, count, way) for way in (None, tuning))
            way = (
                f"kernels of {tuning} {taken:.2f} ms, plain {plain:.2f}"
                if tuning
                else f"plain {plain:.2f} ms"
            )
            said.append(f"a pass of {name} {way}")
        said.append(
            f"a drafted token {self.after.each:.3f} of a step ({self.after.any:.3f} for the first), "
            f"in the prefill {self.behind.each:.3f}"
        )
        if (name := chunk_name(self.chunk)) in self.timings:
            said.append(f"{name} {self.timings[name]:.2f} ms")
        said += [
            f"{name} {self.timings[name]:.2f} ms" + ", not taken" * (name != quickest(self.timings, ways))
            for ways in (RESIZES, PROMPTS, VISIONS)
            for name in ways
            if name in self.timings
        ]
        return "; ".join(said)


def chunk_name(steps: int) -> str:
    return f"{ANSWER} tokens in chunks of {steps}"


def name_of(count: int, tuning: Tuning | None) -> str:
    return f"{count} token{'s' * (count > 1)}, {tuning or 'plain'}"


def measure(
    run: Callable[[int, Tuning | None], Callable[[], object] | None],
    tried: list[Tuning],
    timer: Timer,
    clock: Callable[[], float] = time.monotonic,
    ways: Mapping[str, Callable[[], object]] | None = None,
    way_timer: Timer | None = None,
) -> Timings:
    """Time passes, and other ways by their names, which the host takes part in.

    ``run(tokens, kernels)`` returns a pass, or None where it is not possible.
    """
    timings = Timings()

    def add(name: str, pass_: Callable[[], object] | None, timer: Timer = timer) -> None:
        if pass_:
            timings[name] = min(timer(pass_), timings.get(name, math.inf))

    for _ in range(SWEEPS):  # so that a moment in which the machine is busy does not decide
        add("prompt", run(PROMPT, None))
        add("longer prompt", run(PROMPT + LONGER, None))
        for count in TOKENS:
            add(name_of(count, None), run(count, None))
    for name, way in (ways or {}).items():
        add(name, way, way_timer or timer)
    started = clock()
    for tuning in tried:  # the best known first, for one token and for several
        if clock() - started > ENOUGH:
            log.info("no further kernels are tried after %.0f s", clock() - started)
            break
        for count in (1, SEVERAL):
            add(name_of(count, tuning), run(count, tuning))
    chosen = _fastest(timings, SEVERAL, tried)
    for count in TOKENS[1:]:
        if chosen and count != SEVERAL:
            add(name_of(count, chosen), run(count, chosen))
    return timings


def timer_of(device: torch.device) -> Timer:
    """The function that times passes on a device."""
    return replayed if device.type == "cuda" else clock_timer_of(device)


def clock_timer_of(device: torch.device) -> Timer:
    """The function that times what the host takes part in, until the device has done all work."""

    def called(run: Callable[[], object]) -> float:
        best, left = math.inf, PATIENCE
        for _ in range(MOST):
            started = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            took = time.perf_counter() - started
            best, left = min(best, took), left - took
            if left < 0:
                break
        return 1e3 * best

    return called


def replayed(run: Callable[[], object]) -> float:
    """Median milliseconds of a CUDA graph's replay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        run()
    times = []
    for _ in range(2 * RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def forced_share(grammar: Grammar) -> float:
    """The share of tokens that the grammar forces, in an answer whose other tokens are random."""
    cursor, rng, forced, count = Cursor(grammar, 0), np.random.default_rng(0), 0, 0
    while count < SAMPLE and not cursor.done:
        column = cursor.forced()
        forced += column >= 0
        if column < 0:
            allowed = np.flatnonzero(cursor.allowed())
            going_on = allowed[(allowed < grammar.bins) | (allowed >= grammar.bins + grammar.ends)]
            column = int(rng.choice(going_on if len(going_on) else allowed))
        cursor.advance(column)
        count += 1
    return forced / max(count, 1)


def _part(cost: float, whole: float) -> float:
    return min(max(cost / whole, 0.0), 1.0)


def _of_pass(timings: Mapping[str, float], count: int, tuning: Tuning | None) -> float:
    return timings.get(name_of(count, tuning), timings[name_of(count, None)])


def endless(vocabulary: int) -> Grammar:
    """Free text of the first tokens, to the limit of an answer."""
    tokens = np.arange(min(vocabulary, 64))
    allowed = np.ones((START + 1, len(tokens)), bool)
    allowed[:, 0] = False
    return Grammar(tokens, allowed, np.full(allowed.shape, START, np.int32), 0, 0, 1, None)


Way = TypeVar("Way")


def quickest(timings: Mapping[str, float], ways: Sequence[Way], name: Callable[[Way], str] = str) -> Way:
    """The fastest of the ways that were timed; the first one, unless another is clearly faster."""
    timed = [way for way in ways if name(way) in timings]
    best = min(timed, key=lambda way: timings[name(way)], default=ways[0])
    first = timings.get(name(ways[0]), math.inf)
    return best if timings.get(name(best), math.inf) < (1 - MARGIN) * first else ways[0]


def _fastest(timings: Mapping[str, float], count: int, tried: list[Tuning]) -> Tuning | None:
    there = [tuning for tuning in tried if name_of(count, tuning) in timings]
    best = min(there, key=lambda tuning: timings[name_of(count, tuning)], default=None)
    if best and timings[name_of(count, best)] < (1 - MARGIN) * timings[name_of(count, None)]:
        return best
    return None


# --- what is kept -----------------------------------------------------------------------------------


def key_of(device: torch.device, *model: object) -> str:
    """A hash of everything timings depend on: machine, libraries, these modules, and the model."""
    if device.type == "cuda":
        where = [torch.cuda.get_device_name(device), *_drivers(), f"CUDA {torch.version.cuda}"]
    else:
        where = [platform.machine(), f"{os.cpu_count()} processors", f"{torch.get_num_threads()} threads"]
    try:
        import triton

        where.append(f"triton {triton.__version__}")
    except ImportError:
        pass
    models = Path(__file__).parents[1] / "models"
    files = (models / name for name in CODE)
    code = zlib.crc32(b"".join(file.read_bytes() for file in files))
    return ", ".join([*where, f"torch {torch.__version__}", f"code {code:08x}", *map(str, model)])


def _drivers() -> list[str]:
    """The version of NVIDIA's driver, of a desktop card or of a Jetson."""
    found = []
    for file in (Path("/proc/driver/nvidia/version"), Path("/etc/nv_tegra_release")):
        try:
            found.append(file.read_text(errors="replace").splitlines()[0].strip())
        except (OSError, IndexError):
            continue
    return found


class Kept:
    """Timings of earlier starts in a file. Without it everything is measured again."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @staticmethod
    def of_user() -> Kept | None:
        """The file in the user's cache; None without a home folder or an absolute path."""
        folder = compiler.cache()
        return Kept(folder / "timings.json") if folder else None

    def get(self, key: str, ways: Iterable[str] = ()) -> Timings | None:
        """The timings of a key, with those of ``ways``; None where one of them is missing or invalid."""
        found = self._read().get(key)
        if found is None:
            return None
        needed = {*ways, "prompt", "longer prompt", *(name_of(count, None) for count in TOKENS)}
        if isinstance(found, dict) and needed <= set(found) and all(map(_is_time, found.values())):
            return dict(found)
        log.warning("%s has invalid timings for %s; they are measured again", self.file, key)
        return None

    def put(self, key: str, timings: Timings) -> None:
        kept = {**{k: v for k, v in self._read(quiet=True).items() if k != key}, key: timings}
        kept = dict(list(kept.items())[-KEPT:])
        mine = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            mine.write_text(json.dumps(kept, indent=1))
            mine.replace(self.file)  # atomic, also with other writers
        except OSError as error:
            log.warning("timings cannot be saved (%s); the next start will measure again", error)

    def _read(self, quiet: bool = False) -> dict[str, object]:
        try:
            found = json.loads(self.file.read_text())
            if isinstance(found, dict):
                return found
            problem: object = "it does not contain a JSON object"
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            problem = error
        if not quiet:
            log.warning("%s cannot be read (%s); everything is measured again", self.file, problem)
        return {}


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value < LONGEST
