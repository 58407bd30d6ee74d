"""Tokens of a model that runs in transformers' modules (``vlm/engine/generic.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from argus_ros.core.checkpoint import Checkpoint
from argus_ros.core.section import CheckpointError
from argus_ros.core.types import Task
from argus_ros.vlm.formats.prompts import TaskError


class Words:
    """The tokens of a folder's tokenizer and configuration; implements ``reading.Words``."""

    def __init__(self, tokenizer: Any, model: Any, checkpoint: Checkpoint) -> None:
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
                f"{self._checkpoint.path}: the tokenizer lacks {text!r}, which is a token of its boxes"
            )
        return found

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text with all special tokens."""
        return self._tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    def shown(self, ids: Sequence[int]) -> str:
        """The text without special tokens, for users."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def check(self, task: Task) -> None:
        """Raise TaskError for words with control tokens, and for too many words."""
        count = 0
        for words in (task.prompt, *task.classes):
            ids = self.encode(words)
            count += len(ids) + 2
            if self._added.intersection(ids):
                raise TaskError(f"{words!r} contains a control token, such as <image>; remove it")
        if count > self.context // 2:
            raise TaskError(
                f"prompt and classes are about {count} tokens, and the context is {self.context}; name fewer"
            )

    def visual_tokens(self, ids: Tensor) -> int:
        """Number of visual tokens in a prompt (1, length)."""
        return 0 if self._image is None else int((ids == self._image).sum())
