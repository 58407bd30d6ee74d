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
from argus_ros.vlm.tokens import Prompt
from argus_ros.vlm.vision import Normalisation, VisionTower
from argus_ros.vlm.weights import Weights

#: Prompts and grammars whose tensors are kept on the device.
KEPT = 32


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
                weights, vision, text.width, self._normalisation, recipes.uint8_transfer
            )
            self.decoder = Decoder(weights, text)
            self.parameters = weights.parameters
        self._prefixes: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._prefix: tuple[int, ...] = ()  # whose keys and values stand at the front of the buffers
        self._rests: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._heads: dict[int, tuple[Grammar, Tensor, Tensor, bool]] = {}

    @torch.inference_mode()
    def generate(self, prompt: Prompt, grammar: Grammar, tiles: np.ndarray, limits: Limits) -> Generated:
        watch = Stopwatch(self.device)
        pixels = self._upload(tiles)
        watch.mark("transfer")
        visual = self.vision(pixels)
        watch.mark("vision")
        tokens, head, whole = self._head(grammar)
        logits = self._logits(self._prefill(prompt, visual, limits.max_tokens), tokens, head, whole)
        watch.mark("prefill")

        cursor = Cursor(grammar, limits.max_objects)
        columns: list[int] = []
        rows = np.empty((limits.max_tokens, len(grammar.tokens)), np.float32)
        passes, truncated = 0, False
        while True:
            row = np.where(cursor.allowed(), np.maximum(logits.cpu().numpy(), FLOOR), -np.inf)
            column = int(row.argmax())
            if not columns:
                watch.mark("first_token")
            rows[len(columns)] = row
            columns.append(column)
            cursor.advance(column)
            if cursor.done:
                break
            if len(columns) == limits.max_tokens or (limits.deadline and time.monotonic() >= limits.deadline):
                truncated = True
                break
            logits = self._logits(
                self.decoder(self.decoder.embed(tokens[column : column + 1])), tokens, head, whole
            )
            passes += 1
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

    def _upload(self, tiles: np.ndarray) -> Tensor:
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

    def _head(self, grammar: Grammar) -> tuple[Tensor, Tensor, bool]:
        """The grammar's token ids, the rows of the output layer to compute, and whether these are all."""
        if id(grammar) not in self._heads:
            tokens = torch.from_numpy(grammar.tokens).to(self.device)
            # Rows are copied only where that leaves most of them out.
            whole = 2 * len(tokens) > len(self.decoder.head)
            head = self.decoder.head if whole else self.decoder.head[tokens]
            _keep(self._heads, id(grammar), (grammar, tokens, head, whole))
        return self._heads[id(grammar)][1:]

    @staticmethod
    def _logits(hidden: Tensor, tokens: Tensor, head: Tensor, whole: bool) -> Tensor:
        """(1, width) to (columns,) float32."""
        logits = (hidden @ head.t())[0]
        return (logits[tokens] if whole else logits).float()


def _keep(cache: dict[Any, Any], key: object, value: object) -> None:
    """Put into a bounded cache; the oldest entry goes."""
    if len(cache) >= KEPT:
        del cache[next(iter(cache))]
    cache[key] = value
