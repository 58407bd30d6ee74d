"""What the node's process and the engine's process say to each other.

Plain dataclasses, pickled over a pipe (``multiprocessing.connection``); pixels travel in shared
memory: an anonymous file both processes map, so that nothing is left behind when one dies.
Deadlines are on the steady clock, which all processes of a machine share.
"""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass, field

import numpy as np

from argus_ros.core.types import Answer, Task

#: Bytes of a slot at least, where frames travel as they are: 1920x1080 in RGB. Larger ones become tiles.
FRAME_BYTES = 1920 * 1080 * 3


def slot_shape(rows: int, columns: int, frame: tuple[int, int], tile: int) -> tuple[int, ...]:
    """Of what lies in a slot: (height, width, 3) of a frame, else (tiles, tile, tile, 3)."""
    return (frame[1], frame[0], 3) if any(frame) else (rows * columns + 1, tile, tile, 3)


@dataclass(frozen=True)
class EngineConfig:
    """How the engine's process is started."""

    checkpoint: str = "argus-nano"
    backend: str = "native"  #: ``native`` or ``transformers``
    device: str = "auto"  #: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
    dtype: str = "auto"  #: ``auto``, ``float32``, ``bfloat16``, ``float16``
    preset: str = "realtime"
    threads: int = 0  #: CPU threads for torch; 0: all cores but one
    slots: int = 4  #: frames that may lie in shared memory at once


@dataclass(frozen=True)
class ModelInfo:
    """What a loaded engine tells about itself."""

    name: str
    device: str  #: the device's own name, e.g. ``NVIDIA Orin`` or ``cpu``
    dtype: str
    tasks: tuple[str, ...]
    classes: tuple[str, ...]  #: closed vocabulary; empty means any phrase
    tile: int
    max_tiles: int
    tokens_per_tile: int
    parameters: int
    recipes: tuple[str, ...] = ()  #: switched on and in force
    load_seconds: float = 0.0
    frame_seconds: float = 0.0  #: that the shortest frame takes, measured when warm; 0: unknown

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot of the arena: ``max_tiles`` RGB tiles of uint8, or a frame."""
        tiles = self.max_tiles * self.tile * self.tile * 3
        return max(tiles, FRAME_BYTES) if "device_resize" in self.recipes else tiles


@dataclass(frozen=True)
class FrameRequest:
    """One prepared frame, whose pixels lie in slot ``slot`` of the arena."""

    id: int
    slot: int
    rows: int  #: grid of tiles cut from the picture; 0 when there is only the global tile
    columns: int
    width: int  #: of the source picture (the region of interest), pixels
    height: int
    task: Task
    camera: str = ""
    max_detections: int = 0  #: 0: as many as the checkpoint allows
    max_new_tokens: int = 0  #: free-text tasks; 0: the engine's default
    deadline: float | None = None  #: steady clock; generation stops after the last object that fits
    taken: float | None = None  #: when the picture was, in seconds on any clock of its camera; None: unknown
    frame: tuple[int, int] = (0, 0)  #: width and height where the slot holds the frame, not tiles of it

    @property
    def tiles(self) -> int:
        return self.rows * self.columns + 1

    def shape(self, tile: int) -> tuple[int, ...]:
        """Of the pixels, uint8 RGB: (tiles, tile, tile, 3), or (height, width, 3) of the frame."""
        return slot_shape(self.rows, self.columns, self.frame, tile)


# --- client to worker -------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """Run these frames as one batch; each is answered by an ``Answered`` of its own."""

    requests: tuple[FrameRequest, ...]


@dataclass(frozen=True)
class Shutdown:
    pass


# --- worker to client -------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """What the worker is doing while it loads, for a person to read."""

    text: str


@dataclass(frozen=True)
class Ready:
    """The model is loaded and warm, and the arena has its size."""

    info: ModelInfo


@dataclass(frozen=True)
class Failed:
    """The engine cannot be had with this configuration; the worker exits after saying so."""

    reason: str


@dataclass(frozen=True)
class Answered:
    """The answer to request ``id``, or the error that took its place."""

    id: int
    answer: Answer = field(default_factory=Answer)
    error: str = ""


class Arena:
    """Shared memory cut into slots for one frame's pixels each.

    The client creates the file and hands its descriptor to the worker; the worker, which knows the
    model, sets the size before it says ``Ready``; then both map it.
    """

    def __init__(self, fd: int, slots: int, slot_bytes: int) -> None:
        if os.fstat(fd).st_size < slots * slot_bytes:
            os.ftruncate(fd, slots * slot_bytes)
        self._map = mmap.mmap(fd, slots * slot_bytes)
        self._slots = np.frombuffer(self._map, np.uint8).reshape(slots, slot_bytes)

    @staticmethod
    def create_file() -> int:
        """Descriptor of a new anonymous file; give it to the worker with ``pass_fds``."""
        return os.memfd_create("argus_ros")

    def slot(self, slot: int) -> np.ndarray:
        """View (slot_bytes,) uint8 of a slot; writing to it needs no further copy."""
        return self._slots[slot]

    def pixels(self, request: FrameRequest, tile: int) -> np.ndarray:
        """View of a request's pixels. Raises ValueError where they cannot lie in its slot."""
        if not 0 <= request.slot < len(self._slots):
            raise ValueError(f"slot {request.slot}: the shared memory has {len(self._slots)}")
        shape, slot = request.shape(tile), self._slots[request.slot]
        if min(shape) < 1 or math.prod(shape) > len(slot):
            raise ValueError(f"pixels of shape {shape} do not fit into a slot of {len(slot)} bytes")
        return slot[: math.prod(shape)].reshape(shape)

    def buffer(self) -> np.ndarray:
        """The whole arena, (slots, slot_bytes) uint8, to register with the device."""
        return self._slots
