"""CUDA graphs: operations recorded once per shape, and replayed without a call per operation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

#: Number of shapes kept; each is a recording with its own buffers.
KEPT = 128


class Graphs:
    """A function of tensors on one device, replayed from one recording per shape of its arguments.

    The first call with a shape runs eagerly, the second one is recorded, and later ones are replayed. The
    function must do the same operations for all numbers and must not synchronise. It may run more than once
    for one call. A device without graphs runs it on the same buffers, without a recording. Without ``on`` it
    is simply called.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device, pool: Any, *, on: bool) -> None:
        self.function = function
        self._device, self._pool, self._on = device, pool, on
        self._seen: set[object] = set()  # shapes that have run eagerly
        self.recordings: dict[object, Recording] = {}

    def __call__(self, *tensors: Tensor, **fixed: int) -> Any:
        if not self._on:
            return self.function(*tensors, **fixed)
        key = (*((t.shape, t.dtype) for t in tensors), *fixed.items())
        if key not in self.recordings:
            if key not in self._seen:
                self._seen.add(key)
                return self.function(*tensors, **fixed)
            if len(self.recordings) >= KEPT:
                del self.recordings[next(iter(self.recordings))]
            self.recordings[key] = Recording(self.function, tensors, fixed, self._device, self._pool)
        return self.recordings[key](tensors)

    def clear(self) -> None:
        """Drop all recordings: their buffers have moved, or their memory is needed."""
        self.recordings.clear()
        self._seen.clear()


class Recording:
    def __init__(
        self,
        function: Callable[..., Any],
        tensors: tuple[Tensor, ...],
        fixed: dict[str, int],
        device: torch.device,
        pool: Any,
    ) -> None:
        self._inputs = [tensor.clone() for tensor in tensors]
        self._again = lambda: function(*self._inputs, **fixed)
        self.graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._record(device, pool)

    def _record(self, device: torch.device, pool: Any) -> None:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
        current = torch.cuda.current_stream(device)
        try:
            stream.wait_stream(current)
            with torch.cuda.stream(stream):  # libraries initialise on a stream's first use
                self._again()
            current.wait_stream(stream)
            with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
                self._outputs = self._again()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # slower, with the same results
            log.warning("a step cannot be recorded as a CUDA graph and runs eagerly: %s", error)
        else:
            self.graph = graph

    def __call__(self, tensors: tuple[Tensor, ...]) -> Any:
        for mine, given in zip(self._inputs, tensors, strict=True):
            mine.copy_(given, non_blocking=True)
        if self.graph is None:
            return self._again()
        self.graph.replay()
        # All recordings share one memory pool: results that are kept have to be copied.
        if isinstance(self._outputs, Tensor):
            return self._outputs.clone()
        return tuple(output.clone() for output in self._outputs)
