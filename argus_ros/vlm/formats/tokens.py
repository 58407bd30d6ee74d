"""Converts text and pictures to token ids: the tokenizer, and prompts in the stock processor's layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from argus_ros.core.checkpoint import Checkpoint, CheckpointError
from argus_ros.core.families import Family
from argus_ros.core.section import Section, read_json
from argus_ros.core.types import Task
from argus_ros.vlm.formats import chat, prompts

#: Special tokens that are part of answers: locations and labels of objects.
SAID = (
    *(f"<{slash}{tag}>" for tag in ("ref", "box", "quad", "poly", "point") for slash in ("", "/")),
    *(f"<|{tag}_{end}|>" for tag in ("object_ref", "box", "quad") for end in ("start", "end")),
)


@dataclass(frozen=True)
class Prompt:
    """Token ids of a question with its image: ``prefix``, then ``rest`` with the visual tokens."""

    prefix: tuple[int, ...]  #: everything before the image; the same for every frame of a task
    rest: tuple[int, ...]  #: starts with the image; ``image_token`` at each visual token
    image_token: int

    @property
    def ids(self) -> tuple[int, ...]:
        return self.prefix + self.rest


class Tokens:
    """Token ids from a checkpoint's tokenizer and configuration."""

    def __init__(self, checkpoint: Checkpoint, vocabulary_size: int) -> None:
        path = checkpoint.path / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library has no narrower exception
            raise CheckpointError(f"{path} cannot be read: {error}") from None
        self.checkpoint = checkpoint
        vocabulary, known = checkpoint.vocabulary, self._tokenizer.get_vocab_size()
        self.size = min(known, vocabulary_size)
        self.image = self._known(checkpoint.native.placeholder)
        config = Section(checkpoint.config, str(checkpoint.path / "config.json"))
        if config.count("image_token_id", self.image, 0) != self.image:
            raise config.error("image_token_id", f"{self.image}, as in tokenizer.json")
        generation = checkpoint.path / "generation_config.json"
        self._generation = read_json(generation) if generation.is_file() else Section({}, str(generation))
        self.ends = self._ends(config, vocabulary_size)
        self.locations = tuple(
            self._known(prompts.location_token(i)) for i in range(vocabulary.bins if vocabulary else 0)
        )
        added = self._tokenizer.get_added_tokens_decoder()
        special = {i for i, token in added.items() if token.special} | {
            self.image,
            *self.ends,
            *self.locations,
        }
        if vocabulary:
            special.add(self._known(prompts.ANSWER))
        #: Tokens that are forbidden in a user's prompt; the token for unknown words is allowed.
        self._control = special - {self._tokenizer.token_to_id("<unk>")}
        #: Tokens of free text; for an open model all of them, as with plain ``generate``.
        words = range(self.size) if vocabulary else range(vocabulary_size)
        never = special if vocabulary else {*self.ends, *self._forbidden()}
        self.text = tuple(i for i in words if i not in never)
        self.text_set = frozenset(self.text)
        #: Special tokens of an answer that are removed from the text.
        self._silent = special - {self._tokenizer.token_to_id(token) for token in SAID}

    def _known(self, token: str) -> int:
        index = self._tokenizer.token_to_id(token)
        if index is None or index >= self.size:
            raise CheckpointError(f"{self.checkpoint.path / 'tokenizer.json'} lacks the token {token!r}")
        return index

    def _ends(self, config: Section, vocabulary_size: int) -> tuple[int, ...]:
        """Tokens that end an answer, from generation_config.json as in ``generate``."""
        if self.checkpoint.vocabulary:
            return (self._known(prompts.END),)
        for section in (self._generation, config, config.section("text_config")):
            if "eos_token_id" in section and (ends := section.counts("eos_token_id", ())):
                there = tuple(dict.fromkeys(end for end in ends if end < vocabulary_size))
                if not there:
                    raise section.error("eos_token_id", f"below vocab_size, which is {vocabulary_size}")
                return there
        return (2,)

    def _forbidden(self) -> set[int]:
        """Tokens that generation_config.json forbids in free text."""
        section, found = self._generation, set(self._generation.counts("suppress_tokens", ()))
        words = section.values.get("bad_words_ids") or []
        if not isinstance(words, list) or not all(isinstance(word, list) for word in words):
            raise section.error("bad_words_ids", "a list of lists of tokens")
        for word in words:
            if len(word) == 1:
                found.update(Section({"bad_words_ids": word}, section.where).counts("bad_words_ids", ()))
        return found

    def check_plain(self) -> None:
        """Raise CheckpointError where ``generate`` would not simply take an open model's best token."""
        section = self._generation
        plain: dict[str, float | None] = {
            "repetition_penalty": 1.0,
            "no_repeat_ngram_size": 0,
            "min_new_tokens": 0,
            "min_length": 0,
        }
        plain |= dict.fromkeys(("begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id"), None)
        odd = [key for key, value in plain.items() if key in section and section.values[key] != value]
        if any(len(word) > 1 for word in section.values.get("bad_words_ids") or []):
            odd.append("bad_words_ids")
        if odd and not self.checkpoint.vocabulary:
            raise CheckpointError(
                f"{section.where}: {odd[0]} changes answers in a way that backend native does not support; "
                "use backend transformers, or remove it"
            )

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of words inside an answer, without the tokens that the tokenizer adds around a whole text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        said = [int(i) for i in ids if i not in self._silent]
        return self._tokenizer.decode(said, skip_special_tokens=False).strip()

    def decode_all(self, ids: Sequence[int]) -> str:
        """The text with all special tokens and spaces."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def prompt(self, task: Task, rows: int, columns: int, tokens_per_tile: int) -> Prompt:
        """The prompt of one frame, equal to the stock processor's for the text and the picture.

        Raises TaskError for words that contain control tokens.
        """
        for words in (task.prompt, *task.classes):
            if self._control.intersection(self.encode(words)):
                raise prompts.TaskError(f"{words!r} contains a control token, such as <image>; remove it")
        text, family = chat.full_text(task, self.checkpoint), self.checkpoint.native
        begin = not chat.starts_itself(text, self.checkpoint)
        return lay_out(self._tokenizer, text, family, rows, columns, tokens_per_tile, begin=begin)


def lay_out(
    tokenizer: Tokenizer,
    text: str,
    family: Family,
    rows: int,
    columns: int,
    tokens_per_tile: int,
    *,
    begin: bool = True,
) -> Prompt:
    """Token ids of a text with a placeholder for a picture of ``rows`` x ``columns`` tiles.

    With ``begin``, the tokenizer adds the tokens that it adds around every text.
    """
    picture, expanded = family.placeholder, family.picture(rows, columns)
    image = tokenizer.encode(picture, add_special_tokens=False).ids[0]
    ids = tokenizer.encode(text.replace(picture, expanded), add_special_tokens=begin).ids
    # Added tokens split the text, so placeholders can be repeated before or after tokenising.
    before = tokenizer.encode(expanded.split(picture)[0], add_special_tokens=False).ids
    start = ids.index(image) - len(before)
    rest = [i for token in ids[start:] for i in [token] * (tokens_per_tile if token == image else 1)]
    return Prompt(tuple(ids[:start]), tuple(rest), image)
