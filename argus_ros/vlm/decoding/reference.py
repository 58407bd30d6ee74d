"""The reference: transformers' own modules and ``generate``, with the grammar as a logits processor."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging as transformers_logging

from argus_ros.core.checkpoint import Checkpoint, CheckpointError
from argus_ros.core.types import Task
from argus_ros.vlm.decoding.generation import FLOOR, Generated, Job, Model, Stopwatch, is_sound, probability
from argus_ros.vlm.formats import chat
from argus_ros.vlm.formats.grammar import Cursor, Grammar
from argus_ros.vlm.models.vision import Normalisation
from argus_ros.vlm.models.weights import check_finite, check_loaded, check_stored
from argus_ros.vlm.processors import stock_processor


class TransformersModel(Model):
    """A checkpoint in transformers' modules. Frames run one by one, and drafts are ignored."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        check_stored(checkpoint.path)
        transformers_logging.disable_progress_bar()
        self.checkpoint, self.device = checkpoint, device
        self.normalisation = Normalisation.read(checkpoint)
        try:
            self.model, told = AutoModelForImageTextToText.from_pretrained(
                checkpoint.path,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:  # invalid configurations can raise anything
            raise CheckpointError(
                f"transformers cannot load {checkpoint.path}: {type(error).__name__}: {error}"
            ) from None
        check_loaded(checkpoint.path, told)
        check_finite(checkpoint.path, self.model.named_parameters())
        self.model.to(device).eval()
        generation = self.model.generation_config
        if generation.pad_token_id is None:  # nothing is padded, but some versions warn on every call
            ends = generation.eos_token_id
            generation.pad_token_id = ends[0] if isinstance(ends, list) else ends
        self._projector = self.model.model.get_submodule(checkpoint.native.connector)
        self.parameters = sum(p.numel() for p in self.model.parameters())

    def generate_all(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Generated]]:
        yield from ((index, self._answer(job)) for index, job in enumerate(jobs))

    @torch.inference_mode()
    def _answer(self, job: Job) -> Generated:
        prompt, grammar, limits = job.prompt, job.grammar, job.limits
        assert isinstance(job.tiles, np.ndarray)
        watch = Stopwatch(self.device)
        pixels = self.normalisation.apply(torch.from_numpy(np.array(job.tiles))).permute(0, 3, 1, 2)
        pixels = (pixels[None] if self.checkpoint.native.nested else pixels).to(self.device)
        ids = torch.tensor([prompt.ids], device=self.device)
        watch.mark("transfer")
        processor = GrammarProcessor(grammar, limits.max_objects, len(prompt.ids), watch)
        hook = self._projector.register_forward_hook(lambda *_: watch.mark("vision"))
        try:
            output = self._greedy(
                {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels},
                limits.max_tokens,
                logits_processor=LogitsProcessorList([processor]),
                stopping_criteria=StoppingCriteriaList([_Stop(processor, limits.deadline)]),
            )
        finally:
            hook.remove()
        times = watch.times()
        columns = [grammar.column[int(token)] for token in output]
        processor.follow(output)
        logits = torch.stack(processor.rows).cpu().numpy()
        return Generated(
            columns=columns,
            logits=logits,
            probabilities=list(map(probability, logits, columns)),
            truncated=not processor.cursor.done,
            times=times,
            passes=len(columns) - 1,
            visual_tokens=int((ids == prompt.image_token).sum()),
            sound=all(is_sound(row[column]) for row, column in zip(logits, columns, strict=True)),
        )

    @torch.inference_mode()
    def stock(self, image: np.ndarray, task: Task, max_new_tokens: int) -> list[int]:
        """The stock path: an RGB image (height, width, 3) through the stock processor and plain ``generate``.

        No grammar. Returns the new token ids.
        """
        inputs = self.stock_inputs(image, task).to(self.device)
        return self._greedy(dict(inputs), max_new_tokens).tolist()

    def stock_inputs(self, image: np.ndarray, task: Task) -> Any:
        """The stock processor's output for an image and a task's prompt; without a vocabulary for a chat."""
        if not hasattr(self, "_processor"):
            self._processor = stock_processor(self.checkpoint)
        if self.checkpoint.vocabulary is not None:
            text = chat.full_text(task, self.checkpoint)
            return self._processor(text=text, images=[image], return_tensors="pt")
        return chat.inputs(self._processor, PIL.Image.fromarray(image), chat.question(task, self.checkpoint))

    def _greedy(self, inputs: dict[str, Tensor], max_new_tokens: int, **arguments: object) -> Tensor:
        """New token ids (n,)."""
        output = self.model.generate(
            **inputs, do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, **arguments
        )
        return output[0, inputs["input_ids"].shape[1] :]


class GrammarProcessor(LogitsProcessor):
    """The grammar for ``generate``, one sequence at a time; forbidden tokens get -inf."""

    def __init__(
        self, grammar: Grammar, max_objects: int, prompt_length: int, watch: Stopwatch | None = None
    ) -> None:
        self.cursor = Cursor(grammar, max_objects)
        self.rows: list[Tensor] = []  #: masked logits of each step, by column
        self.end_tokens = set(grammar.tokens[grammar.bins : grammar.bins + grammar.ends].tolist())
        self._columns = torch.from_numpy(grammar.tokens)
        self._prompt_length, self._watch, self._seen = prompt_length, watch, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._watch and not self.rows:
            self._watch.mark("prefill")
            self._watch.mark("first_token")
        self.follow(input_ids[0, self._prompt_length :])
        columns = self._columns.to(scores.device)
        allowed = torch.from_numpy(self.cursor.allowed()).to(scores.device)
        row = torch.where(allowed, scores[0, columns].float().clamp(min=float(FLOOR)), -torch.inf)
        self.rows.append(row)
        masked = torch.full_like(scores, -torch.inf)
        masked[0, columns] = row.to(scores.dtype)
        return masked

    def follow(self, tokens: Tensor) -> None:
        """Move the cursor over the new tokens."""
        for token in tokens[self._seen :].tolist():
            self.cursor.advance(self.cursor.grammar.column[token])
        self._seen = len(tokens)


class _Stop(StoppingCriteria):
    """Stop at the end of the answer or at the deadline."""

    def __init__(self, processor: GrammarProcessor, deadline: float | None) -> None:
        self._processor, self._deadline = processor, deadline

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        late = self._deadline is not None and time.monotonic() >= self._deadline
        ended = int(input_ids[0, -1]) in self._processor.end_tokens
        return torch.tensor([late or ended], device=input_ids.device)
