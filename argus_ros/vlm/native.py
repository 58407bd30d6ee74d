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
from argus_ros.vlm.generation import FLOOR, Generated, Limits, Stopwatch
from argus_ros.vlm.grammar import Cursor, Grammar
from argus_ros.vlm.host import HostSteps
from argus_ros.vlm.tokens import Prompt
from argus_ros.vlm.vision import Normalisation, VisionTower
from argus_ros.vlm.weights import Weights

#: Prompts and grammars whose tensors are kept on the device.
KEPT = 32

#: Normed hidden state of one token: (1, width) on the device, or (width,) on the host.
Hidden = Tensor | np.ndarray


class NativeModel:
    """A checkpoint in modules of our own. One call at a time."""

    def __init__(
        self, checkpoint: Checkpoint, recipes: Recipes, device: torch.device, dtype: torch.dtype
    ) -> None:
        vision, text = architecture.read(checkpoint)
        self.device, self._recipes = device, recipes
        self._normalisation = Normalisation.read(checkpoint)
        with Weights(checkpoint, device, dtype) as weights:
            self.vision = VisionTower(
                weights, checkpoint.family, vision, text.width, self._normalisation, recipes.uint8_transfer
            )
            self.decoder = Decoder(weights, text)
            self.parameters = weights.parameters
        self._prefixes: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._prefix: tuple[int, ...] = ()  # whose keys and values stand at the front of the buffers
        self._rests: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._heads: dict[int, Head] = {}
        host = recipes.compiled_step and device.type == "cpu" and dtype == torch.float32
        self._host = HostSteps(self.decoder) if host else None

    @torch.inference_mode()
    @np.errstate(all="ignore")  # broken weights give broken numbers, which the grammar bears
    def generate(self, prompt: Prompt, grammar: Grammar, tiles: np.ndarray, limits: Limits) -> Generated:
        watch = Stopwatch(self.device)
        pixels = self.upload(tiles)
        watch.mark("transfer")
        visual = self.vision(pixels)
        watch.mark("vision")
        head = self._head(grammar)
        logits = head(self._prefill(prompt, visual, limits.max_tokens))
        watch.mark("prefill")

        cursor = Cursor(grammar, limits.max_objects)
        columns: list[int] = []
        rows = np.full((limits.max_tokens, len(grammar.tokens)), -np.inf, np.float32)
        passes, truncated = 0, False
        while True:
            row = np.where(cursor.allowed(), np.maximum(logits, FLOOR), -np.inf)
            rows[len(columns)] = row
            new = [int(row.argmax())]
            if not columns:
                watch.mark("first_token")
            cursor.advance(new[0])
            room = limits.max_tokens - len(columns) if self._recipes.jump_forward else 1
            while len(new) < room and (forced := cursor.forced()) >= 0:
                rows[len(columns) + len(new), forced] = 0
                new.append(forced)
                cursor.advance(forced)
            columns += new
            if cursor.done:
                break
            if len(columns) >= limits.max_tokens or (limits.deadline and time.monotonic() >= limits.deadline):
                truncated = True
                break
            hidden, count = self._append(grammar.tokens[new])
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
        )

    def upload(self, tiles: np.ndarray) -> Tensor:
        """Tiles (tiles, side, side, 3) uint8 as the vision tower takes them, on the device."""
        pixels = torch.from_numpy(np.ascontiguousarray(tiles))
        if not self._recipes.uint8_transfer:
            pixels = self._normalisation.apply(pixels)
        return pixels.to(self.device)

    def _prefill(self, prompt: Prompt, visual: Tensor, room: int) -> Tensor:
        """Run the prompt; hidden state of its last token (1, width)."""
        self._reserve(len(prompt.ids) + room)
        ids, places = self._rest(
            prompt if self._recipes.prefix_kv else Prompt((), prompt.ids, prompt.image_token)
        )
        if self._recipes.prefix_kv:
            self._restore(prompt.prefix)
        else:
            self.decoder.length, self._prefix = 0, ()
        x = self.decoder.embed(ids)
        x[places] = visual
        return self.decoder(x)[-1:]

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

    def _append(self, tokens: np.ndarray) -> tuple[Hidden, int]:
        """Run tokens that were chosen; the last one's hidden state, and how many passes that took."""
        if self._host:
            return [self._host(token) for token in tokens][-1], len(tokens)
        return self.decoder(self.decoder.embed(torch.from_numpy(tokens).to(self.device)))[-1:], 1

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
        """Hidden state of one token to logits by column, float32, on the host."""
        if isinstance(hidden, np.ndarray):
            logits = hidden @ self._weight.numpy()
        else:
            logits = (hidden @ self._weight)[0].float().cpu().numpy()
        return logits[self.grammar.tokens] if self._all else logits


def _keep(cache: dict[Any, Any], key: object, value: object) -> None:
    """Put into a bounded cache; the oldest entry goes."""
    if len(cache) >= KEPT:
        del cache[next(iter(cache))]
    cache[key] = value
