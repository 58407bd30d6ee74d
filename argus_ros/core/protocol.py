"""The messages between the node's process and the engine's process, and their shared memory.

Messages are encoded as MessagePack, one per packet of a SOCK_SEQPACKET socket, so that a process that crashes
while writing leaves no partial message. msgspec checks each against the types below. Pixels are in shared
memory: an anonymous file that both processes map. It is freed when both have ended, and it is sealed, so that
neither can truncate it while the other reads. Deadlines are on the steady clock, which all processes of a
machine share.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import socket
from dataclasses import astuple, dataclass

import msgspec
import numpy as np

from argus_ros.core.types import Answer, Task

#: Minimum bytes of a slot that holds whole frames: 1920x1080 in RGB. Larger frames become tiles.
FRAME_BYTES = 1920 * 1080 * 3


def slot_shape(rows: int, columns: int, frame: tuple[int, int], tile: int) -> tuple[int, ...]:
    """Shape of the pixels in a slot: (height, width, 3) of a frame, else (tiles, tile, tile, 3)."""
    return (frame[1], frame[0], 3) if any(frame) else (rows * columns + 1, tile, tile, 3)


@dataclass(frozen=True)
class EngineConfig:
    """Settings of the engine's process."""

    checkpoint: str = "argus-nano"
    backend: str = "native"  #: ``native``, ``transformers`` or ``openai``
    allow_download: bool = False  #: whether to download a missing hub checkpoint
    answer_format: str = "auto"  #: of an open model's boxes; ``auto``: its architecture's
    device: str = "auto"  #: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
    dtype: str = "auto"  #: ``auto``, ``float32``, ``bfloat16``, ``float16``
    preset: str = "realtime"
    threads: int = 0  #: CPU threads for torch; 0: all cores but one
    server_timeout: float = 8.0  #: backend ``openai``: seconds for a request with all its retries
    server_in_flight: int = 4  #: the same: maximum number of parallel requests
    server_pixels: int = 1_000_000  #: the same: maximum pixels of a picture
    slots: int = 4  #: maximum number of frames in shared memory


@dataclass(frozen=True)
class ModelInfo:
    """The description of a loaded engine."""

    name: str
    device: str  #: the device's own name, e.g. ``NVIDIA Orin`` or ``cpu``
    dtype: str
    tasks: tuple[str, ...]
    classes: tuple[str, ...]  #: closed vocabulary; empty means any phrase
    tile: int
    max_tiles: int
    tokens_per_tile: int
    parameters: int
    recipes: tuple[str, ...] = ()  #: recipes that are on and in effect
    load_seconds: float = 0.0
    frame_seconds: float = 0.0  #: of the shortest frame, measured after warm-up; 0: unknown
    whole_frames: bool = False  #: takes whole frames, where they fit into a slot
    scored: bool = True  #: whether scores are probabilities; else all are equal

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot of the arena: ``max_tiles`` RGB tiles of uint8, or a frame."""
        tiles = self.max_tiles * self.tile * self.tile * 3
        return max(tiles, FRAME_BYTES) if self.whole_frames else tiles


@dataclass(frozen=True)
class FrameRequest:
    """One prepared frame, with its pixels in slot ``slot`` of the arena."""

    id: int
    slot: int
    rows: int  #: grid of tiles cut from the picture; 0 when there is only the global tile
    columns: int
    width: int  #: of the source picture (the region of interest), pixels
    height: int
    task: Task
    camera: str = ""
    max_detections: int = 0  #: 0: the checkpoint's limit
    max_new_tokens: int = 0  #: free-text tasks; 0: the engine's default
    deadline: float | None = None  #: steady clock; generation stops before it, after a whole object
    taken: float | None = None  #: capture time in seconds on any clock of its camera; None: unknown
    frame: tuple[int, int] = (0, 0)  #: width and height, where the slot holds the frame instead of tiles

    @property
    def tiles(self) -> int:
        return self.rows * self.columns + 1

    def shape(self, tile: int) -> tuple[int, ...]:
        """Shape of the pixels, uint8 RGB: (tiles, tile, tile, 3), or (height, width, 3) of the frame."""
        return slot_shape(self.rows, self.columns, self.frame, tile)


class ProtocolError(ValueError):
    """Not a message of this protocol, or not one that is valid in this state."""


# --- client to worker -------------------------------------------------------------------------


class Start(msgspec.Struct, frozen=True, tag=True):
    """The first message: load this engine."""

    config: EngineConfig


class Run(msgspec.Struct, frozen=True, tag=True):
    """Run these frames as one batch; one ``Answered`` follows for each of them."""

    requests: tuple[FrameRequest, ...]


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    pass


# --- worker to client -------------------------------------------------------------------------


class Progress(msgspec.Struct, frozen=True, tag=True):
    """The step of loading that the worker is at, as text for users."""

    text: str


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded and warmed up, and the arena has its size."""

    info: ModelInfo


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The engine cannot start; the worker sends this and exits."""

    reason: str
    transient: bool = False  #: another try may succeed, for example after a lack of memory


class Answered(msgspec.Struct, frozen=True, tag=True):
    """The answer to request ``id``, or its error."""

    id: int
    answer: Answer = msgspec.field(default_factory=Answer)
    error: str = ""
    refused: bool = False  #: the request was invalid; the engine works


ToWorker = Start | Run | Shutdown
ToClient = Progress | Ready | Failed | Answered

#: Maximum bytes of a message: below Linux's default limit of a packet (net.core.wmem_default).
MAX_MESSAGE = 1 << 17


class Channel:
    """One end of the socket: sends the messages above, receives those of type ``incoming``."""

    def __init__(self, end: socket.socket, incoming: object) -> None:
        self._socket = end
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(incoming).decode
        self._buffer = memoryview(bytearray(MAX_MESSAGE + 1))

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: object, *, wait: bool = False) -> None:
        """Send a message.

        Raises ProtocolError where it is too long, and OSError where sending fails; without ``wait`` also
        BlockingIOError, where the other end does not read.
        """
        data = self._encode(message)
        if len(data) > MAX_MESSAGE:
            raise ProtocolError(f"a message has {len(data)} bytes; the limit is {MAX_MESSAGE}")
        self._socket.send(data, socket.MSG_NOSIGNAL | (0 if wait else socket.MSG_DONTWAIT))

    def receive(self, *, wait: bool = False) -> object:
        """The next message.

        Raises EOFError where the other end is closed, BlockingIOError where there is no message and ``wait``
        is not set, ProtocolError for data that are not a message of the expected types.
        """
        size = self._socket.recv_into(self._buffer, flags=0 if wait else socket.MSG_DONTWAIT)
        if not size:
            raise EOFError
        if size > MAX_MESSAGE:
            raise ProtocolError(f"a message of more than {MAX_MESSAGE} bytes")
        try:
            return self._decode(self._buffer[:size])
        except msgspec.DecodeError as error:  # ValidationError is one
            raise ProtocolError(f"{size} bytes that are not a message: {error}") from None
        except (ValueError, RecursionError) as error:  # invalid UTF-8; arrays nested too deep
            raise ProtocolError(f"{size} bytes that are not a message: {error}") from None

    def close(self) -> None:
        self._socket.close()


def why_unusable(answer: Answer, width: int, height: int) -> str:
    """Why an answer for a picture of ``width`` x ``height`` pixels is invalid; "" if it is valid.

    Invalid are NaN, boxes outside the picture, scores outside [0, 1], negative times and counts.
    """
    for one in answer.detections:
        if not 0.0 <= one.score <= 1.0:
            return f"the score of {one.label!r} is {one.score}"
        if not (0.0 <= one.x_min <= one.x_max <= width and 0.0 <= one.y_min <= one.y_max <= height):
            box = f"{one.x_min}, {one.y_min}, {one.x_max}, {one.y_max}"
            return f"the box of {one.label!r} is {box} in a picture of {width}x{height}"
    if not all(0.0 <= seconds < math.inf for seconds in astuple(answer.times)):
        return "a time is not a number of seconds"
    counts = (
        answer.visual_tokens,
        answer.generated_tokens,
        answer.decode_passes,
        answer.drafted_tokens,
        answer.accepted_tokens,
        answer.dropped,
    )
    return "" if min(counts) >= 0 else "a count is negative"


def why_impossible(info: ModelInfo) -> str:
    """Why a model's description is impossible; "" if it is possible."""
    if not (0 < info.tile <= 1 << 14 and 0 < info.max_tiles <= 1 << 12 and info.slot_bytes <= 1 << 30):
        return f"{info.max_tiles} tiles of {info.tile} pixels"
    if not 0.0 <= info.frame_seconds < math.inf:
        return f"a frame takes {info.frame_seconds} s"
    return ""


class Arena:
    """Shared memory, divided into slots for one frame's pixels each.

    The client creates the file and passes its descriptor to the worker. The worker, which knows the model,
    sets the size before it sends ``Ready``. Then both map it.
    """

    def __init__(self, fd: int, slots: int, slot_bytes: int) -> None:
        if os.fstat(fd).st_size < slots * slot_bytes:
            os.ftruncate(fd, slots * slot_bytes)
        self._map = mmap.mmap(fd, slots * slot_bytes)
        self._slots = np.frombuffer(self._map, np.uint8).reshape(slots, slot_bytes)

    @staticmethod
    def create_file() -> int:
        """The descriptor of a new anonymous file; pass it to the worker with ``pass_fds``. Raises OSError.

        The file can grow but not shrink: a process that reads beyond the end of a truncated mapping is
        killed.
        """
        fd = os.memfd_create("argus_ros", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        return fd

    def slot(self, slot: int) -> np.ndarray:
        """View (slot_bytes,) uint8 of a slot; the engine sees what is written to it."""
        return self._slots[slot]

    def pixels(self, request: FrameRequest, tile: int) -> np.ndarray:
        """View of a request's pixels. Raises ValueError where its slot cannot hold them."""
        if not 0 <= request.slot < len(self._slots):
            raise ValueError(f"slot is {request.slot}; the shared memory has {len(self._slots)} slots")
        shape, slot = request.shape(tile), self._slots[request.slot]
        if min(shape) < 1 or math.prod(shape) > len(slot):
            raise ValueError(f"pixels of shape {shape} do not fit into a slot of {len(slot)} bytes")
        return slot[: math.prod(shape)].reshape(shape)

    def buffer(self) -> np.ndarray:
        """The whole arena, (slots, slot_bytes) uint8, to register with the device."""
        return self._slots
