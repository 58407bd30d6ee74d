"""Predicting a box's four coordinates in one step instead of four: accuracy and decode passes.

    argus train --base argus-nano --whole-boxes --out out/whole --samples 100000
    python bench/whole_boxes.py out/whole --scenes 500 --json bench/results/whole_boxes.json

One set of weights decodes ``detect`` in three ways: coordinate by coordinate, as any causal model; the four
coordinates of the head of ``--whole-boxes`` after a box's first token; and these four as a draft that the
model verifies in one pass, which gives the answers of the first way.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, Idefics3ForConditionalGeneration

from argus_ros.core.protocol import EngineConfig
from argus_ros.core.types import Detection, Task
from argus_ros.tools import machine
from argus_ros.tools.accuracy import Accuracy
from argus_ros.tools.evaluate import from_scenes, prepared, truths_of
from argus_ros.training import scenes
from argus_ros.training.learner import Learner
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats import answers
from argus_ros.vlm.formats.grammar import X_MAX, Y_MAX, Y_MIN, Cursor, Grammar

WAYS = ("place by place", "whole boxes", "whole boxes, checked")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="folder that `argus train --whole-boxes` wrote")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--split", choices=scenes.SPLITS[1:], default="heldout")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    torch.set_num_threads(1)

    engine = Engine(EngineConfig(str(given.run / "checkpoint"), device="cpu", dtype="float32"))
    learner = load(given.run, engine)
    task = Task("detect")
    accuracies = [Accuracy(engine.info.classes, 0.0) for _ in WAYS]
    passes, places, objects = np.zeros(len(WAYS), int), np.zeros(len(WAYS), int), np.zeros(len(WAYS), int)
    alike = 0
    for sample in from_scenes(given.scenes, 0, given.split):
        request, tiles = prepared(engine, sample.image, task)
        prompt, grammar = engine.prompt_and_grammar(request)
        said = []
        for way in range(len(WAYS)):
            decoding = Decoding(learner, grammar, whole=way > 0, checked=way == 2)
            decoding.run(torch.tensor([prompt.ids]), torch.from_numpy(tiles))
            found = decoding.detections(engine, (request.width, request.height))
            accuracies[way].add(found, truths_of(sample, 0.0, scenes.CLASSES))
            passes[way] += decoding.passes
            places[way] += len(decoding.columns)
            objects[way] += len(found)
            said.append(decoding.columns)
        alike += said[0] == said[2]
    figures = {
        name: {
            "f1": round(accuracy.whole.f1, 4),
            "mean_iou": round(accuracy.whole.mean_iou, 4),
            "tokens_per_frame": round(places[way] / given.scenes, 2),
            "passes_per_frame": round(passes[way] / given.scenes, 2),
            "objects_per_frame": round(objects[way] / given.scenes, 2),
        }
        for way, (name, accuracy) in enumerate(zip(WAYS, accuracies, strict=True))
    }
    for name, values in figures.items():
        print(f"{name:22} {values}")
    print(f"verified answers equal to those of place by place: {alike} of {given.scenes}")
    if given.json:
        about = {"split": given.split, "scenes": given.scenes, "checked_alike": alike}
        given.json.write_text(json.dumps({**machine.describe(), **about, "ways": figures}, indent=1) + "\n")


def load(run: Path, engine: Engine) -> Learner:
    """The model of a run, with its head for whole boxes."""
    model = Idefics3ForConditionalGeneration.from_pretrained(run / "checkpoint", dtype=torch.float32)
    first_bin = int(engine.tokens.locations[0])
    state = torch.load(run / "state.pt", weights_only=True)["learner"]
    learner = Learner(model, first_bin, whole_boxes=True)
    try:
        learner.load_state_dict(state)
    except RuntimeError as error:
        raise SystemExit(f"{run} was not trained with --whole-boxes ({error})") from None
    return learner.eval()


@dataclass
class Decoding:
    """One greedy answer under the grammar."""

    learner: Learner
    grammar: Grammar
    whole: bool
    checked: bool
    columns: list[int] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)  #: masked logits of each column
    passes: int = 0  #: forward passes after prefill

    def __post_init__(self) -> None:
        self._cursor = Cursor(self.grammar, 0)
        self._cache = DynamicCache()
        self._guess: list[int] = []  # columns that the head predicts
        self._most = self.grammar.longest(0, 0)

    @torch.inference_mode()
    def run(self, ids: Tensor, tiles: Tensor) -> None:
        """Answer a prompt (1, length) about tiles (n, side, side, 3)."""
        inner = self.learner.model.model
        x = inner.text_model.get_input_embeddings()(ids)
        slots = (ids == self.learner.model.config.image_token_id)[..., None]
        hidden = self._pass(x.masked_scatter(slots, inner.connector(self.learner.see(tiles))))
        pending = self._choose(hidden[-1])
        while not self._cursor.done and len(self.columns) < self._most:
            guess = [*self._guess] if self.checked else []
            run = torch.from_numpy(self.grammar.tokens[[*pending, *guess]])[None]
            hidden = self._pass(inner.text_model.get_input_embeddings()(run))
            self.passes += 1
            at = len(pending) - 1
            pending = self._choose(hidden[at])
            while pending[0] in guess[:1] and not self._cursor.done:  # a guess that equals the model's choice
                guess, at = guess[1:], at + 1
                pending = self._choose(hidden[at])
            if guess:
                self._cache.crop(-len(guess))

    def _pass(self, x: Tensor) -> Tensor:
        """Hidden states (n, width) of embeddings (1, n, width) after those that have run."""
        text = self.learner.model.model.text_model
        return text(inputs_embeds=x, past_key_values=self._cache, use_cache=True).last_hidden_state[0]

    def _choose(self, hidden: Tensor) -> list[int]:
        """The columns that follow from a hidden state (width,): one, or a box's four."""
        logits = self.learner.model.lm_head(hidden).numpy()[self.grammar.tokens]
        masked = np.where(self._cursor.allowed(), logits, -np.inf)
        column, bins = int(masked.argmax()), self.grammar.bins
        begins = column < bins and self._cursor.state not in (Y_MIN, X_MAX, Y_MAX)
        if self.whole and begins:
            assert self.learner.whole_boxes is not None
            head = self.learner.whole_boxes(hidden).view(4, bins).numpy()
            if not self.checked:
                return [self._add(self._masked(row)) for row in head]
            self._guess = head.argmax(1).tolist()
            self._guess.pop(0)  # the box's first coordinate is known
        elif self._guess:
            self._guess.pop(0)
        return [self._add(masked)]

    def _masked(self, places: np.ndarray) -> np.ndarray:
        """The head's logits (bins,) as logits of all columns, -inf for forbidden ones."""
        row = np.full(len(self.grammar.tokens), -np.inf, np.float32)
        row[: len(places)] = places
        return np.where(self._cursor.allowed(), row, -np.inf)

    def _add(self, row: np.ndarray) -> int:
        column = int(row.argmax())
        self.rows.append(row)
        self.columns.append(column)
        self._cursor.advance(column)
        return column

    def detections(self, engine: Engine, size: tuple[int, int]) -> tuple[Detection, ...]:
        vocabulary = engine.checkpoint.vocabulary
        assert vocabulary is not None
        logits = np.array(self.rows)
        return answers.detections(
            self.grammar, self.columns, logits, engine.tokens, vocabulary.temperature, size
        )


if __name__ == "__main__":
    main()
