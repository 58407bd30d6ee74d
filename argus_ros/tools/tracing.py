"""Time spans around functions during a measurement; all changes are undone afterwards."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: Operations for whose result the host has to wait.
BLOCKING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2")


@dataclass
class Span:
    """One span of a frame; seconds since the start of the frame."""

    stage: str
    start: float
    end: float = 0.0
    inner: float = 0.0  #: seconds of nested spans
    events: tuple[Any, Any] | None = None  #: start and end on the device, where it has its own clock
    device: float = 0.0  #: seconds between these events

    @property
    def own(self) -> float:
        return self.end - self.start - self.inner


@dataclass
class Trace:
    """The spans of one frame. Stages do not overlap: nested spans count for the inner one only."""

    cuda: bool
    spans: list[Span] = field(default_factory=list)
    syncs: dict[str, int] = field(default_factory=dict)  #: blocking synchronisations by stage
    total: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    _open: list[Span] = field(default_factory=list)

    @contextmanager
    def span(self, stage: str) -> Iterator[None]:
        """A time span with this name; a nested span with the same name is part of it."""
        if self._open and self._open[-1].stage == stage:
            yield
            return
        span = Span(stage, time.perf_counter() - self.began)
        self._open.append(span)
        if self.cuda:
            span.events = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            span.events[0].record()
        try:
            yield
        finally:
            if span.events:
                span.events[1].record()
            self._open.pop()
            span.end = time.perf_counter() - self.began
            if self._open:
                self._open[-1].inner += span.end - span.start
            self.spans.append(span)

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            with self.span(stage):
                return function(*arguments, **named)

        return wrapped

    def blocked(self) -> None:
        """Count a wait of the host for the device, or a call that would wait with a device."""
        stage = self._open[-1].stage if self._open else "framework"
        self.syncs[stage] = self.syncs.get(stage, 0) + 1

    def finish(self) -> None:
        self.total = time.perf_counter() - self.began
        for span in self.spans:
            if span.events:
                span.events[1].synchronize()
                span.device = span.events[0].elapsed_time(span.events[1]) / 1e3
        self.spans.sort(key=lambda span: span.start)

    def seconds(self) -> dict[str, float]:
        """Host seconds by stage; time outside spans is ``framework``."""
        stages: dict[str, float] = {}
        for span in self.spans:
            stages[span.stage] = stages.get(span.stage, 0.0) + span.own
        stages["framework"] = max(self.total - sum(stages.values()), 0.0)
        return stages

    def device_seconds(self) -> dict[str, float]:
        stages: dict[str, float] = {}
        for span in self.spans:
            if span.events:
                stages[span.stage] = stages.get(span.stage, 0.0) + span.device
        return stages


class Patches:
    """Puts spans around functions of modules, classes and objects, until the context ends."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._undo = ExitStack()

    def __enter__(self) -> Patches:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def around(self, owner: Any, name: str, stage: str) -> None:
        """Put a span around ``owner.name``, if it exists."""
        function = getattr(owner, name, None)
        if function is not None:
            self.put(owner, name, self.trace.wrap(stage, function))

    def put(self, owner: Any, name: str, value: object) -> None:
        missing = object()
        before = vars(owner).get(name, missing)
        setattr(owner, name, value)
        if before is missing:
            self._undo.callback(delattr, owner, name)
        else:
            self._undo.callback(setattr, owner, name, before)

    def hook(self, module: torch.nn.Module, stage: Callable[[], str]) -> None:
        """Put a span around every call of a torch module."""
        opened: list[Any] = []

        def enter(*_: object) -> None:
            opened.append(self.trace.span(stage()))
            opened[-1].__enter__()

        def leave(*_: object) -> None:
            opened.pop().__exit__(None, None, None)

        self._undo.callback(module.register_forward_pre_hook(enter).remove)
        self._undo.callback(module.register_forward_hook(leave).remove)


@contextmanager
def counting(trace: Trace) -> Iterator[None]:
    """Count blocking synchronisations: with CUDA those that happen, elsewhere those that would happen."""
    if not trace.cuda:
        with _Blocking(trace):
            yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_, **__: (
                trace.blocked() if "synchroniz" in str(message) else None
            )
            yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class _Blocking(TorchDispatchMode):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in args[1] if i is not None
        )
        if name in BLOCKING or by_mask:
            self._trace.blocked()
        return func(*args, **(kwargs or {}))
