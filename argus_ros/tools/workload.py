"""One measured frame from pixels to answer, for each preset on the same weights.

All answers have the same number of tokens, for any weights.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL.Image
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core import recipes
from argus_ros.core.checkpoint import Checkpoint
from argus_ros.core.image import Image, Region
from argus_ros.core.preparation import Prepared, fill, plan
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.recipes import Recipes
from argus_ros.core.types import Task
from argus_ros.vlm.decoding.generation import Frame, Limits
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.decoding.reference import TransformersModel
from argus_ros.vlm.engine import engines
from argus_ros.vlm.engine.generic import GenericEngine
from argus_ros.vlm.engine.native import Engine, recipes_in_force
from argus_ros.vlm.formats import answers, chat
from argus_ros.vlm.formats.grammar import FULL, Grammar
from argus_ros.vlm.formats.tokens import Prompt
from argus_ros.vlm.models import architecture, fused
from argus_ros.vlm.processors import stock_processor

#: Classes for a model with an open vocabulary.
CLASSES = ("person", "car", "bicycle", "dog", "chair", "bottle", "door", "robot")


@dataclass(frozen=True)
class Sample:
    """The times of one frame, in seconds."""

    preprocess: float  #: pixels to the model's input, on the host
    ttft: float  #: pixels to the first token
    total: float  #: pixels to the answer
    tokens: int
    passes: int  #: forward passes after prefill
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def per_token(self) -> float:
        return (self.total - self.ttft) / max(self.tokens - 1, 1)


class Runner(Protocol):
    """A way to answer a frame."""

    recipes: Recipes
    checkpoint: Checkpoint
    weight_bytes: int
    device: torch.device
    dtype: str

    def __call__(self, frame: np.ndarray) -> Sample: ...


@dataclass(frozen=True)
class Setting:
    """The common settings of all runners of a measurement."""

    checkpoint: Path
    tokens: int
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0


def task_of(checkpoint: Checkpoint) -> Task:
    """The task: detection where the model supports it, else a caption."""
    vocabulary = checkpoint.vocabulary
    if vocabulary is None or "detect" not in vocabulary.tasks:
        return Task("caption")
    return Task("detect", vocabulary.classes or CLASSES)


def picture_options(checkpoint: Checkpoint) -> dict[str, Any]:
    """The family processor's arguments for its image processor, to call that one directly."""
    return checkpoint.native.asked


def endless(grammar: Grammar) -> Grammar:
    """The grammar without an end, so that answers stop at the token limit."""
    allowed = grammar.allowed.copy()
    allowed[:, grammar.bins : grammar.bins + grammar.ends] = False
    allowed[FULL] = grammar.allowed[FULL]
    return replace(grammar, allowed=allowed, max_objects=1 << 30)


class Preparation:
    """Prepares pixels as uint8 tiles or, for an engine that cuts them, as a frame, in a reused buffer."""

    def __init__(self, checkpoint: Checkpoint, on: Recipes, bytes: int = 0) -> None:
        self._tiling, self._on = checkpoint.tiling, on
        bytes = bytes or self._tiling.max_tiles * self._tiling.tile**2 * 3
        self._slot = torch.empty(bytes, dtype=torch.uint8, pin_memory=on.pinned_async).numpy()
        plain = on.direct_resize or on.device_resize
        self._stock = None if plain else stock_processor(checkpoint).image_processor
        self._asked = picture_options(checkpoint)

    def __call__(self, frame: np.ndarray) -> tuple[Prepared, np.ndarray]:
        height, width = frame.shape[:2]
        if self._stock:
            prepared = Prepared(*plan(width, height, self._tiling), Region(0, 0, width, height))
            pixels = prepared.pixels(self._slot, self._tiling.tile)
            pixels[:] = stock_tiles(self._stock, frame, **self._asked)
            return prepared, pixels
        image = Image(frame, "rgb8", width, height, 3 * width)
        prepared = fill(self._slot, image, None, self._tiling, self._on.device_resize)
        return prepared, prepared.pixels(self._slot, self._tiling.tile)


def stock_tiles(processor: Any, frame: np.ndarray, **asked: Any) -> np.ndarray:
    """The stock image processor's tiles as uint8 (tiles, side, side, 3), before normalisation."""
    raw = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}
    pixels = np.asarray(processor([frame], **raw, **asked)["pixel_values"])
    planes = pixels.reshape(-1, *pixels.shape[-3:])
    return planes.round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


class EngineRunner:
    """The engine on prepared tiles."""

    def __init__(self, setting: Setting, preset: str) -> None:
        config = EngineConfig(
            str(setting.checkpoint),
            device=setting.device,
            dtype=setting.dtype,
            preset=preset,
            threads=setting.threads,
        )
        self.engine = Engine(config)
        self.engine.warm_up()
        self.model = self.engine.model
        assert isinstance(self.model, NativeModel)  # presets with lean_modules have one
        self.chosen = str(self.model.choices)  #: settings chosen by timing
        self.device, self.recipes = self.model.device, self.engine.recipes
        self.dtype = self.engine.info.dtype
        self.weight_bytes = self.engine.info.parameters * getattr(torch, self.dtype).itemsize
        self.checkpoint = self.engine.checkpoint
        self._prepare = Preparation(self.checkpoint, self.recipes, self.engine.info.slot_bytes)
        self._tokens, self.task = setting.tokens, task_of(self.engine.checkpoint)
        self._grammar: Grammar | None = None  # kept, as the model caches by its identity

    def __call__(self, frame: np.ndarray) -> Sample:
        started = time.perf_counter()
        prepared, pixels = self._prepare(frame)
        height, width = frame.shape[:2]
        prompt, grammar = self.question(prepared, width, height)
        ready = time.perf_counter()
        taken = Frame(pixels, prepared.rows, prepared.columns) if any(prepared.frame) else pixels
        draft = self.engine.box_draft(grammar)
        limits = Limits(self._tokens)
        made = self.model.generate(prompt, grammar, taken, limits, draft, logits=bool(grammar.bins))
        decoded = time.perf_counter()
        vocabulary = self.engine.checkpoint.vocabulary
        if grammar.bins and vocabulary:
            answers.detections(
                grammar,
                made.columns,
                made.logits,
                self.engine.tokens,
                vocabulary.temperature,
                (width, height),
            )
        else:
            answers.text(grammar, made.columns, self.engine.tokens)
        ended = time.perf_counter()
        times = made.times
        stages = {name: getattr(times, name) for name in ("transfer", "vision", "prefill", "decode")}
        return Sample(
            preprocess=ready - started,
            ttft=ready - started + times.first_token,
            total=ended - started,
            tokens=len(made.columns),
            passes=made.passes,
            stages={"prepare": ready - started, **stages, "parse": ended - decoded},
        )

    def question(self, prepared: Prepared, width: int, height: int) -> tuple[Prompt, Grammar]:
        request = FrameRequest(0, 0, prepared.rows, prepared.columns, width, height, self.task)
        prompt, grammar = self.engine.prompt_and_grammar(request)
        if self._grammar is None:
            self._grammar = endless(grammar)
        return prompt, self._grammar

    @property
    def grammar(self) -> Grammar:
        """The grammar of the answers; available after the first frame."""
        assert self._grammar is not None
        return self._grammar

    def work(self, frame: np.ndarray) -> tuple[int, int, int]:
        """A frame's tiles, tokens of its prompt, and rows of the output layer that its grammar can use."""
        prepared, _ = self._prepare(frame)
        prompt, grammar = self.question(prepared, *frame.shape[1::-1])
        return prepared.tiles, len(prompt.ids), len(grammar.tokens)


class GenericRunner:
    """A model in transformers' modules: the engine or, without any recipe, plain ``generate``."""

    def __init__(self, setting: Setting, preset: str) -> None:
        config = EngineConfig(
            str(setting.checkpoint),
            "transformers",
            device=setting.device,
            dtype=setting.dtype,
            preset=preset,
            threads=setting.threads,
        )
        self.engine = GenericEngine(config)
        self.model, self.recipes, self.task = self.engine.model, self.engine.recipes, Task("caption")
        self.device, self.dtype = self.model.device, self.engine.info.dtype
        self.checkpoint = self.engine.checkpoint
        self.weight_bytes = sum(p.numel() * p.element_size() for p in self.model.parameters())
        self.processor_name = type(self.engine.processor.image_processor).__name__
        self.model.generation_config.eos_token_id = None  # all answers have the same length
        self._length = setting.tokens

    def __call__(self, frame: np.ndarray) -> Sample:
        return self._stream(frame) if self.recipes.names else self._plain(frame)

    def _stream(self, frame: np.ndarray) -> Sample:
        height, width = frame.shape[:2]
        request = FrameRequest(
            0, 0, 0, 0, width, height, self.task, max_new_tokens=self._length, frame=(width, height)
        )
        started = time.perf_counter()
        (answer,) = engines.run(self.engine, [request], [frame])
        total, times, made = time.perf_counter() - started, answer.times, answer.generated_tokens
        return Sample(times.transfer, times.first_token, total, made, made - 1)

    @torch.inference_mode()
    def _plain(self, frame: np.ndarray) -> Sample:
        first = FirstToken(self.device)
        started = time.perf_counter()
        question = self.engine.format.questions(self.task)[0]
        inputs = self.engine.to_device(self.engine.inputs(question, PIL.Image.fromarray(frame)))
        ready = time.perf_counter()
        output = self.model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            early_stopping=False,
            max_new_tokens=self._length,
            logits_processor=LogitsProcessorList([first]),
        )
        before = 1 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        new = output[0, before:].tolist()
        self.engine.words.shown(new)
        total = time.perf_counter() - started
        return Sample(ready - started, first.seconds(), total, len(new), len(new) - 1)


class StockRunner:
    """transformers: its processor or prepared tiles, and plain ``generate``, without a grammar."""

    def __init__(self, setting: Setting, wanted: Recipes, reference: TransformersModel) -> None:
        self.reference, self.model, self.device = reference, reference.model, reference.device
        kept = ("direct_resize", "prompt_cache", *(["pinned_async"] if self.device.type == "cuda" else []))
        self.recipes = Recipes(**{name: getattr(wanted, name) for name in kept})
        self.dtype = str(self.model.dtype).removeprefix("torch.")
        self.weight_bytes = sum(p.numel() * p.element_size() for p in self.model.parameters())
        self.checkpoint = reference.checkpoint
        self.processor = stock_processor(self.checkpoint)
        self.processor_name = type(self.processor.image_processor).__name__
        self.task, self._length = task_of(self.checkpoint), setting.tokens
        self.model.generation_config.eos_token_id = None  # all answers have the same length
        self._prepare = Preparation(self.checkpoint, Recipes(direct_resize=True))
        self._tile_tokens = self.checkpoint.tiling.tokens_per_tile
        self._prompts: dict[tuple[int, int], torch.Tensor] = {}
        self._text = chat.full_text(self.task, self.checkpoint)
        self._begin = not chat.starts_itself(self._text, self.checkpoint)

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> Sample:
        first = FirstToken(self.device)
        started = time.perf_counter()
        inputs = self.inputs(frame)
        ready = time.perf_counter()
        moved = {name: self.move(value) for name, value in inputs.items()}
        output = self.model.generate(
            **moved,
            do_sample=False,
            num_beams=1,
            max_new_tokens=self._length,
            logits_processor=LogitsProcessorList([first]),
        )
        new = output[0, inputs["input_ids"].shape[1] :].tolist()
        self.processor.decode(new, skip_special_tokens=True)
        ended = time.perf_counter()
        return Sample(
            preprocess=ready - started,
            ttft=first.seconds(),
            total=ended - started,
            tokens=len(new),
            passes=len(new) - 1,
        )

    def inputs(self, frame: np.ndarray) -> dict[str, torch.Tensor]:
        """The input of ``generate`` for a frame."""
        if not (self.recipes.direct_resize or self.recipes.prompt_cache):
            options = picture_options(self.checkpoint)
            options = {**options, "add_special_tokens": self._begin}
            return dict(self.processor(text=self._text, images=[frame], return_tensors="pt", **options))
        if self.recipes.direct_resize:
            prepared, tiles = self._prepare(frame)
            layout = prepared.rows, prepared.columns
            pixels = self.reference.normalisation.apply(torch.from_numpy(tiles)).permute(0, 3, 1, 2)
            pixels = pixels[None] if self.checkpoint.native.nested else pixels
        else:
            options = picture_options(self.checkpoint)
            made = self.processor.image_processor([frame], return_tensors="pt", **options)
            height, width = frame.shape[:2]
            layout, pixels = plan(width, height, self.checkpoint.tiling), made["pixel_values"]
        if layout not in self._prompts or not self.recipes.prompt_cache:
            self._prompts[layout] = self.encode(layout)
        ids = self._prompts[layout]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}

    def encode(self, layout: tuple[int, int]) -> torch.Tensor:
        family = self.checkpoint.native
        picture = family.placeholder
        tiles = family.picture(*layout).replace(picture, picture * self._tile_tokens)
        text = self._text.replace(picture, tiles)
        return self.processor.tokenizer(text, return_tensors="pt", add_special_tokens=self._begin)[
            "input_ids"
        ]

    def move(self, value: torch.Tensor) -> torch.Tensor:
        if self.recipes.pinned_async:
            return value.pin_memory().to(self.device, non_blocking=True)
        return value.to(self.device)


class FirstToken(LogitsProcessor):
    """Records when the first token's logits are ready, without changing or waiting for anything."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[Any] = []
        self._mark()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if len(self._marks) == 1:
            self._mark()
        return scores

    def _mark(self) -> None:
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> float:
        """Seconds from the creation of this object; call it when the device has finished."""
        start, end = self._marks
        return start.elapsed_time(end) / 1e3 if self._cuda else end - start


def runners(setting: Setting, presets: Sequence[str]) -> dict[str, Runner]:
    """A runner for each preset; those on transformers' modules share one model."""
    wanted = {name: recipes.preset(name) for name in presets}
    if checkpoints.read(setting.checkpoint, "transformers").family is None:
        return {name: GenericRunner(setting, name) for name in presets}
    made: dict[str, Runner] = {
        name: EngineRunner(setting, name) for name, of in wanted.items() if of.lean_modules
    }
    if len(made) < len(wanted):
        shared = reference(setting)
        made |= {n: StockRunner(setting, of, shared) for n, of in wanted.items() if not of.lean_modules}
    return {name: made[name] for name in presets}


def usable(runner: Runner) -> Recipes:
    """All recipes that work on the runner's device."""
    no_kernels = fused.unavailable(runner.device, architecture.read(runner.checkpoint)[1])
    dtype = getattr(torch, runner.dtype)
    return recipes_in_force(recipes.PRESETS["edge"], runner.device, dtype, no_kernels, named="edge")


def reference(setting: Setting) -> TransformersModel:
    """The checkpoint in transformers' modules."""
    from argus_ros.vlm.engine.machine import device_of, dtype_of

    device = device_of(setting.device)
    if setting.threads:
        torch.set_num_threads(setting.threads)
    checkpoint = checkpoints.read(setting.checkpoint)
    return TransformersModel(checkpoint, device, dtype_of(setting.dtype, device))


def peak_bytes(runner: Runner, frame: np.ndarray) -> int:
    """Weights and the peak memory of a frame beside them; 0 where unknown."""
    if runner.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(runner.device)
        before = torch.cuda.memory_allocated(runner.device)
        runner(frame)
        return runner.weight_bytes + torch.cuda.max_memory_allocated(runner.device) - before
    status = Path("/proc/self/status")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the current size
        before = _kilobytes(status, "VmRSS")
        runner(frame)
        return runner.weight_bytes + 1024 * max(_kilobytes(status, "VmHWM") - before, 0)
    except OSError:
        return 0


def _kilobytes(status: Path, key: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])
