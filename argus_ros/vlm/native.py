"""The native backend: lean modules, static buffers, and a loop that does only what a step needs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from argus_ros.core.checkpoint import Checkpoint
from argus_ros.core.recipes import Recipes
from argus_ros.vlm import architecture
from argus_ros.vlm.decoder import Decoder
from argus_ros.vlm.drafts import Draft, PassCost
from argus_ros.vlm.generation import FLOOR, Frame, Generated, Limits, Stopwatch
from argus_ros.vlm.grammar import Cursor, Grammar
from argus_ros.vlm.host import HostSteps
from argus_ros.vlm.tokens import Prompt
from argus_ros.vlm.upload import Upload
from argus_ros.vlm.vision import Normalisation, VisionTower
from argus_ros.vlm.weights import Weights

#: Prompts and grammars whose tensors are kept on the device.
KEPT = 32

#: What drafted tokens cost in a pass that is there anyway, and on the CPU in place of a step: a product with
#: a matrix instead of a vector. A little more than measured, so that a moving camera does not lose by it.
ALONGSIDE, ON_HOST = PassCost(0.5, 0.1), PassCost(1.5, 0.1)
ON_DEVICE = PassCost(0, 0.003)

#: Normed hidden states of tokens, (n, width), on the device or on the host.
Hidden = Tensor | np.ndarray


class NativeModel:
    """A checkpoint in modules of our own. One call at a time."""

    def __init__(
        self, checkpoint: Checkpoint, recipes: Recipes, device: torch.device, dtype: torch.dtype
    ) -> None:
        vision, text = architecture.read(checkpoint)
        self.device, self._recipes = device, recipes
        normalisation = Normalisation.read(checkpoint)
        self.upload = Upload(recipes, device, normalisation, vision.image)
        with Weights(checkpoint, device, dtype) as weights:
            self.vision = VisionTower(
                weights, checkpoint.family, vision, text.width, normalisation, recipes.uint8_transfer
            )
            self.decoder = Decoder(weights, text)
            self.parameters = weights.parameters
        self._prefixes: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._prefix: tuple[int, ...] = ()  # whose keys and values stand at the front of the buffers
        self._rests: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._heads: dict[int, Head] = {}
        host = recipes.compiled_step and device.type == "cpu" and dtype == torch.float32
        self._host = HostSteps(self.decoder) if host else None
        self._costs = (ALONGSIDE, ON_HOST) if device.type == "cpu" else (ON_DEVICE, ON_DEVICE)

    @torch.inference_mode()
    @np.errstate(all="ignore")  # broken weights give broken numbers, which the grammar bears
    def generate(
        self,
        prompt: Prompt,
        grammar: Grammar,
        tiles: np.ndarray | Frame,
        limits: Limits,
        draft: Draft | None = None,
    ) -> Generated:
        watch = Stopwatch(self.device)
        pixels = self.upload(tiles)
        watch.mark("transfer")
        visual = self.vision(pixels)
        watch.mark("vision")
        head = self._head(grammar)
        guess = draft.propose(limits.max_tokens - 1, self._costs[0]) if draft else []
        logits = head(self._prefill(prompt, visual, grammar.tokens[np.array(guess, int)], limits.max_tokens))
        watch.mark("prefill")

        cursor = Cursor(grammar, limits.max_objects)
        columns: list[int] = []
        rows = np.full((limits.max_tokens, len(grammar.tokens)), -np.inf, np.float32)
        passes, truncated = 0, False
        while True:
            new: list[int] = []
            # The guess is taken as long as it is what would have been chosen; then comes one choice more.
            for raw, expected in zip(logits, [*guess, -1], strict=True):
                row = rows[len(columns) + len(new)]
                np.copyto(row, np.maximum(raw, FLOOR), where=cursor.allowed())
                new.append(int(row.argmax()))
                cursor.advance(new[-1])
                if new[-1] != expected or cursor.done or len(columns) + len(new) == limits.max_tokens:
                    break
            if not columns:
                watch.mark("first_token")
            self.decoder.length -= len(guess) - (len(new) - 1)  # what was guessed in vain
            pending = new[-1:]
            room = limits.max_tokens - len(columns) - len(new) if self._recipes.jump_forward else 0
            while len(pending) <= room and (forced := cursor.forced()) >= 0:
                rows[len(columns) + len(new), forced] = 0
                new.append(forced)
                pending.append(forced)
                cursor.advance(forced)
            columns += new
            if draft:
                draft.follow(new)
            if cursor.done:
                break
            if len(columns) >= limits.max_tokens or (limits.deadline and time.monotonic() >= limits.deadline):
                truncated = True
                break
            guess = draft.propose(limits.max_tokens - len(columns) - 1, self._costs[1]) if draft else []
            hidden, count = self._append(grammar.tokens[pending + guess], len(guess) + 1)
            logits = head(hidden)
            passes += count
        watch.mark("decode")
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        return Generated(
            columns=columns,
            logits=rows[: len(columns)],
            truncated=truncated,
            times=watch.times(),
            passes=passes,
            visual_tokens=len(visual),
            drafted=draft.drafted if draft else 0,
            accepted=draft.accepted if draft else 0,
        )

    def _prefill(self, prompt: Prompt, visual: Tensor, guess: np.ndarray, room: int) -> Tensor:
        """Run the prompt and a guess behind it; hidden states (1 + guess, width) from its last token on."""
        self._reserve(len(prompt.ids) + room)
        ids, places = self._rest(
            prompt if self._recipes.prefix_kv else Prompt((), prompt.ids, prompt.image_token)
        )
        if self._recipes.prefix_kv:
            self._restore(prompt.prefix)
        else:
            self.decoder.length, self._prefix = 0, ()
        if len(guess):
            ids = torch.cat([ids, torch.from_numpy(guess).to(self.device)])
        x = self.decoder.embed(ids)
        x[places] = visual
        return self.decoder(x)[-1 - len(guess) :]

    def _reserve(self, capacity: int) -> None:
        if capacity > self.decoder.capacity:
            self.decoder.reserve(capacity)
            self._prefix = ()

    def _restore(self, prefix: tuple[int, ...]) -> None:
        """Put the keys and values of ``prefix`` at the front of the buffers; they are computed once."""
        keys, values = self.decoder.keys, self.decoder.values
        if prefix != self._prefix:
            if prefix not in self._prefixes:
                self.decoder.length = 0
                self.decoder(self.decoder.embed(torch.tensor(prefix, device=self.device)))
                front = keys[:, :, : len(prefix)].clone(), values[:, :, : len(prefix)].clone()
                _keep(self._prefixes, prefix, front)
            else:
                keys[:, :, : len(prefix)], values[:, :, : len(prefix)] = self._prefixes[prefix]
            self._prefix = prefix
        self.decoder.length = len(prefix)

    def _rest(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """Token ids from the image on, and the places of the visual tokens among them."""
        if prompt.rest not in self._rests:
            ids = torch.tensor(prompt.rest)
            places = (ids == prompt.image_token).nonzero().flatten()
            _keep(self._rests, prompt.rest, (ids.to(self.device), places.to(self.device)))
        return self._rests[prompt.rest]

    def _append(self, tokens: np.ndarray, count: int) -> tuple[Hidden, int]:
        """Run tokens; the hidden states of the last ``count``, and how many passes that took."""
        if not self._host:
            x = self.decoder.embed(torch.from_numpy(tokens).to(self.device))
            return self.decoder(x)[-count:], 1
        if count == 1:  # two or three forced tokens are cheaper one by one
            return np.stack([self._host(token) for token in tokens])[-1:], len(tokens)
        return self._host.many(tokens)[-count:], 1

    def _head(self, grammar: Grammar) -> Head:
        if id(grammar) not in self._heads:
            _keep(self._heads, id(grammar), Head(grammar, self.decoder.head))
        return self._heads[id(grammar)]


class Head:
    """The output layer for one grammar."""

    def __init__(self, grammar: Grammar, weight: Tensor) -> None:
        self.grammar = grammar
        # Only the rows that the grammar can use are computed, where that is worth their copy.
        self._all = 2 * len(grammar.tokens) > len(weight)
        used = torch.from_numpy(grammar.tokens).to(weight.device)
        self._weight = weight.t() if self._all else weight[used].t().contiguous()

    def __call__(self, hidden: Hidden) -> np.ndarray:
        """Hidden states (n, width) to logits (n, columns), float32, on the host."""
        if isinstance(hidden, np.ndarray):
            logits = hidden @ self._weight.numpy()
        else:
            logits = (hidden @ self._weight).float().cpu().numpy()
        return logits[:, self.grammar.tokens] if self._all else logits


def _keep(cache: dict[Any, Any], key: object, value: object) -> None:
    """Put into a bounded cache; the oldest entry goes."""
    if len(cache) >= KEPT:
        del cache[next(iter(cache))]
    cache[key] = value
