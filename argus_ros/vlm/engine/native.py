"""The engine: a checkpoint, a task and tiles in; detections or text out. Plain data on both sides."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core import checksums, recipes
from argus_ros.core.budget import FEW
from argus_ros.core.image import Image
from argus_ros.core.preparation import fill
from argus_ros.core.protocol import EngineConfig, FrameRequest, ModelInfo
from argus_ros.core.recipes import Recipes
from argus_ros.core.types import STRUCTURED_TASKS, Answer, Detection, Status, Task
from argus_ros.vlm import formats
from argus_ros.vlm.decoding.choosing import ON_DEVICE, ON_HOST, Kept, Timer
from argus_ros.vlm.decoding.drafts import Draft, Memories, Memory
from argus_ros.vlm.decoding.generation import Frame, Generated, Job, Limits, Model
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.decoding.upload import pin
from argus_ros.vlm.engine import engines
from argus_ros.vlm.engine.machine import EngineError, device_of, dtype_of, is_full
from argus_ros.vlm.formats import answers, grammar, prompts
from argus_ros.vlm.formats.grammar import Grammar
from argus_ros.vlm.formats.prompts import TaskError
from argus_ros.vlm.formats.reading import Sizes
from argus_ros.vlm.formats.tokens import Prompt, Tokens
from argus_ros.vlm.models import architecture, boxes, fused

log = logging.getLogger(__name__)

BACKENDS = ("native", "transformers")
#: Maximum tokens of a free-text answer, unless a request sets its own limit.
MAX_NEW_TOKENS = 64
#: The same for an open model's answer with boxes.
MAX_BOX_TOKENS = 192
#: Number of questions whose prompt and grammar are cached.
KEPT = 64
#: Maximum number of frames in one pass.
TOGETHER = 8

#: Recipes of the native backend.
NATIVE_ONLY = (
    "device_resize",
    "uint8_transfer",
    "pinned_async",
    "prefix_kv",
    "fixed_shapes",
    "device_loop",
    "compiled_step",
    "fused_kernels",
    "jump_forward",
    "last_frame_draft",
    "box_draft",
    "camera_batch",
)


@dataclass(frozen=True)
class _Question:
    grammar: Grammar
    prompts: dict[tuple[int, int], Prompt]  #: by layout of tiles


class Engine:
    """A loaded model. Raises CheckpointError or EngineError where it cannot be loaded."""

    def __init__(self, config: EngineConfig) -> None:
        started = time.monotonic()
        self.checkpoint = checkpoints.read_for(config)
        checksums.verify(self.checkpoint.path)
        device = device_of(config.device)
        dtype = dtype_of(config.dtype, device)
        if config.backend not in BACKENDS:
            raise EngineError(f"unknown backend {config.backend!r}; backends are {', '.join(BACKENDS)}")
        try:
            wanted = recipes.preset(config.preset)
        except ValueError as error:
            raise EngineError(str(error)) from None
        if config.threads:
            torch.set_num_threads(config.threads)
        if config.backend == "transformers":
            wanted = Recipes()
        self.vision_shape, self.text_shape = architecture.read(self.checkpoint)
        kernels = fused.unavailable(device, self.text_shape)
        if not boxes.exists(self.checkpoint.path):
            wanted = wanted.without(["box_draft"])  # most checkpoints have no such head, so no message
        self.recipes = recipes_in_force(wanted, device, dtype, kernels, named=config.preset)
        self.tokens = Tokens(self.checkpoint, self.text_shape.vocabulary)
        self.model = self._load(device, dtype)
        self._questions: dict[Task, _Question] = {}
        self.memories = Memories()
        self._chances = Memory().chances  #: probabilities of proposals for frames without a camera
        self.info = self._describe(device, dtype, time.monotonic() - started)

    def _load(self, device: torch.device, dtype: torch.dtype) -> Model:
        if self.recipes.lean_modules:
            self.tokens.check_plain()
            return NativeModel(self.checkpoint, self.recipes, device, dtype)
        from argus_ros.vlm.decoding.reference import TransformersModel  # transformers takes seconds to import

        return TransformersModel(self.checkpoint, device, dtype)

    def _describe(self, device: torch.device, dtype: torch.dtype, seconds: float) -> ModelInfo:
        tiling, vocabulary = self.checkpoint.tiling, self.checkpoint.vocabulary
        return ModelInfo(
            name=self.checkpoint.name,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            dtype=str(dtype).removeprefix("torch."),
            tasks=self.checkpoint.tasks,
            classes=vocabulary.classes if vocabulary else (),
            tile=tiling.tile,
            max_tiles=tiling.max_tiles,
            tokens_per_tile=self.vision_shape.tokens,
            parameters=self.model.parameters,
            recipes=self.recipes.names,
            load_seconds=seconds,
            whole_frames=self.recipes.device_resize,
        )

    def warm_up(self) -> None:
        """Run a grey picture for all lazy initialisation, choose settings, and measure the time."""
        word = self.tokens.decode(self.tokens.text[:1])
        task = Task(self.info.tasks[0], self.info.classes or (word,), word)
        frame = (640, 480) if self.recipes.device_resize else (0, 0)
        request = FrameRequest(0, 0, 0, 0, 640, 480, task, max_detections=1, max_new_tokens=8, frame=frame)
        pixels = np.full(request.shape(self.info.tile), 127, np.uint8)
        self.run([request], [pixels])
        (answer,) = self.run([request], [pixels])
        self.choose(1e3 * answer.times.decode / max(answer.decode_passes, 1))
        seconds = []
        for _ in range(3):  # the minimum, as a machine is busy during start-up
            started = time.monotonic()
            self.run([request], [pixels])
            seconds.append(time.monotonic() - started)
        self.info = replace(self.info, frame_seconds=min(seconds))

    def choose(self, step: float = 0.0, timer: Timer | None = None) -> None:
        """Use the fastest settings for this device, timed now or read from an earlier start.

        ``step``: milliseconds of a whole decode step, if known.
        """
        if not isinstance(self.model, NativeModel):
            return
        started = time.monotonic()
        # The CPU is timed quickly, but wrongly while other processes use it: these timings are not stored.
        on_cuda = self.model.device.type == "cuda"
        kept = Kept.of_user() if on_cuda else None
        # On a CPU a frame is cut by torch only where the preset names it.
        ways = self._resizes(self.model) if self.recipes.device_resize and (on_cuda or timer) else {}
        try:
            key = self.checkpoint.name, self.text_shape
            measured = self.model.choose(key, timer, kept, step, ways)
        except RuntimeError as error:  # of a driver or a CUDA graph
            if is_full(error):
                raise
            log.warning("the settings for this device could not be timed, the defaults are used: %s", error)
            return
        how = f"timed in {time.monotonic() - started:.1f} s" if measured else "as timed earlier"
        log.info("chosen for %s, %s: %s", self.info.device, how, self.model.choices)
        if ways and self.model.choices and not self.model.choices.on_device:
            self.recipes = self.recipes.without(["device_resize"])
            self.info = replace(self.info, recipes=self.recipes.names, whole_frames=False)

    def _resizes(self, model: NativeModel) -> dict[str, Callable[[], object]]:
        """A picture cut into tiles on the device and on the host, for timing, with the copy to the device."""
        picture, tiling = np.full((480, 640, 3), 127, np.uint8), self.checkpoint.tiling
        image = Image(picture, "rgb8", 640, 480, 3 * 640)
        pinned = self.recipes.pinned_async and model.device.type == "cuda"
        slot = torch.empty(self.info.slot_bytes, dtype=torch.uint8, pin_memory=pinned).numpy()

        def cut(whole: bool) -> None:
            made = fill(slot, image, None, tiling, whole)
            pixels = made.pixels(slot, tiling.tile)
            model.upload(Frame(pixels, made.rows, made.columns) if whole else pixels)

        return {ON_DEVICE: partial(cut, True), ON_HOST: partial(cut, False)}

    def pin(self, memory: np.ndarray) -> None:
        """Register the memory of frames with the device permanently (recipe ``pinned_async``)."""
        if self.recipes.pinned_async and (refused := pin(memory, self.model.device)):
            log.warning("recipe pinned_async is off: %s", refused)
            self.recipes = self.recipes.without(["pinned_async"])
            self.info = replace(self.info, recipes=self.recipes.names)

    def check(self, request: FrameRequest, pixels: np.ndarray) -> None:
        """Raise TaskError for a request that the engine cannot run."""
        shape = request.shape(self.info.tile)
        if pixels.shape != shape or pixels.dtype != np.uint8:
            raise TaskError(f"pixels are {pixels.shape} {pixels.dtype}; the request needs {shape} uint8")
        if any(request.frame) and not self.recipes.device_resize:
            raise TaskError("a whole frame needs recipe device_resize, which is off; send its tiles")
        if request.tiles > self.info.max_tiles:
            raise TaskError(f"{request.tiles} tiles; {self.info.name} takes at most {self.info.max_tiles}")
        if request.width < 1 or request.height < 1 or min(shape) < 1:
            raise TaskError(f"the picture is {request.width}x{request.height} pixels")
        prompt, grammar = self.prompt_and_grammar(request)
        room = self.text_shape.context - len(prompt.ids) - self.token_limit(request, grammar)
        if room < 0:
            raise TaskError(
                f"prompt and answer take {-room} tokens more than the context of {self.text_shape.context}; "
                "shorten the prompt, or ask for fewer tiles or tokens"
            )

    def run(self, requests: Sequence[FrameRequest], pixels: Sequence[np.ndarray]) -> list[Answer]:
        """Answer frames; ``pixels[i]``, uint8 RGB of ``requests[i].shape``, belong to ``requests[i]``.

        Raises TaskError before anything runs, if one of them cannot be run, and FloatingPointError if the
        model's logits for one of them are not finite.
        """
        return engines.run(self, requests, pixels)

    def stream(
        self, requests: Sequence[FrameRequest], pixels: Sequence[np.ndarray]
    ) -> Iterator[tuple[int, Answer | FloatingPointError]]:
        """The same, but yields each answer with its index once done; with ``camera_batch`` in one pass.

        A frame whose logits are not finite has an error in place of its answer. A frame that runs out of
        memory is run again alone, with one tile and few objects, and its answer is marked TRUNCATED. Raises
        MemoryError where that does not fit either.
        """
        for request, picture in zip(requests, pixels, strict=True):
            self.check(request, picture)
        most = TOGETHER if self.recipes.camera_batch else 1
        for first in range(0, len(requests), most):
            part = slice(first, first + most)
            waiting, full = dict(enumerate(requests[part], first)), ""
            try:
                for index, made in self.generate_all(requests[part], pixels[part]):
                    del waiting[first + index]
                    yield first + index, self._answer(requests[first + index], made)
            except Exception as error:
                if not is_full(error):
                    raise
                full = str(error)  # not the error itself, whose traceback keeps device memory
            for index, request in waiting.items():
                log.warning("out of memory for a frame of %d tiles: %s", request.tiles, full)
                yield index, self._smaller(request, pixels[index])

    def _smaller(self, request: FrameRequest, pixels: np.ndarray) -> Answer | FloatingPointError:
        """Answer at the lowest budget, after freeing memory. Raises MemoryError."""
        request = replace(request, rows=0, columns=0, max_detections=FEW[0])
        self.model.free()
        try:
            made = self.generate(request, pixels if any(request.frame) else pixels[-1:])
            answer = self._answer(request, made)
            return replace(answer, status=Status.TRUNCATED) if isinstance(answer, Answer) else answer
        except Exception as error:
            if not is_full(error):
                raise
            full = str(error)
        self.model.free()
        raise MemoryError(
            f"{self.info.device} has too little memory for even one tile of a frame: free the device, "
            f"or use dtype bfloat16 or a smaller checkpoint ({full})"
        )

    def generate(self, request: FrameRequest, pixels: np.ndarray) -> Generated:
        """The model's raw output, for tests and measurements."""
        ((_, made),) = self.generate_all([request], [pixels], logits=True)
        return made

    def generate_all(
        self, requests: Sequence[FrameRequest], pixels: Sequence[np.ndarray], logits: bool = False
    ) -> Iterator[tuple[int, Generated]]:
        jobs: list[Job] = []
        memories: list[Memory | None] = []
        for request, picture in zip(requests, pixels, strict=True):
            prompt, grammar = self.prompt_and_grammar(request)
            tiles = Frame(picture, request.rows, request.columns) if any(request.frame) else picture
            limits = Limits(self.token_limit(request, grammar), request.max_detections, request.deadline)
            memory = draft = None
            if self.recipes.last_frame_draft and request.camera:
                question = request.task, request.width, request.height
                memory = self.memories.of(request.camera, question, request.taken)
                draft = memory.draft(grammar, request.taken)
            draft = draft or self.box_draft(grammar)
            jobs.append(Job(prompt, grammar, tiles, limits, draft, logits or bool(grammar.bins)))
            memories.append(memory)
        for index, made in self.model.generate_all(jobs):
            memory, draft = memories[index], jobs[index].draft
            if memory and draft and made.sound:
                memory.learn(draft, made.truncated)
            yield index, made

    def box_draft(self, grammar: Grammar) -> Draft | None:
        """A draft without a last answer, which only takes proposals of the head for whole boxes."""
        return Draft(grammar, (), (), self._chances) if self.recipes.box_draft and grammar.bins else None

    def _answer(self, request: FrameRequest, made: Generated) -> Answer | FloatingPointError:
        if not made.sound:
            return engines.not_finite(self.info)
        grammar, dropped = self.prompt_and_grammar(request)[1], 0
        structured = request.task.name in STRUCTURED_TASKS
        found: tuple[Detection, ...] = ()
        if grammar.bins:
            found = self.detections(request, made)
        elif structured:
            found, dropped = self._written(request, made, grammar)
        return Answer(
            detections=found,
            text="" if structured else answers.text(grammar, made.columns, self.tokens),
            dropped=dropped,
            status=Status.TRUNCATED if made.truncated else Status.OK,
            times=made.times,
            visual_tokens=made.visual_tokens,
            generated_tokens=len(made.columns),
            decode_passes=made.passes,
            drafted_tokens=made.drafted,
            accepted_tokens=made.accepted,
        )

    def detections(
        self, request: FrameRequest, made: Generated, temperature: float = 0.0
    ) -> tuple[Detection, ...]:
        """Detections of a structured task's output; ``temperature`` 0 means the checkpoint's own."""
        vocabulary = self.checkpoint.vocabulary
        assert vocabulary is not None  # structured tasks need one
        size, temperature = (request.width, request.height), temperature or vocabulary.temperature
        grammar = self.prompt_and_grammar(request)[1]
        return answers.detections(grammar, made.columns, made.logits, self.tokens, temperature, size)

    def _written(
        self, request: FrameRequest, made: Generated, grammar: Grammar
    ) -> tuple[tuple[Detection, ...], int]:
        """The boxes in an open model's text."""
        format = formats.of(self.checkpoint.format)
        question = format.questions(request.task)[0]
        ids = [int(grammar.tokens[column]) for column in made.columns]
        text, ends = answers.spoken(ids, self.tokens.decode_all)
        found, dropped = answers.written(
            format,
            request.task,
            question,
            text,
            ends,
            made.probabilities,
            Sizes(request.width, request.height),
        )
        return found[: request.max_detections or None], dropped

    @staticmethod
    def token_limit(request: FrameRequest, grammar: Grammar) -> int:
        longest = grammar.longest(request.max_new_tokens, request.max_detections)
        return longest or (MAX_BOX_TOKENS if request.task.name in STRUCTURED_TASKS else MAX_NEW_TOKENS)

    def prompt_and_grammar(self, request: FrameRequest) -> tuple[Prompt, Grammar]:
        """Prompt and grammar of a request, computed once per task and layout (recipe ``prompt_cache``)."""
        task, layout = request.task, (request.rows, request.columns)
        if task not in self._questions:
            prompts.check(task, self.checkpoint)
            if len(self._questions) >= KEPT:
                del self._questions[next(iter(self._questions))]
            self._questions[task] = _Question(grammar.build(task, self.tokens), {})
        question = self._questions[task]
        if layout not in question.prompts or not self.recipes.prompt_cache:
            question.prompts[layout] = self.tokens.prompt(task, *layout, self.vision_shape.tokens)
        return question.prompts[layout], question.grammar


def recipes_in_force(
    wanted: Recipes, device: torch.device, dtype: torch.dtype, no_kernels: str, named: str
) -> Recipes:
    """The recipes of ``wanted``, from the preset ``named``, that work here. The others are logged once.

    ``no_kernels`` is the reason why ``fused_kernels`` does not work, or "".
    """
    reasons = {"fused_kernels": no_kernels} if no_kernels else {}
    if device.type == "cpu":
        reasons["pinned_async"] = "needs CUDA"
        for name in ("device_resize", "device_loop", "fused_kernels"):
            if f"+{name}" not in named:
                reasons[name] = "has no effect without a GPU"
    if device.type == "cpu" and dtype != torch.float32:
        reasons["compiled_step"] = "needs float32 on the CPU"
    if not wanted.lean_modules:
        reasons |= dict.fromkeys(NATIVE_ONLY, "needs lean_modules")
    off = {name: reason for name, reason in reasons.items() if getattr(wanted, name)}
    if off:
        log.info("recipes that are off: %s", ", ".join(f"{name} ({reason})" for name, reason in off.items()))
    return wanted.without(off)
