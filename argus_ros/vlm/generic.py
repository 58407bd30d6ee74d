"""Any image-text-to-text model of transformers, in its own modules and with its own processor.

It stands behind the same worker as the native engine. Pictures are whole frames; what the model is asked, and
how its boxes are read, is its answer format's (``vlm/formats``). Places that are tokens are decoded under the
format's automaton, so that every such answer parses. Frames run one by one.
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
import transformers
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core import checksums, recipes
from argus_ros.core.protocol import EngineConfig, FrameRequest, ModelInfo
from argus_ros.core.recipes import Recipes
from argus_ros.core.section import CheckpointError, read_json
from argus_ros.core.types import STRUCTURED_TASKS, Answer, Detection, StageTimes, Status, Task
from argus_ros.vlm import answers, chat, formats, prompts
from argus_ros.vlm.engines import check_whole
from argus_ros.vlm.formats.reading import Constraint, Question, Sizes
from argus_ros.vlm.generation import FLOOR, Stopwatch
from argus_ros.vlm.machine import device_of, dtype_of, is_full
from argus_ros.vlm.processors import fast_processor
from argus_ros.vlm.prompts import TaskError
from argus_ros.vlm.weights import check_loaded, check_stored

log = logging.getLogger(__name__)

#: Most tokens of an answer in free text, and of one with boxes, unless a request says otherwise.
MAX_NEW_TOKENS, MAX_BOX_TOKENS = 64, 256
#: Most objects of an answer under an automaton, unless a request says otherwise.
MAX_OBJECTS = 32
#: Questions, for sizes of pictures, of which the text is kept.
KEPT = 64
#: Nothing is fetched and no code of a folder's is run.
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


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
        self.model = _load(checkpoint, dtype).to(device).eval()
        self.processor = processor_of(checkpoint)
        self.stock, self.recipes = self.processor, Recipes()
        self._use(recipes.preset(config.preset))
        self.prompts: dict[tuple[str, tuple[int, int]], dict[str, Any] | None] = {}
        self.format = formats.of(checkpoint.format)
        self.words = _Words(self.processor.tokenizer, self.model, checkpoint)
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

    def _use(self, wanted: Recipes) -> None:
        """Have the recipes in force that carry over to models in transformers' own modules."""
        fast = wanted.direct_resize
        if fast:
            try:
                self.processor = fast_processor(self.stock)
            except TypeError:  # of this one there is no fast stand-in
                fast = False
        self.recipes = Recipes(direct_resize=fast, prompt_cache=wanted.prompt_cache)

    def warm_up(self) -> None:
        """Run on a grey picture, so that the first frame does not pay for what is lazy; and time it."""
        task = Task("caption")  # which every format can do
        request = FrameRequest(0, 0, 0, 0, 640, 480, task, max_new_tokens=8, frame=(640, 480))
        pixels = np.full((480, 640, 3), 127, np.uint8)
        seconds = []
        for _ in range(3):
            started = time.monotonic()
            list(self.stream([request], [pixels]))
            seconds.append(time.monotonic() - started)
        self.info = replace(self.info, frame_seconds=min(seconds))

    def pin(self, memory: np.ndarray) -> None:
        """Nothing is pinned: the processor makes the arrays that go to the device."""

    def check(self, request: FrameRequest, pixels: np.ndarray) -> None:
        """Raise TaskError for a request that cannot be run."""
        check_whole(request, pixels)
        prompts.check(request.task, self.checkpoint)
        self.words.check(request.task)

    def stream(
        self, requests: Sequence[FrameRequest], pixels: Sequence[np.ndarray]
    ) -> Iterator[tuple[int, Answer]]:
        """Answer frames one by one, each with its index. Raises TaskError and MemoryError."""
        for index, (request, picture) in enumerate(zip(requests, pixels, strict=True)):
            watch = Stopwatch(self._device)
            self.check(request, picture)
            try:
                yield index, self._answer(request, PIL.Image.fromarray(np.array(picture)), watch)
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
        """What the model takes of a question about a picture: text is made once a size (``prompt_cache``)."""
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
        own = self.processor.image_processor(picture, return_tensors="pt")
        return kept | {name: value for name, value in own.items() if name in kept}

    def _text_of(self, whole: dict[str, Any], picture: PIL.Image.Image) -> dict[str, Any] | None:
        """What is not the picture's, and names for what is; None where the image processor by itself would
        make something else.
        """
        own = self.processor.image_processor(picture, return_tensors="pt")
        shared = [name for name in own if name in whole]
        for name in shared:
            a, b = own[name], whole[name]
            if not (isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)):
                return None
        return whole | dict.fromkeys(shared) if shared else None

    def ask_processor(self, processor: Any, question: Question, picture: PIL.Image.Image) -> dict[str, Any]:
        """By the whole processor."""
        if not self.format.chat:
            return dict(processor(text=question.text, images=picture, return_tensors="pt"))
        return dict(chat.inputs(processor, picture, question.text))

    @torch.inference_mode()
    def plain(self, image: np.ndarray, task: Task, max_new_tokens: int) -> str:
        """What plain ``generate`` says of an RGB image (height, width, 3) that is made ready alike."""
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
        steps = _Steps(constraint, before, watch, scored=structured)
        output = self.model.generate(
            **moved,
            **asked,
            do_sample=False,
            num_beams=1,
            early_stopping=False,
            max_new_tokens=most,
            logits_processor=LogitsProcessorList([steps]),
            stopping_criteria=StoppingCriteriaList([_Late(request.deadline)]),
        )
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
        """On the device, and floats in the model's precision."""
        return {
            name: value.to(self._device, self.model.dtype if value.is_floating_point() else None)
            for name, value in given.items()
            if isinstance(value, Tensor)
        }

    def _seen(self, given: Any) -> tuple[int, int]:
        """Width and height of the resized picture, where the processor says so."""
        grid = given.get("image_grid_thw")
        patch = getattr(self.processor.image_processor, "patch_size", 0)
        if grid is None or not isinstance(patch, int):
            return 0, 0
        _, rows, columns = grid[0].tolist()
        return columns * patch, rows * patch


@dataclass(frozen=True)
class _Made:
    """What a model generated for one question."""

    ids: list[int]
    probabilities: list[float]  #: of each of them, among those that were allowed
    truncated: bool
    times: StageTimes
    visual_tokens: int
    seen: tuple[int, int]


def _joined(a: Answer, b: Answer) -> Answer:
    """The answers to two questions about one frame."""
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


class _Words:
    """What the tokenizer and the configuration say about tokens; see ``reading.Words``."""

    def __init__(self, tokenizer: Any, model: Any, checkpoint: checkpoints.Checkpoint) -> None:
        self._tokenizer, self._checkpoint = tokenizer, checkpoint
        size = model.get_output_embeddings().weight.shape[0]
        end = model.generation_config.eos_token_id
        end = tokenizer.eos_token_id if end is None else end
        self.ends = tuple(i for i in (end if isinstance(end, list) else [end]) if i is not None and i < size)
        self._added = set(tokenizer.added_tokens_decoder) - {tokenizer.unk_token_id}
        self.words = tuple(i for i in range(min(len(tokenizer), size)) if i not in self._added)
        generation = model.generation_config
        text = model.config.get_text_config(decoder=True)
        start = getattr(generation, "decoder_start_token_id", None)
        start = getattr(text, "decoder_start_token_id", None) if start is None else start
        forced = getattr(generation, "forced_bos_token_id", None)
        self.decoder_start: tuple[int, int | None] = (2 if start is None else start, forced)
        self.context = getattr(text, "max_position_embeddings", None) or 1 << 20
        image = getattr(model.config, "image_token_id", None)
        self._image = getattr(model.config, "image_token_index", None) if image is None else image

    def token(self, text: str) -> int:
        found = self._tokenizer.convert_tokens_to_ids(text)
        if found is None or found == self._tokenizer.unk_token_id:
            raise CheckpointError(
                f"{self._checkpoint.path}: the tokenizer lacks {text!r}, of which its boxes are made"
            )
        return found

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """With all special tokens."""
        return self._tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    def shown(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def check(self, task: Task) -> None:
        """Raise TaskError for words that are control tokens, or too many."""
        count = 0
        for words in (task.prompt, *task.classes):
            ids = self.encode(words)
            count += len(ids) + 2
            if self._added.intersection(ids):
                raise TaskError(f"{words!r} has a control token in it, such as <image>; leave it out")
        if count > self.context // 2:
            raise TaskError(
                f"prompt and classes are about {count} tokens, and the context is {self.context}; name fewer"
            )

    def visual_tokens(self, ids: Tensor) -> int:
        return 0 if self._image is None else int((ids == self._image).sum())


class _Steps(LogitsProcessor):
    """Keeps generation to a constraint, and the probability of every choice where it is ``scored``."""

    def __init__(self, constraint: Constraint | None, before: int, watch: Stopwatch, *, scored: bool) -> None:
        self._constraint, self._before, self._watch, self._scored = constraint, before, watch, scored
        self.probabilities: list[float] = []
        self._last: Tensor | None = None
        self._columns = None if constraint is None else torch.from_numpy(constraint.tokens)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._watch.mark("prefill")
        self._watch.mark("first_token")
        self.follow(input_ids)
        if self._constraint is not None and self._columns is not None:
            columns = self._columns.to(scores.device)
            allowed = torch.from_numpy(self._constraint.allowed()).to(scores.device)
            row = scores[0, columns].float().nan_to_num(nan=float(FLOOR)).clamp(min=float(FLOOR))
            masked = torch.full_like(scores, -torch.inf, dtype=torch.float32)
            masked[0, columns] = torch.where(allowed, row, -torch.inf)
            scores = masked
        self._last = scores[0].float() if self._scored else None
        return scores

    def follow(self, ids: Tensor) -> None:
        """Take what has been chosen since the last call."""
        new = ids[0, self._before + len(self.probabilities) :].tolist()
        for token in new:
            self.probabilities.append(self._probability(token))
            if self._constraint is not None and not self._constraint.done:
                self._constraint.advance(self._constraint.column[token])

    def _probability(self, token: int) -> float:
        if self._last is None:
            return 0.0
        shifted = self._last - self._last.max()
        found = float((shifted[token].double() - shifted.double().exp().sum().log()).exp())
        return min(max(found, 0.0), 1.0) if np.isfinite(found) else 0.0


class _Late(StoppingCriteria):
    """Stop at the deadline."""

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return torch.full((len(input_ids),), late, device=input_ids.device)


def _load(checkpoint: checkpoints.Checkpoint, dtype: torch.dtype) -> Any:
    """The model. Raises CheckpointError, whatever transformers raises."""
    model_type = str(checkpoint.config.get("model_type"))
    if model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise CheckpointError(
            f"{checkpoint.path / 'config.json'}: model_type {model_type!r} is not supported: transformers "
            f"{transformers.__version__} has no model of it that takes pictures and text"
        )
    try:
        AutoConfig.from_pretrained(checkpoint.path, **LOCAL)
        model, told = AutoModelForImageTextToText.from_pretrained(
            checkpoint.path, dtype=dtype, use_safetensors=True, output_loading_info=True, **LOCAL
        )
    except CheckpointError:
        raise
    except Exception as error:  # a configuration can be wrong in any way
        raise CheckpointError(
            f"transformers cannot load {checkpoint.path}: {type(error).__name__}: {error}"
        ) from None
    check_loaded(checkpoint.path, told)
    return model


def processor_of(checkpoint: checkpoints.Checkpoint) -> Any:
    """The processor of a folder; without its part for videos where torchvision is missing.

    Raises CheckpointError.
    """
    path, model_type = checkpoint.path, str(checkpoint.config.get("model_type"))
    try:
        return AutoProcessor.from_pretrained(path, **LOCAL)
    except ImportError as error:
        missing = error
    except Exception as error:
        raise CheckpointError(
            f"the processor of {path} cannot be had: {type(error).__name__}: {error}"
        ) from None
    try:
        kind = getattr(transformers, PROCESSOR_MAPPING_NAMES[model_type])
        pictures = AutoImageProcessor.from_pretrained(path, **LOCAL)
        tokenizer = AutoTokenizer.from_pretrained(path, **LOCAL)
        settings = path / "processor_config.json"
        own = read_json(settings).values if settings.is_file() else {}
        own = {k: v for k, v in own.items() if k not in _NOT_SETTINGS}
        template = chat.template(checkpoint)
        return _pictures_only(kind)(pictures, tokenizer, None, chat_template=template, **own)
    except Exception as error:
        raise CheckpointError(
            f"the processor of {path} cannot be had here: {type(error).__name__}: {error} "
            f"(and without torchvision: {' '.join(str(missing).split())[:200]})"
        ) from None


_NOT_SETTINGS = (
    "processor_class",
    "image_processor",
    "video_processor",
    "chat_template",
    "feature_extractor",
)


def _pictures_only(kind: type) -> type:
    """A processor whose part for videos may be None."""

    def check(self: Any, name: str, part: object) -> Any:
        return None if part is None else kind.check_argument_for_proper_class(self, name, part)  # type: ignore[attr-defined]

    members = {"__module__": kind.__module__, "check_argument_for_proper_class": check}
    return type(kind.__name__, (kind,), members)
