"""What takes bytes from outside, as functions of bytes: each raises nothing but the errors that it promises.

test_fuzz.py tries them on a few hundred inputs, run.py (``make fuzz SECONDS=60``) on as many as time allows.
"""

from __future__ import annotations

import contextlib
import json
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core import recipes
from argus_ros.core.checkpoint import CheckpointError, Tiling
from argus_ros.core.image import ENCODINGS, Image, ImageError, Region
from argus_ros.core.preparation import fill
from argus_ros.core.protocol import (
    Answered,
    Arena,
    Channel,
    EngineConfig,
    FrameRequest,
    ModelInfo,
    ProtocolError,
    Ready,
    Run,
    Start,
    ToClient,
    ToWorker,
    why_impossible,
    why_unusable,
)
from argus_ros.core.types import Answer, Detection, Task

TILING = Tiling(tile=32, longest_edge=64)
SLOT = np.zeros(TILING.most * 32 * 32 * 3, np.uint8)
BUDGET = 32.0  #: the node's decode_budget


@dataclass(frozen=True)
class Target:
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]  #: inputs that are right, to begin from


_RAW = struct.Struct("<BHHIB4h")


def raw(data: bytes) -> None:
    """An Image message: encoding, size, step, order of bytes, region of interest, then the pixels."""
    if len(data) < _RAW.size:
        return
    encoding, width, height, step, big, *region = _RAW.unpack_from(data)
    name = ENCODINGS[encoding] if encoding < len(ENCODINGS) else f"unknown{encoding}"
    image = Image(data[_RAW.size :], name, width, height, step, bool(big))
    with contextlib.suppress(ImageError):
        fill(SLOT, image, Region(*region), TILING, whole=bool(big))


def compressed(data: bytes) -> None:
    """A CompressedImage message: the first byte chooses its format."""
    kinds = (
        "jpeg",
        "png",
        "bayer_rggb8; jpeg compressed ",
        "mono16; png compressed",
        "rgb8; compressedDepth",
    )
    image = Image(data[1:], kinds[data[0] % len(kinds)] if data else "", compressed=True, budget=BUDGET)
    with contextlib.suppress(ImageError):
        fill(SLOT, image, None, TILING, whole=False)


def _receive(data: bytes, incoming: object) -> object:
    ours, theirs = Channel.pair()
    with ours, theirs:
        theirs.send(data)
        with contextlib.suppress(ProtocolError, EOFError):
            return Channel(ours, incoming).receive()
    return None


def from_engine(data: bytes) -> None:
    """What the node hears of its engine."""
    message = _receive(data[: 1 << 16], ToClient)
    if isinstance(message, Answered):
        why_unusable(message.answer, 640, 480)
    if isinstance(message, Ready):
        why_impossible(message.info)


def from_node(data: bytes) -> None:
    """What the engine hears of its node, and what it looks at in shared memory."""
    message = _receive(data[: 1 << 16], ToWorker)
    for request in message.requests if isinstance(message, Run) else ():
        with contextlib.suppress(ValueError):
            _ARENA.pixels(request, 32)


_FILES = ("config.json", "processor_config.json", "preprocessor_config.json")
_FOLDER = Path(tempfile.mkdtemp(prefix="argus-fuzz-"))


def checkpoint(data: bytes) -> None:
    """A checkpoint's JSON files, one after the other, parted by zeros."""
    for name, text in zip(_FILES, [*data.split(b"\0"), b"", b"", b""][:3], strict=True):
        (_FOLDER / name).write_bytes(text)
    with contextlib.suppress(CheckpointError):
        read = checkpoints.read(_FOLDER)
        assert read.tiling.tile > 0
        assert read.tiling.most > 0


def preset(data: bytes) -> None:
    """Parameter ``preset``."""
    with contextlib.suppress(ValueError):
        recipes.preset(data.decode(errors="replace"))


def bag(data: bytes) -> None:
    """A recording's file."""
    from argus_ros.tools.bag import Bag, BagError

    path = _FOLDER / ("it.mcap" if data[:1] == b"\x89" else "it.bag")
    path.write_bytes(data)
    with contextlib.suppress(BagError), Bag(path) as recording:
        for frame in recording.frames(recording.cameras()):
            with contextlib.suppress(ImageError):
                fill(SLOT, frame.image, None, TILING, whole=False)


# --- what is right ------------------------------------------------------------------------------


def _arena() -> Arena:
    return Arena(Arena.create_file(), 2, 32 * 32 * 3 * 5)


_ARENA = _arena()
_REQUEST = FrameRequest(1, 0, 1, 1, 640, 480, Task("detect", ("cone",)), "front", 8, 0, 1.0, 2.0)
_INFO = ModelInfo("argus-nano", "cpu", "float32", ("detect",), ("cone",), 32, 5, 4, 1000)
_ANSWER = Answer((Detection("cone", 0.5, 1.0, 2.0, 3.0, 4.0, "a cone"),), "a text")
_encode = msgspec.msgpack.Encoder().encode


def _shipped(name: str) -> bytes:
    folder = checkpoints.SHIPPED / name
    parts = ((folder / part).read_bytes() if (folder / part).exists() else b"" for part in _FILES)
    return b"\0".join(json.dumps(json.loads(part)).encode() if part else part for part in parts)


def _pictures() -> tuple[bytes, ...]:
    pixels = np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3)
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    encoded = [
        cv2.imencode(".jpg", pixels)[1],
        cv2.imencode(".jpg", pixels, progressive)[1],
        cv2.imencode(".jpg", pixels[..., 0])[1],
        cv2.imencode(".png", pixels)[1],
        cv2.imencode(".png", pixels[..., 0].astype(np.uint16) * 257)[1],
    ]
    return tuple(bytes([kind]) + one.tobytes() for one in encoded for kind in range(3))


def _mcap() -> tuple[bytes, ...]:
    from rosbags.rosbag2 import StoragePlugin, Writer

    from argus_ros.tools.bag import type_store

    store = type_store()
    kind, stamp_of, header_of = (
        store.types[f"{name}"]
        for name in ("sensor_msgs/msg/CompressedImage", "builtin_interfaces/msg/Time", "std_msgs/msg/Header")
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bag"
        with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            topic = writer.add_connection(
                "/front/image_raw/compressed", "sensor_msgs/msg/CompressedImage", typestore=store
            )
            picture = np.frombuffer(_pictures()[0][1:], np.uint8)
            message = kind(header_of(stamp_of(1, 2), "front"), "jpeg", picture)
            writer.write(topic, 10, store.serialize_cdr(message, kind.__msgtype__))
        return (next(path.glob("*.mcap")).read_bytes(),)


TARGETS: dict[str, Target] = {
    "raw": Target(
        raw,
        tuple(
            _RAW.pack(number, 32, 24, 32 * 8, number % 2, 0, 0, 0, 0) + bytes(32 * 24 * 8 * 2)
            for number in range(len(ENCODINGS))
        ),
    ),
    "compressed": Target(compressed, _pictures()),
    "from_engine": Target(
        from_engine, (_encode(Ready(_INFO)), _encode(Answered(1, _ANSWER)), _encode(Answered(1, error="no")))
    ),
    "from_node": Target(from_node, (_encode(Run((_REQUEST,) * 2)), _encode(Start(EngineConfig())))),
    "checkpoint": Target(checkpoint, tuple(_shipped(name) for name in checkpoints.shipped())),
    "preset": Target(preset, (b"realtime", b"edge+still_gate-overlap", b"stock")),
    "bag": Target(bag, _mcap()),
}
