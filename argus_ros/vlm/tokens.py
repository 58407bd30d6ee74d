"""Text and pictures as token ids: the tokenizer, and prompts laid out as the stock processor does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from argus_ros.core.checkpoint import Checkpoint, CheckpointError
from argus_ros.core.types import Task
from argus_ros.vlm import prompts


@dataclass(frozen=True)
class Prompt:
    """Token ids of one question with its image: ``prefix``, then the rest with visual tokens in it."""

    prefix: tuple[int, ...]  #: all that stands before the image; the same for every frame of a task
    rest: tuple[int, ...]  #: begins where the image does; ``image_token`` where a visual token goes
    image_token: int

    @property
    def ids(self) -> tuple[int, ...]:
        return self.prefix + self.rest


class Tokens:
    """What a checkpoint's tokenizer and configuration say about its token ids."""

    def __init__(self, checkpoint: Checkpoint, vocabulary_size: int) -> None:
        path = checkpoint.path / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"{path} cannot be read: {error}") from None
        self.checkpoint = checkpoint
        self.size = min(self._tokenizer.get_vocab_size(), vocabulary_size)
        self.image = self._known(prompts.placeholder(checkpoint.family))
        self.ends = self._ends()
        bins = checkpoint.vocabulary.bins if checkpoint.vocabulary else 0
        self.locations = tuple(self._known(prompts.location_token(i)) for i in range(bins))
        added = self._tokenizer.get_added_tokens_decoder()
        special = {i for i, token in added.items() if token.special} | {
            self.image,
            *self.ends,
            *self.locations,
        }
        if checkpoint.vocabulary:
            special.add(self._known(prompts.ANSWER))
        #: Tokens that no user may write into a prompt; an unknown word is no such token.
        self._control = special - {self._tokenizer.token_to_id("<unk>")}
        #: Tokens that free text may consist of.
        self.text = tuple(i for i in range(self.size) if i not in special)
        self.text_set = frozenset(self.text)

    def _known(self, token: str) -> int:
        index = self._tokenizer.token_to_id(token)
        if index is None or index >= self.size:
            raise CheckpointError(f"{self.checkpoint.path / 'tokenizer.json'} lacks the token {token!r}")
        return index

    def _ends(self) -> tuple[int, ...]:
        """Tokens that end an answer: those of generation_config.json, as ``generate`` does."""
        if self.checkpoint.vocabulary:
            return (self._known(prompts.END),)
        path = self.checkpoint.path / "generation_config.json"
        try:
            end = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
        except ValueError as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from None
        if end is None:
            end = self.checkpoint.config.get("text_config", {}).get("eos_token_id", 2)
        return tuple(end) if isinstance(end, list) else (end,)

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of words inside an answer, without anything the tokenizer puts around a whole text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def prompt(self, task: Task, rows: int, columns: int, tokens_per_tile: int) -> Prompt:
        """The prompt for one frame, equal to what the stock processor makes of the text and the picture.

        Raises TaskError for words that would be read as control tokens.
        """
        for words in (task.prompt, *task.classes):
            if self._control.intersection(self.encode(words)):
                raise prompts.TaskError(f"{words!r} has a control token in it, such as <image>; leave it out")
        text = prompts.full_text(task, self.checkpoint.vocabulary, self.checkpoint.family)
        return lay_out(self._tokenizer, text, self.checkpoint.family, rows, columns, tokens_per_tile)


def lay_out(
    tokenizer: Tokenizer, text: str, family: str, rows: int, columns: int, tokens_per_tile: int
) -> Prompt:
    """Token ids of a text with a placeholder for a picture, cut into ``rows`` x ``columns`` tiles."""
    picture = prompts.placeholder(family)
    expanded = prompts.image_text(family, rows, columns)
    image = tokenizer.encode(picture, add_special_tokens=False).ids[0]
    ids = tokenizer.encode(text.replace(picture, expanded)).ids
    # Added tokens split the text, so placeholders can be repeated after tokenising as well as before.
    before = tokenizer.encode(expanded.split(picture)[0], add_special_tokens=False).ids
    start = ids.index(image) - len(before)
    rest = [i for token in ids[start:] for i in [token] * (tokens_per_tile if token == image else 1)]
    return Prompt(tuple(ids[:start]), tuple(rest), image)
