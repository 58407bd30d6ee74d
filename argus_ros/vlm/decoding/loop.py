"""Decode steps whose token choices stay on the device (recipe ``device_loop``).

The grammar's tables and registers are tensors, so that masking and choosing need no host. Steps run in
chunks: the host reads a chunk while the device computes the next one, so that it learns of an answer's end at
most two chunks late. The tokens are the same as those of ``Decoding.take``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from argus_ros.vlm.decoding.generation import FLOOR, Decoding
from argus_ros.vlm.decoding.upload import up
from argus_ros.vlm.formats.grammar import DONE, FULL, START, X_MAX, Y_MAX, Y_MIN, Grammar
from argus_ros.vlm.models.decoder import GRAIN, Decoder
from argus_ros.vlm.models.graphs import Graphs

#: Steps per chunk, unless measured: a chunk has to take longer than the host's work between two chunks.
CHUNK = 2
#: Maximum tokens per step: the chosen one and those that the grammar forces after it.
LONGEST = 8
#: Number of a row's registers; its tokens follow them.
PLACE, COUNT, STATE, LEAST_X, LEAST_Y, OBJECTS, MOST, LIMIT = range(8)


class DeviceLoop:
    """Decodes answers of one grammar."""

    def __init__(
        self,
        grammar: Grammar,
        logits: Callable[[Tensor], Tensor],
        decoder: Decoder,
        *,
        jump: bool,
        recorded: Callable[[Callable[..., Any]], Graphs],
        chunk: int = CHUNK,
    ) -> None:
        self.grammar, self.chunk = grammar, chunk
        self._decoder, self._logits = decoder, logits
        device = decoder.embedding.device
        self._allowed, self._next, self._tokens = (
            torch.from_numpy(table).to(device)
            for table in (grammar.allowed, grammar.next.astype(np.int64), grammar.tokens)
        )
        chains = [_chain(grammar, state) if jump else ([], state) for state in range(len(grammar.allowed))]
        self.longest = 1 + max(len(columns) for columns, _ in chains)
        padded = [columns + [-1] * (self.longest - 1 - len(columns)) for columns, _ in chains]
        self._chain = torch.tensor(padded, dtype=torch.long, device=device).view(len(chains), -1)
        self._length = torch.tensor([len(columns) for columns, _ in chains], device=device)
        self._after = torch.tensor([state for _, state in chains], device=device)
        self._columns = torch.arange(len(grammar.tokens), device=device)
        self.tables = (
            self._allowed.view(torch.uint8), self._next, self._chain, self._length, self._after, self._tokens
        )  # fmt: skip
        self.run = recorded(self._chunk)

    def takes(self, decodings: Sequence[Decoding]) -> bool:
        """Whether the loop supports these answers: one grammar, no draft, and few pending tokens."""
        return all(
            d.grammar is self.grammar and not d.guess and len(d.pending) <= self.longest for d in decodings
        )

    def __call__(self, decodings: Sequence[Decoding]) -> Iterator[None]:
        """Continue answers in chunks until they end; only one chunk where a draft may follow."""
        registers = self._registers(decodings)
        reach = -(-int(registers[:, LIMIT].max() + self.longest) // GRAIN) * GRAIN
        registers = up(registers, self._decoder.embedding.device)
        once = any(decoding.job.draft for decoding in decodings if not decoding.ended)
        registers, landing = self.launch(registers, reach)
        while not all(decoding.ended for decoding in decodings):
            current = landing
            if not once:
                registers, landing = self.launch(registers, reach)
            columns, rows = current.read()
            for decoding in decodings:
                if not decoding.ended:
                    decoding.accept(columns[decoding.row], rows[decoding.row])
            yield
            if once:
                return

    def _registers(self, decodings: Sequence[Decoding]) -> Tensor:
        """The state of the answers, (rows, registers and tokens); rows that have ended do not change."""
        made = torch.zeros(len(decodings), LIMIT + 1 + self.longest, dtype=torch.long)
        for row, decoding in zip(made, decodings, strict=True):
            row[PLACE] = row[LIMIT] = decoding.length
            row[COUNT] = 1
            if decoding.ended:
                row[STATE] = DONE
                continue
            cursor, pending = decoding.cursor, decoding.grammar.tokens[decoding.pending]
            row[COUNT], row[STATE] = len(pending), cursor.state
            row[LEAST_X], row[LEAST_Y] = cursor.x_min, cursor.y_min
            row[OBJECTS], row[MOST] = cursor.objects, cursor.max_objects
            row[LIMIT] += decoding.job.limits.max_tokens - len(decoding.columns) + len(pending)
            row[LIMIT + 1 : LIMIT + 1 + len(pending)] = torch.from_numpy(pending)
        return made

    def launch(self, registers: Tensor, reach: int) -> tuple[Tensor, Download]:
        registers, columns, rows = self.run(registers, reach=reach)
        return registers, Download(columns, rows)

    def _chunk(self, registers: Tensor, reach: int) -> tuple[Tensor, Tensor, Tensor]:
        """Several steps: registers, columns (rows, steps, longest), masked logits (rows, steps, columns)."""
        chosen, rows = [], []
        for _ in range(self.chunk):
            registers, columns, row = self.step(registers, reach)
            chosen.append(columns)
            rows.append(row)
        return registers, torch.stack(chosen, 1), torch.stack(rows, 1)

    def step(self, registers: Tensor, reach: int) -> tuple[Tensor, Tensor, Tensor]:
        """Run the chosen tokens, and choose by the result."""
        fused = self._decoder.fused
        if fused and fused.takes(len(registers), self.longest):
            made = fused.step(registers, self.tables, self.longest, reach)
            if made:
                return made
        place, count = registers[:, PLACE], registers[:, COUNT]
        places = place[:, None] + torch.arange(self.longest, device=place.device)
        hidden = self._decoder(self._decoder.embed(registers[:, LIMIT + 1 :]), places, reach)
        last = hidden.gather(1, (count - 1)[:, None, None].expand(-1, 1, hidden.shape[2]))[:, 0]
        return self.choose(registers, self._logits(last))

    def choose(self, registers: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Choose by logits (rows, columns) and update the registers of all rows, as ``Cursor`` does."""
        place, count, state, x_min, y_min, objects, most, limit = registers[:, : LIMIT + 1].unbind(1)
        least = torch.where(state == X_MAX, x_min, torch.where(state == Y_MAX, y_min, -1))
        allowed = self._allowed[state] & (self._columns > least[:, None])
        row = torch.where(allowed, logits.clamp(min=float(FLOOR)), -torch.inf)
        column = row.argmax(-1)
        following = self._next[state, column]
        x_min = torch.where(following == Y_MIN, column, x_min)
        y_min = torch.where(state == Y_MIN, column, y_min)
        objects = objects + (state == Y_MAX)
        following = torch.where((state == Y_MAX) & (objects >= most), FULL, following)
        columns = torch.cat([column[:, None], self._chain[following]], 1)
        place, count = torch.minimum(place + count, limit), 1 + self._length[following]
        state = self._after[following]
        scalars = torch.stack([place, count, state, x_min, y_min, objects, most, limit], 1)
        return torch.cat([scalars, self._tokens[columns.clamp(min=0)]], 1), columns, row


class Download:
    """Results of a chunk, being copied to the host."""

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
        self._event = torch.cuda.Event() if tensors[0].is_cuda else None
        if self._event:
            self._event.record(torch.cuda.current_stream(tensors[0].device))

    def read(self) -> list[np.ndarray]:
        if self._event:
            self._event.synchronize()
        return [tensor.numpy() for tensor in self._tensors]


def longest(grammar: Grammar) -> int:
    """Tokens of a step, with those that the grammar forces."""
    return 1 + max(len(_chain(grammar, state)[0]) for state in range(len(grammar.allowed)))


def _chain(grammar: Grammar, state: int) -> tuple[list[int], int]:
    """The columns that the grammar forces from a state on, for any registers, and the state after them."""
    columns: list[int] = []
    while len(columns) + 1 < LONGEST and (state == FULL or state >= START):
        column = int(grammar.forced[state])
        following = int(grammar.next[state, column])
        if column < 0 or following == Y_MIN:
            break
        columns.append(column)
        state = following
    return columns, state
