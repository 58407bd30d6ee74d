"""Backend ``transformers``: any image-text-to-text model, by transformers' own modules and processor.

It stands behind the same worker as the native engine, and takes whole frames one by one. The answer format
(``vlm/formats``) says what the model is asked and how its boxes are read. Where places are tokens, they are
decoded under the format's automaton, so that every such answer parses.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteriaList
from transformers.utils import logging as transformers_logging

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core import checksums, recipes
from argus_ros.core.protocol import EngineConfig, FrameRequest, ModelInfo
from argus_ros.core.recipes import Recipes
from argus_ros.core.section import CheckpointError
from argus_ros.core.types import STRUCTURED_TASKS, Answer, Detection, StageTimes, Status, Task
from argus_ros.vlm import formats
from argus_ros.vlm.decoding.generation import Stopwatch
from argus_ros.vlm.engine import engines
from argus_ros.vlm.engine.generic_loading import load_model, processor_of
from argus_ros.vlm.engine.generic_pixels import PIXELS, Levels, multiply_patches
from argus_ros.vlm.engine.generic_steps import Steps, Stop
from argus_ros.vlm.engine.generic_tokens import Words
from argus_ros.vlm.engine.machine import device_of, dtype_of, is_full
from argus_ros.vlm.formats import answers, chat, prompts
from argus_ros.vlm.formats.prompts import TaskError
from argus_ros.vlm.formats.reading import Question, Sizes
from argus_ros.vlm.models.weights import check_stored
from argus_ros.vlm.processors import fast_processor

log = logging.getLogger(__name__)

#: Maximum tokens of an answer in free text, and of one with boxes, where a request gives no limit.
MAX_NEW_TOKENS, MAX_BOX_TOKENS = 64, 256
#: Maximum objects of an answer under an automaton, where a request gives no limit.
MAX_OBJECTS = 32
#: Prompts that are kept, by question and size of the picture.
KEPT = 64


class GenericEngine:
    """A loaded model. Raises CheckpointError or EngineError when it cannot be loaded."""

    def __init__(self, config: EngineConfig) -> None:
        started = time.monotonic()
        self.checkpoint = checkpoint = checkpoints.read_for(config)
        checksums.verify(self.checkpoint.path)
        self._device = device = device_of(config.device)
        dtype = dtype_of(config.dtype, device)
        if config.threads:
            torch.set_num_threads(config.threads)
        transformers_logging.disable_progress_bar()
        check_stored(checkpoint.path)
        self.model = load_model(checkpoint, dtype).to(device).eval()
        self.processor = processor_of(checkpoint)
        self.stock, self.recipes = self.processor, Recipes()
        self._use(recipes.preset(config.preset), config.preset)
        self.prompts: dict[tuple[str, tuple[int, int]], dict[str, Any] | None] = {}
        self.format = formats.of(checkpoint.format)
        self.words = Words(self.processor.tokenizer, self.model, checkpoint)
        if self.format.chat and not (
            getattr(self.processor, "chat_template", None) or self.processor.tokenizer.chat_template
        ):
            raise CheckpointError(f"{checkpoint.path} has no chat template, without which it cannot be asked")
        self.info = ModelInfo(
            name=checkpoint.name,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            dtype=str(dtype).removeprefix("torch."),
            tasks=checkpoint.tasks,
            classes=(),
            tile=checkpoint.tiling.tile,
            max_tiles=1,
            tokens_per_tile=0,
            parameters=sum(p.numel() for p in self.model.parameters()),
            load_seconds=time.monotonic() - started,
            whole_frames=True,
            recipes=self.recipes.names,
        )

    def _use(self, wanted: Recipes, named: str) -> None:
        """Turn on the recipes that work with transformers' own modules."""
        fast = wanted.direct_resize
        if fast:
            try:
                self.processor = fast_processor(self.stock)
            except TypeError:  # there is no fast processor for this one
                fast = False
        self.levels: Levels | None = None
        if wanted.uint8_transfer and wanted.prompt_cache:
            try:
                self.levels = Levels(self.processor.image_processor, self._device)
            except ValueError as error:
                self._without_levels(error)
        static = "+compiled_step" in named  # what it gains was measured on no GPU
        if static and not getattr(self.model, "_can_compile_fullgraph", False):
            log.warning("compiled_step is off: transformers has no static cache for this model")
            static = False
        self.recipes = Recipes(
            direct_resize=fast,
            uint8_transfer=self.levels is not None,
            pinned_async=wanted.pinned_async and self._device.type == "cuda",
            prompt_cache=wanted.prompt_cache,
            lean_modules=wanted.lean_modules and multiply_patches(self.model),
            compiled_step=static,
        )

    def _without_levels(self, error: ValueError) -> None:
        kind = type(self.processor.image_processor).__name__
        log.warning("uint8_transfer is off for %s: %s", kind, error)
        self.levels = None

    def warm_up(self) -> None:
        """Time a grey picture; the first run includes all lazy initialisation."""
        task = Task("caption")  # every format has it
        request = FrameRequest(0, 0, 0, 0, 640, 480, task, max_new_tokens=8, frame=(640, 480))
        pixels = np.full((480, 640, 3), 127, np.uint8)
        seconds = []
        for _ in range(3):
            started = time.monotonic()
            engines.run(self, [request], [pixels])
            seconds.append(time.monotonic() - started)
        self.info = replace(self.info, frame_seconds=min(seconds))

    def pin(self, memory: np.ndarray) -> None:
        """No memory is pinned: the processor makes the arrays that go to the device."""

    def check(self, request: FrameRequest, pixels: np.ndarray) -> None:
        """Raise TaskError for a request that cannot be run."""
        engines.check_whole(request, pixels)
        prompts.check(request.task, self.checkpoint)
        self.words.check(request.task)

    def stream(
        self, requests: Sequence[FrameRequest], pixels: Sequence[np.ndarray]
    ) -> Iterator[tuple[int, Answer | FloatingPointError]]:
        """Answer frames one by one, each with its index; one whose logits are not finite has an error.

        Raises TaskError and MemoryError.
        """
        for index, (request, picture) in enumerate(zip(requests, pixels, strict=True)):
            watch = Stopwatch(self._device)
            self.check(request, picture)
            try:
                yield index, self._answer(request, PIL.Image.fromarray(np.array(picture)), watch)
            except FloatingPointError as error:
                yield index, error
            except Exception as error:
                if not is_full(error):
                    raise
                raise MemoryError(f"{self.info.device} has no memory for this frame ({error})") from None

    def _answer(self, request: FrameRequest, picture: PIL.Image.Image, watch: Stopwatch) -> Answer:
        task, answer = request.task, Answer()
        for number, question in enumerate(self.format.questions(task)):
            if number:
                watch = Stopwatch(self._device)
            made = self._generate(request, question, picture, watch)
            answer = _joined(answer, self._read(request, question, made))
            if request.deadline is not None and time.monotonic() >= request.deadline:
                break
        most = request.max_detections
        return replace(answer, detections=answer.detections[:most]) if most else answer

    def _read(self, request: FrameRequest, question: Question, made: _Made) -> Answer:
        text, ends = answers.spoken(made.ids, self.words.decode)
        found: tuple[Detection, ...] = ()
        dropped = 0
        structured = request.task.name in STRUCTURED_TASKS
        if structured:
            sizes = Sizes(request.width, request.height, *made.seen)
            found, dropped = answers.written(
                self.format, request.task, question, text, ends, made.probabilities, sizes
            )
        return Answer(
            detections=found,
            text="" if structured else self.words.shown(made.ids),
            status=Status.TRUNCATED if made.truncated else Status.OK,
            times=made.times,
            visual_tokens=made.visual_tokens,
            generated_tokens=len(made.ids),
            decode_passes=max(len(made.ids) - 1, 0),
            dropped=dropped,
        )

    def inputs(self, question: Question, picture: PIL.Image.Image) -> dict[str, Any]:
        """The model's inputs for a question about a picture. ``prompt_cache`` keeps those of the text."""
        key = question.text, picture.size
        if not self.recipes.prompt_cache:
            return self.ask_processor(self.processor, question, picture)
        if key not in self.prompts:
            whole = self.ask_processor(self.processor, question, picture)
            if len(self.prompts) >= KEPT:
                del self.prompts[next(iter(self.prompts))]
            self.prompts[key] = self._text_of(whole, picture)
            return whole
        kept = self.prompts[key]
        if kept is None:
            return self.ask_processor(self.processor, question, picture)
        own = (
            self.levels.of(picture)
            if self.levels
            else self.processor.image_processor(picture, return_tensors="pt")
        )
        return kept | {name: value for name, value in own.items() if name in kept}

    def _text_of(self, whole: dict[str, Any], picture: PIL.Image.Image) -> dict[str, Any] | None:
        """The inputs that depend on the text alone, with None for those of the picture.

        None where the image processor by itself makes other inputs than the whole processor does.
        """
        own = self.processor.image_processor(picture, return_tensors="pt")
        shared = [name for name in own if name in whole]
        for name in shared:
            a, b = own[name], whole[name]
            if not (isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)):
                return None
        if self.levels:
            try:
                self.levels.check(picture, own.get(PIXELS))
            except ValueError as error:
                self._without_levels(error)
                self.recipes = self.recipes.without(["uint8_transfer"])
                self.info = replace(self.info, recipes=self.recipes.names)
        return whole | dict.fromkeys(shared) if shared else None

    def ask_processor(self, processor: Any, question: Question, picture: PIL.Image.Image) -> dict[str, Any]:
        """The model's inputs by the whole processor."""
        if not self.format.chat:
            return dict(processor(text=question.text, images=picture, return_tensors="pt"))
        return dict(chat.inputs(processor, picture, question.text))

    @torch.inference_mode()
    def plain(self, image: np.ndarray, task: Task, max_new_tokens: int) -> str:
        """The answer of plain ``generate`` about an RGB image (height, width, 3), for comparison."""
        question = self.format.questions(task)[0]
        given = self.to_device(self.ask_processor(self.processor, question, PIL.Image.fromarray(image)))
        output = self.model.generate(**given, do_sample=False, num_beams=1, max_new_tokens=max_new_tokens)[0]
        skip = 0 if self.model.config.is_encoder_decoder else given["input_ids"].shape[1]
        return self.words.shown(output[skip:].tolist())

    @torch.inference_mode()
    def _generate(
        self, request: FrameRequest, question: Question, picture: PIL.Image.Image, watch: Stopwatch
    ) -> _Made:
        given = self.inputs(question, picture)
        seen = self._seen(given)
        moved = self.to_device(given)
        watch.mark("transfer")
        watch.mark("vision")
        before = moved["input_ids"].shape[1]
        asked: dict[str, Any] = {}
        if self.model.config.is_encoder_decoder:
            start, forced = self.words.decoder_start
            first = [start] if forced is None else [start, forced]
            asked = {
                "decoder_input_ids": torch.tensor([first], device=self._device),
                "forced_bos_token_id": None,
            }
            before = len(first)
        room = self.words.context - before
        structured = request.task.name in STRUCTURED_TASKS
        most = request.max_new_tokens or (MAX_BOX_TOKENS if structured else MAX_NEW_TOKENS)
        if room < most:
            raise TaskError(
                f"prompt and picture leave {max(room, 0)} tokens of the context for an answer of {most}; "
                "shorten the prompt, or name fewer classes"
            )
        constraint = self.format.constraint(request.task, self.words, request.max_detections or MAX_OBJECTS)
        steps = Steps(constraint, before, watch, scored=structured)
        output = self.model.generate(
            **moved,
            **asked,
            do_sample=False,
            num_beams=1,
            early_stopping=False,
            max_new_tokens=most,
            cache_implementation="static" if self.recipes.compiled_step else None,
            logits_processor=LogitsProcessorList([steps]),
            stopping_criteria=StoppingCriteriaList([Stop(steps, request.deadline)]),
        )
        if not steps.sound:
            raise engines.not_finite(self.info)
        steps.follow(output)
        ids = output[0, before:].tolist()
        ended = bool(ids) and ids[-1] in self.words.ends
        return _Made(
            ids=ids,
            probabilities=steps.probabilities,
            truncated=not ended,
            times=watch.times(),
            visual_tokens=self.words.visual_tokens(moved["input_ids"]),
            seen=seen,
        )

    def to_device(self, given: dict[str, Any]) -> dict[str, Tensor]:
        """The tensors on the device, floats in the model's precision and levels as normalised pixels."""
        moved = {}
        for name, value in given.items():
            if not isinstance(value, Tensor):
                continue
            if self.recipes.pinned_async:
                there = value.pin_memory().to(self._device, non_blocking=True)
            else:
                there = value.to(self._device)
            if name == PIXELS and self.levels and there.dtype == torch.uint8:
                there = self.levels.pixels(there)
            moved[name] = there.to(self.model.dtype) if there.is_floating_point() else there
        return moved

    def _seen(self, given: Any) -> tuple[int, int]:
        """Width and height of the resized picture, where the processor gives them; else zeros."""
        grid = given.get("image_grid_thw")
        patch = getattr(self.processor.image_processor, "patch_size", 0)
        if grid is None or not isinstance(patch, int):
            return 0, 0
        _, rows, columns = grid[0].tolist()
        return columns * patch, rows * patch


@dataclass(frozen=True)
class _Made:
    """The tokens generated for one question."""

    ids: list[int]
    probabilities: list[float]  #: of each token, among those allowed at its step
    truncated: bool
    times: StageTimes
    visual_tokens: int
    seen: tuple[int, int]


def _joined(a: Answer, b: Answer) -> Answer:
    """The answers to two questions about one frame, as one."""
    names = ("transfer", "vision", "prefill", "decode")
    times = replace(a.times, **{name: getattr(a.times, name) + getattr(b.times, name) for name in names})
    return Answer(
        detections=(*a.detections, *(d for d in b.detections if d not in a.detections)),
        text=a.text or b.text,
        status=max(a.status, b.status),
        times=replace(times, first_token=a.times.first_token or b.times.first_token),
        visual_tokens=a.visual_tokens + b.visual_tokens,
        generated_tokens=a.generated_tokens + b.generated_tokens,
        decode_passes=a.decode_passes + b.decode_passes,
        dropped=a.dropped + b.dropped,
    )
