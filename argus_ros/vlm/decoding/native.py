"""The native backend: lean modules, static buffers, and a minimal decode loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from argus_ros.core.checkpoint import Checkpoint
from argus_ros.core.recipes import Recipes
from argus_ros.vlm.decoding import choosing
from argus_ros.vlm.decoding.choosing import Choices, Kept, Timer
from argus_ros.vlm.decoding.drafts import PassCost
from argus_ros.vlm.decoding.generation import Decoding, Generated, Job, Limits, Model, Stopwatch
from argus_ros.vlm.decoding.loop import CHUNK, DeviceLoop, longest
from argus_ros.vlm.decoding.upload import Upload, up
from argus_ros.vlm.formats.grammar import Grammar
from argus_ros.vlm.formats.tokens import Prompt
from argus_ros.vlm.models import architecture
from argus_ros.vlm.models.boxes import BoxHead
from argus_ros.vlm.models.decoder import FEW, GRAIN, Decoder
from argus_ros.vlm.models.elementwise import TORCH, Elementwise, Kernels
from argus_ros.vlm.models.fused import MOST_TOKENS, Fused, Tuning
from argus_ros.vlm.models.graphs import Graphs
from argus_ros.vlm.models.host import Steps, steps_for
from argus_ros.vlm.models.vision import Normalisation, VisionTower
from argus_ros.vlm.models.weights import Weights

log = logging.getLogger(__name__)

#: Number of prompts and grammars whose tensors are kept on the device.
KEPT = 32

#: Default cost of drafted tokens in the prefill and in a later pass, on the CPU and on a device, where
#: reading the weights takes most of the time.
ON_CPU = PassCost(0.0, 0.25), PassCost(0.2, 0.15)
ON_DEVICE = PassCost(0.0, 0.003), PassCost(0.0, 0.003)

#: The head for whole boxes is used below this cost of a drafted token: every second edge that it predicts is
#: right, and three of them save 0.9 of a step.
BOX_PAYS = 0.25

#: Passes of more tokens than this are padded to a multiple of it, where shapes are static.
FINE = 32

#: Normalised hidden states of tokens, (n, width), on the device or on the host.
Hidden = Tensor | np.ndarray


class NativeModel(Model):
    """A checkpoint in this package's own modules. Not thread-safe."""

    def __init__(
        self, checkpoint: Checkpoint, recipes: Recipes, device: torch.device, dtype: torch.dtype
    ) -> None:
        vision, text = architecture.read(checkpoint)
        self.device, self._recipes = device, recipes
        normalisation = Normalisation.read(checkpoint)
        self.upload = Upload(recipes, device, normalisation, vision.image)
        self._kernels: Kernels | None = None  # for long rows, where they are faster
        with Weights(checkpoint, device, dtype) as weights:
            self._tower = tower = VisionTower(
                weights, checkpoint.native, vision, text.width, normalisation, recipes.uint8_transfer
            )
            self.decoder = Decoder(weights, text)
            if recipes.fused_kernels:
                first = Tuning.tried(device)[0]
                self.decoder.fused = Fused(self.decoder, first, first)
                self._kernels = Kernels()
            weights.check_all_taken()
            self.parameters = weights.parameters
        self._prefixes: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._fronts: dict[int, tuple[int, ...]] = {}  # the prefix at the front of each row's buffers
        self._rests: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._heads: dict[int, Head] = {}
        self.loops: dict[int, DeviceLoop] = {}
        on_host = device.type == "cpu" and dtype == torch.float32 and not recipes.device_loop
        self._host: Steps | None = steps_for(self.decoder) if recipes.compiled_step and on_host else None
        self._static = recipes.compiled_step and not on_host  # the same operations for many lengths
        self._pool = torch.cuda.graph_pool_handle() if self._static and device.type == "cuda" else None
        self.vision, self.decode = self._recorded(tower), self._recorded(self.decoder)
        self._box_head: BoxHead | None = None
        if recipes.box_draft and checkpoint.vocabulary:
            self._box_head = BoxHead.read(checkpoint.path, checkpoint.vocabulary.bins, text.width, device)
        self._boxes = self._box_head  #: where it pays
        self.choices: Choices | None = None  #: measured settings; None: defaults from other machines
        self.pass_costs = ON_CPU if device.type == "cpu" else ON_DEVICE
        self._jumping: dict[int, tuple[Grammar, bool]] = {}  # whether steps include forced tokens
        self._may_hold_nan = False  # in buffers that are kept between frames

    @torch.inference_mode()
    def choose(
        self,
        key: Sequence[object],
        timer: Timer | None = None,
        kept: Kept | None = None,
        step: float = 0.0,
        ways: Mapping[str, Callable[[], object]] | None = None,
    ) -> bool:
        """Measure the fastest settings, or read them by ``key`` from ``kept``; returns whether measured.

        ``step``: milliseconds of a whole decode step; ``ways`` are timed, too, by their names. Buffers have
        the length that earlier frames needed, and passes are timed at their end. Raises RuntimeError where
        timing fails; settings then stay unchanged.
        """
        fused = self.decoder.fused
        tried = Tuning.tried(self.device) if fused else []
        whole = choosing.key_of(
            self.device, *key, self.decoder.embedding.dtype, self.decoder.capacity, *map(str, tried)
        )
        ways = dict(ways or {})
        if self._recipes.device_loop and (timer or self.device.type == "cuda"):
            ways |= self._chunks()  # on a CPU there is no device to wait for
        if self._kernels and self.device.type == "cuda":  # the interpreter on a CPU would take minutes
            ways |= self._long_rows(self._kernels)
        timings = kept.get(whole, ways) if kept else None
        measured = timings is None
        if timings is None:
            before = (fused.one, fused.several) if fused else (None, None)
            try:
                timings = choosing.measure(
                    self._trial,
                    tried,
                    timer or choosing.timer_of(self.device),
                    ways=ways,
                    way_timer=timer or choosing.clock_timer_of(self.device),
                )
            finally:
                if fused:
                    fused.one, fused.several = before
            if kept:
                kept.put(whole, timings)
        self.choices = Choices.of(timings, tried, step)
        if fused:
            fused.one, fused.several = self.choices.one, self.choices.several
        self.pass_costs = self.choices.behind, self.choices.after
        self.decoder.long.kernels = self._kernels if self.choices.long_prompts else None
        self._tower.way.kernels = self._kernels if self.choices.long_vision else None
        self._boxes = self._box_head if self.choices.after.each < BOX_PAYS else None
        for made in (self.loops, self._jumping):
            made.clear()
        self.decode.clear()
        self.vision.clear()
        return measured

    def _trial(self, count: int, tuning: Tuning | None) -> Callable[[], object] | None:
        """A pass of ``count`` tokens for timing; None where it is not possible."""
        fused, end = self.decoder.fused, self.decoder.capacity
        if self._host and count <= MOST_TOKENS:
            segment = 0, end - count, np.zeros(count, np.int64)
            return lambda: self._host and self._host([segment])
        x = self.decoder.embed(torch.zeros(1, count, dtype=torch.long, device=self.device))
        places = torch.arange(end - count, end, device=self.device)[None]
        if tuning is None:
            return lambda: self.decoder.plain(x, places, end)
        assert fused is not None
        return fused.trial(tuning, x, places, end)

    def _chunks(self) -> dict[str, Callable[[], object]]:
        """An answer in chunks of each size, for timing."""
        grammar = choosing.endless(len(self.decoder.head))
        limits, prompt = Limits(choosing.ANSWER), Prompt((), (), 0)
        job = Job(prompt, grammar, np.empty((0, 0, 0, 3), np.uint8), limits, logits=False)

        def chunks(steps: int) -> Callable[[], object]:
            loop = self._new_loop(grammar, Head(grammar, self.decoder.head), jump=False, chunk=steps)

            def run() -> None:
                decoding = Decoding(job, 0, jump=False)
                decoding.length, decoding.pending = self.decoder.capacity - 2 * choosing.ANSWER, [1]
                for _ in loop([decoding]):
                    pass

            return run

        return {choosing.chunk_name(steps): chunks(steps) for steps in choosing.CHUNKS}

    def _long_rows(self, kernels: Kernels) -> dict[str, Callable[[], object]]:
        """A prompt and a tile in torch's operations and in kernels for long rows, for timing."""
        count, side = choosing.LONG, self._tower.shape.image
        x = self.decoder.embed(torch.zeros(1, count, dtype=torch.long, device=self.device))
        places = torch.arange(count, device=self.device)[None]
        dtype = torch.uint8 if self._recipes.uint8_transfer else torch.float32
        tile = torch.zeros(1, side, side, 3, dtype=dtype, device=self.device)

        def prompt(ops: Elementwise) -> Callable[[], object]:
            run = self._recorded(lambda x, places: self.decoder.plain(x, places, count, 0, 0, ops))
            return lambda: run(x, places)

        def vision(ops: Elementwise) -> Callable[[], object]:
            run = self._recorded(lambda tile: self._tower.encode(tile, ops))
            return lambda: run(tile)

        ways: dict[str, Callable[[], object]] = {}
        for names, way in ((choosing.PROMPTS, prompt), (choosing.VISIONS, vision)):
            try:
                way(kernels)()  # compiles them
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # of an unknown compiler, driver or GPU
                log.warning("the kernels for long rows do not run on this device: %s", error)
                continue
            ways |= {names[0]: way(TORCH), names[1]: way(kernels)}
        return ways

    @torch.inference_mode()
    def generate_all(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Generated]]:
        """Answer frames together, several in each pass. Each frame has its own limits, deadline and end."""
        watch = Stopwatch(self.device)
        self._clear_nan()
        tiles = [self.upload(job.tiles) for job in jobs]
        watch.mark("transfer")
        pixels = torch.cat(tiles) if len(tiles) > 1 else tiles[0]
        seen = self.vision(pixels)
        visual = seen.split([len(seen) // len(pixels) * len(t) for t in tiles])
        watch.mark("vision")
        decodings = [Decoding(job, row, self._jumps(job.grammar)) for row, job in enumerate(jobs)]
        for decoding in decodings:
            decoding.propose(self.pass_costs[0])
        logits = self.prefill(decodings, visual)
        watch.mark("prefill")
        alive = decodings
        for _ in self._rounds(decodings, logits):
            watch.mark("first_token")
            for decoding in alive:
                if decoding.ended:
                    self._may_hold_nan |= not decoding.sound
                    yield decoding.row, decoding.generated(watch.times(), len(visual[decoding.row]))
            alive = [decoding for decoding in alive if not decoding.ended]

    def _rounds(self, decodings: Sequence[Decoding], logits: list[np.ndarray]) -> Iterator[None]:
        """The decode loop: continue all unfinished answers until none is left."""
        alive = decodings
        while True:
            for decoding, chosen_by in zip(alive, logits, strict=True):
                decoding.take(chosen_by)
                if self._boxes and decoding.begins_box and decoding.job.draft:
                    decoding.job.draft.add_box(self._boxes(decoding.hidden[decoding.chosen_by]))
            yield
            while alive := [decoding for decoding in decodings if not decoding.ended]:
                for decoding in alive:
                    decoding.propose(self.pass_costs[1])
                loop = self._loop(alive[0].grammar)
                if not (loop and loop.takes(alive)):
                    break
                yield from loop(decodings)
            if not alive:
                return
            logits = self.append(decodings)

    def _loop(self, grammar: Grammar) -> DeviceLoop | None:
        # Drafts need passes one by one, without chunks, and save more passes than chunks would gain.
        if not self._recipes.device_loop or (self._boxes and grammar.bins):
            return None
        if id(grammar) not in self.loops:
            jump, chunk = self._jumps(grammar), self.choices.chunk if self.choices else CHUNK
            _keep(self.loops, id(grammar), self._new_loop(grammar, self.head(grammar), jump, chunk))
        return self.loops[id(grammar)]

    @property
    def predicts_boxes(self) -> bool:
        """Whether the head for whole boxes is in use."""
        return self._boxes is not None

    def _new_loop(self, grammar: Grammar, head: Head, jump: bool, chunk: int) -> DeviceLoop:
        logits, recorded = head.logits, self._recorded
        return DeviceLoop(grammar, logits, self.decoder, jump=jump, recorded=recorded, chunk=chunk)

    def _jumps(self, grammar: Grammar) -> bool:
        """Whether forced tokens are appended without a step each.

        This always gains where a step has no fixed length; steps of a device loop have one.
        """
        recipes = self._recipes
        looped = recipes.device_loop and not (self._boxes and grammar.bins)
        if not (recipes.jump_forward and looped and self.choices):
            return recipes.jump_forward
        if id(grammar) not in self._jumping:
            pays = self.choices.pays_to_jump(grammar, longest(grammar))
            _keep(self._jumping, id(grammar), (grammar, pays))
        return self._jumping[id(grammar)][1]

    def _recorded(self, function: Callable[..., Any]) -> Graphs:
        """A function of tensors, replayed from CUDA graphs with recipe ``compiled_step``."""
        return Graphs(function, self.device, self._pool, on=self._static)

    def prefill(self, decodings: Sequence[Decoding], visual: Sequence[Tensor]) -> list[np.ndarray]:
        """Run prompts, each with its guess; returns logits (1 + guess, columns) from their last tokens on."""
        prompts = [decoding.job.prompt for decoding in decodings]
        if not self._recipes.prefix_kv:
            prompts = [Prompt((), prompt.ids, prompt.image_token) for prompt in prompts]
        longest = max(decoding.job.limits.max_tokens for decoding in decodings)
        # All rows run to the length of the longest; shorter ones are padded at their end.
        most = max(len(p.prefix) for p in prompts) + max(len(p.rest) for p in prompts) + 2 * longest + FINE
        if self.decoder.reserve(len(prompts), most):
            self._fronts.clear()
            self.loops.clear()
            self.decode.clear()
        for row, prompt in enumerate(prompts):
            self._restore(row, prompt.prefix)
        guesses = [up(torch.from_numpy(decoding.tokens), self.device) for decoding in decodings]
        count = max(len(p.rest) + len(guess) for p, guess in zip(prompts, guesses, strict=True))
        ids = torch.zeros(len(prompts), self._filled(count), dtype=torch.long, device=self.device)
        rests = [self._rest(prompt) for prompt in prompts]
        for row, ((rest, _), guess) in enumerate(zip(rests, guesses, strict=True)):
            ids[row, : len(rest)] = rest
            ids[row, len(rest) : len(rest) + len(guess)] = guess
        x = self.decoder.embed(ids)
        for row, (_, places) in enumerate(rests):
            x[row, places] = visual[row]
        hidden = self._pass(x, [len(prompt.prefix) for prompt in prompts])
        for decoding, prompt in zip(decodings, prompts, strict=True):
            decoding.length = len(prompt.ids)
            decoding.hidden = hidden[
                decoding.row, len(prompt.rest) - 1 : len(prompt.rest) + len(decoding.guess)
            ]
        return [self.head(decoding.grammar)(decoding.hidden) for decoding in decodings]

    def append(self, decodings: Sequence[Decoding]) -> list[np.ndarray]:
        """Run the chosen and guessed tokens of unfinished answers; returns logits (1 + guess, columns)."""
        alive = [decoding for decoding in decodings if not decoding.ended]
        tokens = {decoding.row: decoding.tokens for decoding in alive}
        hidden: Sequence[Hidden]
        if self._host:
            joined = self._host([(decoding.row, decoding.length, tokens[decoding.row]) for decoding in alive])
            hidden = np.split(joined, np.cumsum([len(ids) for ids in tokens.values()])[:-1])
        else:
            count = self._filled(max(map(len, tokens.values())))
            ids = torch.zeros(len(decodings), count, dtype=torch.long)
            for row, new in tokens.items():
                ids[row, : len(new)] = torch.from_numpy(new)
            x = self.decoder.embed(up(ids, self.device))
            states = self._pass(x, [decoding.length for decoding in decodings])
            hidden = [states[row, : len(new)] for row, new in tokens.items()]
        for decoding in alive:
            decoding.passes += 1
        for decoding, rows in zip(alive, hidden, strict=True):
            decoding.hidden = rows[-1 - len(decoding.guess) :]
        return [self.head(decoding.grammar)(decoding.hidden) for decoding in alive]

    def _pass(self, x: Tensor, starts: Sequence[int], row: int = 0) -> Tensor:
        """Run (rows, n, width) in torch, each row from its start on; returns the hidden states."""
        count, start = x.shape[1], starts[0]
        reach = max(starts) + count
        # Created on the device: copies from the host would have to wait for it.
        places = torch.stack([torch.arange(s, s + count, device=self.device) for s in starts])
        # A prompt after a prefix: few shapes, so that a recording can have a fixed start.
        if count > FEW and start <= count and len(set(starts)) == 1:
            return self.decode(x, places, reach=reach, first=row, start=start)
        if self._static:
            reach = -(-reach // GRAIN) * GRAIN
        return self.decode(x, places, reach=reach, first=row)

    def _filled(self, count: int) -> int:
        """The padded length of a pass of ``count`` tokens; few lengths mean few shapes."""
        if not self._static:
            return count
        return 1 << (count - 1).bit_length() if count < FINE else -(-count // FINE) * FINE

    def _restore(self, row: int, prefix: tuple[int, ...]) -> None:
        """Write the keys and values of ``prefix`` to the front of a row; they are computed once."""
        if self._fronts.get(row) == prefix:
            return
        keys, values = (kept[:, row, :, : len(prefix)] for kept in (self.decoder.keys, self.decoder.values))
        if prefix and prefix not in self._prefixes:
            ids = torch.tensor([prefix], dtype=torch.long, device=self.device)
            self._pass(self.decoder.embed(ids), [0], row)
            _keep(self._prefixes, prefix, (keys.clone(), values.clone()))
        elif prefix:
            keys[:], values[:] = self._prefixes[prefix]
        self._fronts[row] = prefix

    def _clear_nan(self) -> None:
        """Clear the buffers after a frame with NaN: attention also multiplies masked positions."""
        if self._may_hold_nan:
            self._prefixes.clear()
            self._fronts.clear()
            self.decoder.clear()
            self._may_hold_nan = False

    def free(self) -> None:
        """Free everything kept between frames that can be computed again."""
        for kept in (self._prefixes, self._fronts, self._rests, self._heads, self.loops):
            kept.clear()
        self.vision.clear()
        self.decode.clear()
        super().free()

    def _rest(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """Token ids from the image on, and the indices of the visual tokens among them."""
        if prompt.rest not in self._rests:
            ids = torch.tensor(prompt.rest)
            places = (ids == prompt.image_token).nonzero().flatten()
            _keep(self._rests, prompt.rest, (ids.to(self.device), places.to(self.device)))
        return self._rests[prompt.rest]

    def head(self, grammar: Grammar) -> Head:
        if id(grammar) not in self._heads:
            _keep(self._heads, id(grammar), Head(grammar, self.decoder.head))
        return self._heads[id(grammar)]


class Head:
    """The output layer for one grammar."""

    def __init__(self, grammar: Grammar, weight: Tensor) -> None:
        self.grammar = grammar
        # Only the rows for the grammar's tokens are computed, where a copy of them is worth it.
        self._all = 2 * len(grammar.tokens) > len(weight)
        self._used = torch.from_numpy(grammar.tokens).to(weight.device)
        self._weight = weight.t() if self._all else weight[self._used].t().contiguous()

    @np.errstate(all="ignore")
    def __call__(self, hidden: Hidden) -> np.ndarray:
        """Hidden states (n, width) to logits (n, columns), float32, on the host."""
        if isinstance(hidden, Tensor):
            return self.logits(hidden).cpu().numpy()
        logits = hidden @ self._weight.numpy()
        return logits[:, self.grammar.tokens] if self._all else logits

    def logits(self, hidden: Tensor) -> Tensor:
        """The same on the device."""
        logits = (hidden @ self._weight).float()
        return logits[:, self._used] if self._all else logits


def _keep(cache: dict[Any, Any], key: object, value: object) -> None:
    """Add to a bounded cache; the oldest entry is removed."""
    if len(cache) >= KEPT:
        del cache[next(iter(cache))]
    cache[key] = value
