"""The interface of an engine, and the choice of the engine for a configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.protocol import EngineConfig, FrameRequest, ModelInfo
from argus_ros.core.types import Answer
from argus_ros.vlm.formats.prompts import TaskError


class Served(Protocol):
    """A loaded engine, as the worker uses it."""

    info: ModelInfo

    def warm_up(self) -> None:
        """Run once, for all lazy initialisation, and write the measured time to ``info``."""

    def pin(self, memory: np.ndarray) -> None:
        """Register the memory of the slots with the device, where that helps."""

    def check(self, request: FrameRequest, pixels: np.ndarray) -> None:
        """Raise TaskError for a request that the engine cannot run."""

    def stream(
        self, requests: Sequence[FrameRequest], pixels: Sequence[np.ndarray]
    ) -> Iterator[tuple[int, Answer | Exception]]:
        """Yield each frame's index with its answer once it is done, or with the error of this frame alone.

        An exception ends all frames that are left. TaskError: the request is invalid.
        """


def check_whole(request: FrameRequest, pixels: np.ndarray) -> None:
    """Raise TaskError where pixels are not the request's whole frame, which engines without tiles need."""
    width, height = request.frame
    if pixels.shape != (height, width, 3) or pixels.dtype != np.uint8 or min(request.frame) < 1:
        raise TaskError(f"pixels are {pixels.shape} {pixels.dtype}; this model takes whole frames, uint8 RGB")
    if request.width < 1 or request.height < 1:
        raise TaskError(f"the picture is {request.width}x{request.height} pixels")


def run(engine: Served, requests: Sequence[FrameRequest], pixels: Sequence[np.ndarray]) -> list[Answer]:
    """The answers to frames, in their order. Raises what ``stream`` raises or has for an answer."""
    answers: dict[int, Answer] = {}
    for index, answer in engine.stream(requests, pixels):
        if isinstance(answer, Exception):
            raise answer
        answers[index] = answer
    return [answers[index] for index in range(len(requests))]


def not_finite(info: ModelInfo) -> FloatingPointError:
    """Why a frame has no answer whose logits are NaN or infinite."""
    return FloatingPointError(
        f"the model's logits are no numbers (NaN or infinite) in {info.dtype} on {info.device}: the picture "
        "is too much for this precision, or the device is broken; try dtype float32, or device cpu"
    )


def load(config: EngineConfig) -> Served:
    """The engine of a configuration: for a server, native for the supported families, or transformers.

    Raises CheckpointError or EngineError where it cannot be loaded.
    """
    if config.backend == "openai":
        from argus_ros.vlm.engine.server import ServerEngine

        return ServerEngine(config)
    if checkpoints.read_for(config).family is None:
        from argus_ros.vlm.engine.generic import GenericEngine  # transformers takes seconds to import

        return GenericEngine(config)
    from argus_ros.vlm.engine.native import Engine

    return Engine(config)
