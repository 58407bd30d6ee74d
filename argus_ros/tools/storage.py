"""Reads files of recorded messages: MCAP, sqlite3 and ROS 1's bag, recognised by their first bytes.

Each is a ``Storage``: its channels with the message counts of the file's own index, and the messages as
recorded bytes. MCAP is read with `mcap`, which supports files without an index, other profiles and channels
of any encoding; the other two with `rosbags`. None of them needs ROS.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import zstandard
from mcap.reader import McapReader, NonSeekingReader, SeekingReader
from mcap.records import Channel as McapChannel
from mcap.records import Schema, Statistics
from rosbags.interfaces import Connection, ConnectionExtRosbag1, ConnectionExtRosbag2, QosDurability
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag2 import Reader as Reader2

from argus_ros.core.resources import is_lfs_pointer

MCAP, SQLITE, ROSBAG, ZSTD = b"\x89MCAP0\r\n", b"SQLite format 3\0", b"#ROSBAG V", b"\x28\xb5\x2f\xfd"
#: Encodings of messages that this package can read.
CDR, ROS1 = "cdr", "ros1"


class StorageError(ValueError):
    """A file cannot be read; the message says what is wrong and what may help."""


@dataclass(frozen=True)
class Channel:
    """Messages of one type on one topic."""

    topic: str
    kind: str  #: message type, ``package/msg/Name``; with another encoding as in the file
    encoding: str  #: ``cdr``, ``ros1``, or an unsupported one (``protobuf``, ``json`` ...)
    latched: bool = False  #: whether its publisher keeps messages for late subscribers


class Storage(Protocol):
    """One file, open for reading."""

    @property
    def counts(self) -> Counter[Channel]:
        """Every channel of the file, with its number of messages in the file's index."""

    @property
    def span(self) -> tuple[int, int]:
        """Nanoseconds of the first and of the last message; equal in an empty file."""

    def messages(self, channels: Collection[Channel]) -> Iterator[tuple[Channel, int, bytes]]:
        """(channel, time of recording [ns], bytes) in order of recording. Damaged data can raise anything."""

    @property
    def remedy(self) -> str:
        """A command that may repair a damaged file of this type."""

    def close(self) -> None: ...


def opened(path: Path, stack: ExitStack) -> Storage:
    """Open a file; ``stack`` closes it and removes temporary copies. Raises StorageError, OSError."""
    file = path
    if _start(file).startswith(ZSTD):
        file = _unpacked(path, stack)
    start = _start(file)
    if not start:
        raise StorageError(f"{path} is empty (0 bytes): nothing was recorded, or the copy failed")
    for magic, kind in _KINDS.items():
        if start.startswith(magic):
            try:
                return stack.enter_context(closing(kind(file, stack)))
            except Exception as error:  # readers can raise anything on damaged data
                raise StorageError(f"{path} cannot be read: {reason(error)}; {kind.remedy}") from None
    if is_lfs_pointer(file):
        raise StorageError(f"{path} is a pointer of Git LFS, not the recording: run 'git lfs pull'")
    raise StorageError(
        f"{path} is not a supported recording: it begins with {start[:8]!r}, unlike MCAP, "
        "sqlite3 (.db3) and ROS 1 bags"
    )


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def reason(error: Exception) -> str:
    """An exception's message, as a part of a sentence."""
    return str(error).rstrip(".") or type(error).__name__


def message_type(name: str) -> str:
    """The ROS 2 name of a ROS 1 type: ``sensor_msgs/msg/Image`` for ``sensor_msgs/Image``."""
    package, _, kind = name.rpartition("/")
    return name if "/msg" in package or not package else f"{package}/msg/{kind}"


def _unpacked(path: Path, stack: ExitStack) -> Path:
    """The file without its outer compression, in a temporary folder that ``stack`` removes."""
    copy = Path(stack.enter_context(tempfile.TemporaryDirectory()), path.stem)
    unpacking = zstandard.ZstdDecompressor().decompressobj()
    try:
        with path.open("rb") as packed, copy.open("wb") as plain:
            while data := packed.read(1 << 20):
                while data:
                    if unpacking.eof:  # the end of one of several frames
                        unpacking = zstandard.ZstdDecompressor().decompressobj()
                    plain.write(unpacking.decompress(data))
                    data = unpacking.unused_data
    except zstandard.ZstdError as error:
        raise StorageError(f"{path} cannot be unpacked: {reason(error)}; copy it again") from None
    if not unpacking.eof:
        raise StorageError(f"{path} cannot be unpacked: it is truncated; copy it again")
    return copy


def _with_log(path: Path, stack: ExitStack) -> Path:
    """A database with the messages of its write-ahead log.

    A recorder that was killed leaves messages there. sqlite adds them to a copy: a recording is never
    modified.
    """
    log = path.with_name(path.name + "-wal")
    if not log.exists() or not log.stat().st_size:
        return path
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    for file in (path, log):
        shutil.copyfile(file, folder / file.name)
    with closing(sqlite3.connect(folder / path.name)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA journal_mode=DELETE")
    return folder / path.name


class _Rosbags:
    """The common part of both types that `rosbags` reads."""

    remedy: str

    def __init__(self, reader: Reader1 | Reader2) -> None:
        self._reader = reader
        reader.open()
        self._channels: dict[int, Channel] = {c.id: _channel(c) for c in reader.connections}

    @property
    def counts(self) -> Counter[Channel]:
        found: Counter[Channel] = Counter()
        for connection in self._reader.connections:
            found[self._channels[connection.id]] += connection.msgcount
        return found

    @property
    def span(self) -> tuple[int, int]:
        empty = not self._reader.message_count
        return (0, 0) if empty else (self._reader.start_time, self._reader.end_time - 1)

    def messages(self, channels: Collection[Channel]) -> Iterator[tuple[Channel, int, bytes]]:
        chosen = [c for c in self._reader.connections if self._channels[c.id] in channels]
        for connection, received, raw in self._reader.messages(chosen) if chosen else ():
            packed = raw[:4] == ZSTD  # unambiguous, as CDR begins with 0
            data = zstandard.ZstdDecompressor().decompressobj().decompress(raw) if packed else raw
            yield self._channels[connection.id], received, bytes(data)

    def close(self) -> None:
        self._reader.close()


def _channel(connection: Connection) -> Channel:
    ext = connection.ext
    if isinstance(ext, ConnectionExtRosbag1):
        return Channel(connection.topic, connection.msgtype, ROS1, bool(ext.latching))
    assert isinstance(ext, ConnectionExtRosbag2)
    latched = any(qos.durability is QosDurability.TRANSIENT_LOCAL for qos in ext.offered_qos_profiles)
    return Channel(connection.topic, connection.msgtype, ext.serialization_format, latched)


class _Sqlite(_Rosbags):
    remedy = "'sqlite3 FILE .recover' may save it"

    def __init__(self, path: Path, stack: ExitStack) -> None:
        super().__init__(Reader2(_with_log(path, stack)))


class _Ros1(_Rosbags):
    remedy = "'rosbag reindex' may save it"

    def __init__(self, path: Path, stack: ExitStack) -> None:
        super().__init__(Reader1(path))


class _Mcap:
    """An MCAP file of any profile, with or without an index."""

    remedy = "'mcap recover' may save it"

    def __init__(self, path: Path, stack: ExitStack) -> None:
        with ExitStack() as opening:
            self._file = opening.enter_context(path.open("rb"))
            self._file.seek(-len(MCAP), 2)
            if self._file.read() != MCAP:
                raise ValueError("its end is missing: the recording or the copy was interrupted")
            self._file.seek(0)
            summary = SeekingReader(self._file).get_summary()
            self._channels: dict[int, Channel] = {}
            self._counts: Counter[Channel] = Counter()
            self._span = 0, 0
            #: Whether it has a complete index; without one the file is read from its beginning.
            self._indexed = bool(
                summary
                and summary.statistics
                and summary.chunk_indexes
                and summary.channels.keys() >= summary.statistics.channel_message_counts.keys()
                and summary.schemas.keys() | {0} >= {c.schema_id for c in summary.channels.values()}
            )
            if self._indexed and summary and summary.statistics:
                for channel in summary.channels.values():
                    self._add(channel, summary.schemas.get(channel.schema_id))
                self._count(summary.statistics)
            else:
                self._scan()
            opening.pop_all()

    @property
    def counts(self) -> Counter[Channel]:
        return self._counts

    @property
    def span(self) -> tuple[int, int]:
        return self._span

    def messages(self, channels: Collection[Channel]) -> Iterator[tuple[Channel, int, bytes]]:
        topics = {channel.topic for channel in channels}
        reader = self._reader()
        for _, channel, message in reader.iter_messages(topics, log_time_order=self._indexed):
            if (known := self._channels[channel.id]) in channels:
                yield known, message.log_time, message.data

    def close(self) -> None:
        self._file.close()

    def _reader(self) -> McapReader:
        self._file.seek(0)
        kind = SeekingReader if self._indexed else NonSeekingReader
        return kind(self._file, validate_crcs=True)

    def _add(self, channel: McapChannel, schema: Schema | None) -> Channel:
        ours = channel.message_encoding in (CDR, ROS1)
        name = schema.name if schema else "no type"
        latched = "durability: transient_local" in (qos := channel.metadata.get("offered_qos_profiles", ""))
        found = Channel(
            channel.topic,
            message_type(name) if ours else name,
            channel.message_encoding,
            latched or "durability: 1" in qos or channel.metadata.get("latching") == "1",
        )
        self._channels[channel.id] = found
        self._counts[found] += 0
        return found

    def _count(self, statistics: Statistics) -> None:
        for id, count in statistics.channel_message_counts.items():
            self._counts[self._channels[id]] += count
        if statistics.message_count:
            self._span = statistics.message_start_time, statistics.message_end_time

    def _scan(self) -> None:
        first, last = 2**64, 0
        for schema, channel, message in self._reader().iter_messages(log_time_order=False):
            self._counts[self._channels.get(channel.id) or self._add(channel, schema)] += 1
            first, last = min(first, message.log_time), max(last, message.log_time)
        self._span = min(first, last), last


_KINDS: dict[bytes, type[_Mcap | _Sqlite | _Ros1]] = {MCAP: _Mcap, SQLITE: _Sqlite, ROSBAG: _Ros1}
