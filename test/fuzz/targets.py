"""What takes bytes from outside, as functions of bytes: each raises nothing but the errors that it promises.

test_fuzz.py tries them on a few hundred inputs, run.py (``make fuzz SECONDS=60``) on as many as time allows.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import msgspec
import numpy as np
from safetensors.numpy import save

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core import checksums, recipes
from argus_ros.core.checkpoint import CheckpointError, Tiling
from argus_ros.core.depth import decode_depth
from argus_ros.core.image import ENCODINGS, Image, ImageError, Region
from argus_ros.core.lens import MODELS, Lens, LensError
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
from argus_ros.core.space import DepthError, locate
from argus_ros.core.types import STRUCTURED_TASKS, TASKS, Answer, Detection, Task

TILING = Tiling(tile=32, longest_edge=64)
SLOT = np.zeros(TILING.max_tiles * 32 * 32 * 3, np.uint8)
BUDGET = 32.0  #: the node's decode_budget


@dataclass(frozen=True)
class Target:
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]  #: inputs that are right, to begin from
    longest: int = 4096  #: bytes of an input


_RAW = struct.Struct("<BHHIB4h")
_DEPTH = struct.Struct("<BHHI")
_INFO_SIZES = struct.Struct("<BBII4I2I")
_PINHOLE = Lens(np.array([[20.0, 0, 15.5], [0, 20, 11.5], [0, 0, 1]]))


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


def depth(data: bytes) -> None:
    """A depth image: encoding and whether it is compressed, size, step, then the data; and places on it."""
    if len(data) < _DEPTH.size:
        return
    kind, width, height, step = _DEPTH.unpack_from(data)
    encoding = ("16UC1", "32FC1", "mono16", "8UC1")[kind % 4]
    body = data[_DEPTH.size :]
    if kind & 4:
        codec = "rvl" if kind & 8 else "png"
        image = Image(body, f"{encoding}; compressedDepth {codec}", compressed=True)
    else:
        image = Image(body, encoding, width, height, step, bool(kind & 8))
    with contextlib.suppress(ImageError, DepthError):
        locate([(1.0, 1.0, 20.0, 15.0), (0.0, 0.0, 32.0, 24.0)], (32, 24), _PINHOLE, decode_depth(image))


def camera_info(data: bytes) -> None:
    """A CameraInfo message: model, sizes, region of interest and binning, then K, P and D as they come."""
    if len(data) < _INFO_SIZES.size:
        return
    model, count, width, height, *roi, across, down = _INFO_SIZES.unpack_from(data)
    numbers = np.zeros(count % 16 + 21)
    given = np.frombuffer(data, "<f8", offset=_INFO_SIZES.size, count=(len(data) - _INFO_SIZES.size) // 8)
    numbers[: len(given)] = given[: len(numbers)]
    region = SimpleNamespace(**dict(zip(("x_offset", "y_offset", "width", "height"), roi, strict=True)))
    info = SimpleNamespace(width=width, height=height, roi=region, binning_x=across, binning_y=down)
    info.distortion_model = [*MODELS, "", "unknown"][model % (len(MODELS) + 2)]
    info.k, info.p, info.d = numbers[:9], numbers[9:21], numbers[21:]
    with contextlib.suppress(LensError):
        lens = Lens.of(info, (32, 24), rectified=bool(model & 128))
        for place in locate([(1.0, 1.0, 20.0, 15.0)], (32, 24), lens, np.ones((24, 32), np.float32)):
            assert np.isfinite(place.covariance).all()


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
#: In memory where there is some: files are written for each input.
_MEMORY = next((folder for folder in ("/dev/shm",) if os.access(folder, os.W_OK)), None)
_FOLDER = Path(tempfile.mkdtemp(prefix="argus-fuzz-", dir=_MEMORY))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


def checkpoint(data: bytes) -> None:
    """A checkpoint's JSON files, one after the other, parted by zeros."""
    for name, text in zip(_FILES, [*data.split(b"\0"), b"", b"", b""][:3], strict=True):
        (_FOLDER / name).write_bytes(text)
    with contextlib.suppress(CheckpointError):
        read = checkpoints.read(_FOLDER)
        assert read.tiling.tile > 0
        assert read.tiling.max_tiles > 0


def preset(data: bytes) -> None:
    """Parameter ``preset``."""
    with contextlib.suppress(ValueError):
        recipes.preset(data.decode(errors="replace"))


def bag(data: bytes) -> None:
    """A recording's file; its first bytes say of which kind."""
    path = _FOLDER / "it"
    path.write_bytes(data)
    _play(path)


def bag_folder(data: bytes) -> None:
    """The metadata.yaml of a recording that is whole."""
    folder = _FOLDER / "recording"
    if not folder.exists():
        folder.mkdir()
        (folder / "MCAP.mcap").write_bytes(_recordings()[".mcap"])
    (folder / "metadata.yaml").write_bytes(data)
    _play(folder)


def _play(path: Path) -> None:
    from argus_ros.tools.bag import Bag, BagError

    with contextlib.suppress(BagError), Bag(path) as recording:
        for frame in recording.frames(recording.cameras()):
            with contextlib.suppress(ImageError):
                fill(SLOT, frame.image, None, TILING, whole=False)


def weights_index(data: bytes) -> None:
    """The model.safetensors.index.json of a checkpoint in several files."""
    from argus_ros.vlm.models.weights import check_stored

    folder = _FOLDER / "weights"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors.index.json").write_bytes(data)
    with contextlib.suppress(CheckpointError):
        check_stored(folder)


def sums(data: bytes) -> None:
    """A checkpoint's SHA256SUMS."""
    folder = _FOLDER / "sums"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / checksums.NAME).write_bytes(data)
    with contextlib.suppress(CheckpointError):
        checksums.verify(folder)


def weights(data: bytes) -> None:
    """A checkpoint's safetensors file."""
    from argus_ros.vlm.models.weights import check_stored

    folder = _FOLDER / "weight"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(data)
    with contextlib.suppress(CheckpointError):
        check_stored(folder)


def expectation(data: bytes) -> None:
    """The file of ``argus replay --expect``."""
    from argus_ros.tools.expectation import ExpectationError, read

    path = _FOLDER / "expected.jsonl"
    path.write_bytes(data)
    with contextlib.suppress(ExpectationError):
        read(path)


def annotations(data: bytes) -> None:
    """A file of COCO annotations."""
    from argus_ros.training.coco import CocoError, read

    path = _FOLDER / "instances.json"
    path.write_bytes(data)
    with contextlib.suppress(CocoError):
        read(path, _FOLDER)


def latency_file(data: bytes) -> None:
    """The file of ``argus simulate --latency``."""
    from argus_ros.tools import simulate

    path = _FOLDER / "latency.json"
    path.write_bytes(data)
    with contextlib.suppress(ValueError):
        simulate.scenario_from(_arguments(path))


def _arguments(latency: Path) -> argparse.Namespace:
    from argus_ros.tools import simulate

    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    return parser.parse_args(["--latency", str(latency), "--cameras", "2"])


_SIZES = (1, 32, 640, 1 << 16)


def answer_text(data: bytes) -> None:
    """What an open model writes: format, task, and sizes of the picture, then the text."""
    from argus_ros.core.checkpoint import FORMATS
    from argus_ros.vlm import formats
    from argus_ros.vlm.formats import answers
    from argus_ros.vlm.formats.reading import Sizes

    head, text = data[:3].ljust(3, b"\0"), data[3:].decode(errors="replace")
    format = formats.of(tuple(FORMATS)[head[0] % len(FORMATS)])
    task = Task(TASKS[head[1] % len(TASKS)], ("cone", "traffic light") if head[1] & 128 else (), "the cone")
    width, height, seen, low = (_SIZES[head[2] >> shift & 3] for shift in (0, 2, 4, 6))
    for question in format.questions(task):
        found, dropped = answers.written(
            format, task, question, text, range(1, len(text) + 1), [0.5] * len(text),
            Sizes(width, height, seen - 1, low - 1),
        )  # fmt: skip
        unusable = why_unusable(Answer(found, text, dropped=dropped), width, height)
        assert not unusable, unusable


@cache
def _grammars() -> tuple[tuple[Any, ...], Any]:
    from argus_ros.vlm.formats import grammar
    from argus_ros.vlm.formats.tokens import Tokens

    known = checkpoints.read(checkpoints.SHIPPED / "argus-nano")
    vocabulary = json.loads((known.path / "config.json").read_text())["text_config"]["vocab_size"]
    tokens = Tokens(known, vocabulary)
    tasks = [Task(name, (), "red cone") for name in STRUCTURED_TASKS]
    return tuple(grammar.build(task, tokens) for task in tasks), tokens


def answer_tokens(data: bytes) -> None:
    """What a native model says: each two bytes choose among the columns that the grammar allows."""
    from argus_ros.vlm.formats import answers
    from argus_ros.vlm.formats.grammar import Cursor

    if not data:
        return
    grammars, tokens = _grammars()
    grammar = grammars[data[0] % len(grammars)]
    cursor, columns = Cursor(grammar, data[0] >> 4), []
    for (choice,) in struct.iter_unpack("<H", data[1 : 1 + (len(data) - 1) // 2 * 2]):
        if cursor.done:
            break
        allowed = np.flatnonzero(cursor.allowed())
        columns.append(int(allowed[choice % len(allowed)]))
        cursor.advance(columns[-1])
    size = len(columns) * len(grammar.tokens)
    values = np.frombuffer(data[: len(data) // 2 * 2], np.float16).astype(np.float32)
    logits = np.resize(values, size).reshape(len(columns), -1) if columns else np.zeros((0, 1), np.float32)
    found = answers.detections(grammar, columns, logits, tokens, 1.0, (640, 480))
    unusable = why_unusable(Answer(found), 640, 480)
    assert not unusable, unusable


def parameter_file(data: bytes) -> None:
    """A parameter file for the node, which is made of it as at start: read by rcl, checked by the node."""
    from argus_ros.ros.node import ArgusNode
    from argus_ros.ros.settings import ParameterError

    path = _FOLDER / "parameters.yaml"
    path.write_bytes(data)
    try:
        node = ArgusNode(context=_context(), cli_args=["--ros-args", "--params-file", str(path)])
    except (ParameterError, RuntimeError):  # the latter is rcl's: main() makes a sentence of both
        return
    node.destroy_node()


@cache
def _context() -> Any:
    """In a ROS domain that nobody else uses."""
    import rclpy

    from argus_ros.core.domain import claim

    claimed, domain = claim()
    atexit.register(claimed.close)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    context = rclpy.Context()
    rclpy.init(context=context, args=["--ros-args", "--log-level", "FATAL"], domain_id=domain)
    atexit.register(rclpy.shutdown, context=context)
    return context


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


def _depths() -> tuple[bytes, ...]:
    metres = np.linspace(1.0, 5.0, 24 * 32, dtype="<f4").reshape(24, 32)
    millimetres = (1e3 * metres).astype("<u2")
    png = bytes(12) + cv2.imencode(".png", millimetres)[1].tobytes()
    return (
        _DEPTH.pack(0, 32, 24, 64) + millimetres.tobytes(),
        _DEPTH.pack(1, 32, 24, 128) + metres.tobytes(),
        _DEPTH.pack(4, 0, 0, 0) + png,
        _DEPTH.pack(5, 0, 0, 0) + png,
    )


def _lenses() -> tuple[bytes, ...]:
    matrix = [20.0, 0, 15.5, 0, 20, 11.5, 0, 0, 1]
    projection = [20.0, 0, 15.5, 0, 0, 20, 11.5, 0, 0, 0, 1, 0]

    def lens(model: int, d: list[float], *sizes: int) -> bytes:
        numbers = np.array([*matrix, *projection, *d], "<f8").tobytes()
        return _INFO_SIZES.pack(model, len(d), *sizes) + numbers

    plain = (32, 24, 0, 0, 0, 0, 0, 0)
    return (
        lens(0, [-0.2, 0.05, 0.001, 0.0, 0.0], *plain),
        lens(1, [0.4, -0.2, 0.0, 0.0, 0.01, 0.6, -0.15, 0.02], *plain),
        lens(2, [0.03, -0.01, 0.004, -0.001], *plain),
        lens(128, [], 64, 48, 0, 0, 0, 0, 2, 2),
        lens(0, [0.0] * 5, 64, 48, 8, 8, 32, 24, 1, 1),
    )


@cache
def _recordings() -> dict[str, bytes]:
    """One image in a file of each kind, by the ending of its name, and a metadata.yaml."""
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    from argus_ros.tools.bag import COMPRESSED, type_store

    topic, found = "/front/image_raw/compressed", {}
    picture = np.frombuffer(_pictures()[0][1:], np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for plugin in StoragePlugin:
            store = type_store()
            header = _header(store)(_time(store)(1, 2), "front")
            with Writer(Path(folder, plugin.name), version=9, storage_plugin=plugin) as writer:
                to = writer.add_connection(topic, COMPRESSED, typestore=store)
                message = store.types[COMPRESSED](header, "jpeg", picture)
                writer.write(to, 10, store.serialize_cdr(message, COMPRESSED))
            for file in Path(folder, plugin.name).iterdir():
                if file.suffix == ".db3":
                    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
                        database.execute("PRAGMA page_size=512")  # small, so that more of it is changed
                        database.execute("VACUUM")
                found[file.suffix] = file.read_bytes()
        store = get_typestore(Stores.ROS1_NOETIC)
        with Writer1(Path(folder, "it.bag")) as writer1:
            to1 = writer1.add_connection(topic, COMPRESSED, typestore=store)
            header = _header(store)(1, _time(store)(1, 2), "front")
            message = store.types[COMPRESSED](header, "jpeg", picture)
            writer1.write(to1, 10, store.serialize_ros1(message, COMPRESSED))
        found[".bag"] = Path(folder, "it.bag").read_bytes()
    return found


def _time(store: Any) -> Any:
    return store.types["builtin_interfaces/msg/Time"]


def _header(store: Any) -> Any:
    return store.types["std_msgs/msg/Header"]


def _texts() -> tuple[bytes, ...]:
    """Of each format of boxes, for each task, with and without classes."""
    said = {
        "internvl": "<ref>cone</ref><box>[[100, 200, 300, 400], [1, 2, 3, 4]]</box>",
        "qwen2_vl": "<|object_ref_start|>cone<|object_ref_end|><|box_start|>(10,20),(30,40)<|box_end|>",
        "qwen2_5_vl": '[{"bbox_2d": [1, 2, 3, 4], "label": "cone"}]',
        "qwen3_vl": '[{"bbox_2d": [100, 200, 300, 400], "label": "traffic light"}]',
        "lfm2_5_vl": '[{"bbox": [0.1, 0.2, 0.3, 0.4], "label": "cone"}]',
        "paligemma": "<loc0010><loc0020><loc0030><loc0040> cone ; <loc0010><loc0020><loc0030><loc0040> cone",
        "florence2": "cone<loc_10><loc_20><loc_30><loc_40>traffic light<loc_1><loc_2><loc_3><loc_4>",
        "kosmos2": "<phrase> cone</phrase><object><patch_index_0004><patch_index_0099></object>",
    }
    return tuple(
        bytes([number, task, 0b10101010]) + said.get(name, "a cone").encode()
        for number, name in enumerate(checkpoints.FORMATS)
        for task in (0, 128, 1, 2)
    )


_EXPECTED = (
    b'{"camera": "front", "stamp": 12, "text": "", "detections": [{"label": "cone", "x_min": 1.0, '
    b'"y_min": 2.0, "x_max": 3.0, "y_max": 4.0}]}\n'
)
_COCO = (
    b'{"categories": [{"id": 1, "name": "cone"}], "images": [{"id": 5, "file_name": "a.jpg", "width": 64, '
    b'"height": 48}], "annotations": [{"id": 7, "image_id": 5, "category_id": 1, "bbox": [1, 2, 3.5, 4], '
    b'"iscrowd": 0}]}'
)
_LATENCY = b'{"prepare": {"0": {"1": [0.001, 0.002]}}, "run": {"0": {"1": [0.03, 0.04]}}}'
_INDEX = b'{"metadata": {"total_size": 8}, "weight_map": {"a.weight": "model-00001-of-00001.safetensors"}}'
_PARAMETERS = (
    b"/**:\n  ros__parameters:\n    cameras: [front, rear]\n    score_threshold: 0.5\n    classes: [cone]\n"
    b"    threads: 2\n    camera:\n      front: {topic: /a, region: [0, 0, 10, 10], deadline: 1}\n",
    b"argus:\n  ros__parameters:\n    model: argus-nano\n    preset: edge+still_gate\n    task: ground\n"
    b"    prompt: the cone\n    tracking: true\n    camera.front.mono16: '[0, 4095]'\n",
)

TARGETS: dict[str, Target] = {
    "raw": Target(
        raw,
        tuple(
            _RAW.pack(number, 32, 24, 32 * 8, number % 2, 0, 0, 0, 0) + bytes(32 * 24 * 8 * 2)
            for number in range(len(ENCODINGS))
        ),
    ),
    "compressed": Target(compressed, _pictures()),
    "depth": Target(depth, _depths()),
    "camera_info": Target(camera_info, _lenses()),
    "from_engine": Target(
        from_engine, (_encode(Ready(_INFO)), _encode(Answered(1, _ANSWER)), _encode(Answered(1, error="no")))
    ),
    "from_node": Target(from_node, (_encode(Run((_REQUEST,) * 2)), _encode(Start(EngineConfig())))),
    "answer_text": Target(answer_text, _texts()),
    "answer_tokens": Target(answer_tokens, (bytes(range(64)), bytes(range(255, 0, -1)))),
    "checkpoint": Target(checkpoint, tuple(_shipped(name) for name in checkpoints.shipped())),
    "weights_index": Target(weights_index, (_INDEX,)),
    "sums": Target(sums, (f"{hashlib.sha256(b'{}').hexdigest()}  config.json\n".encode(),)),
    "weights": Target(weights, (save({"a.weight": np.zeros(2, np.float32)}),)),
    "preset": Target(preset, (b"realtime", b"edge+still_gate-overlap", b"stock")),
    "bag": Target(bag, tuple(_recordings()[ending] for ending in (".mcap", ".db3", ".bag")), longest=1 << 14),
    "bag_folder": Target(bag_folder, (_recordings()[".yaml"],)),
    "expectation": Target(expectation, (_EXPECTED,)),
    "annotations": Target(annotations, (_COCO,)),
    "latency_file": Target(latency_file, (_LATENCY,)),
}
if find_spec("rclpy"):
    TARGETS["parameter_file"] = Target(parameter_file, _PARAMETERS)
