"""Finds the message of a topic with the stamp nearest to another message's: approximate time.

This replaces ROS's message_filters, with a difference: images do not wait for depth. Depth is looked up once
there is an answer, which waits for it only up to a limit.
"""

from __future__ import annotations

import bisect
import threading
import time
from dataclasses import dataclass
from typing import Generic, TypeVar

from argus_ros.core.clock import JUMP

T = TypeVar("T")


@dataclass(frozen=True)
class Match(Generic[T]):
    """A message found, and the seconds from the requested stamp to its own."""

    item: T
    offset: float


class Recent(Generic[T]):
    """The newest messages of a topic, by stamp in nanoseconds. Thread-safe.

    It keeps messages up to ``seconds`` (which can be set at any time) older than the newest, in at most
    ``most_bytes`` bytes. A stamp that goes back by more than JUMP clears it: a recording was looped, or a
    clock was set. A stamp that goes back by more than JUMP begins anew: a recording loops, a clock was set.
    """

    def __init__(self, slop: float, seconds: float, most_bytes: int) -> None:
        self.slop, self.seconds = slop, seconds
        self._most_bytes = most_bytes
        self._stamps: list[int] = []  # ascending
        self._items: list[tuple[T, int]] = []  # with their bytes
        self._bytes = 0
        self._closed = False
        self._news = threading.Condition()

    def add(self, stamp: int, item: T, size: int = 0) -> None:
        """Take a message of ``size`` bytes."""
        with self._news:
            if self._stamps and (self._stamps[-1] - stamp) * 1e-9 > JUMP:
                self._forget(len(self._stamps))
            at = bisect.bisect_right(self._stamps, stamp)
            self._stamps.insert(at, stamp)
            self._items.insert(at, (item, size))
            self._bytes += size
            oldest = self._stamps[-1] - int(self.seconds * 1e9)
            self._forget(bisect.bisect_left(self._stamps, oldest))
            while self._bytes > self._most_bytes and len(self._stamps) > 1:
                self._forget(1)
            self._news.notify_all()

    def nearest(self, stamp: int, until: float = 0.0) -> Match[T] | None:
        """The message nearest to a stamp, within ``slop``; None where there is none.

        Waits until no nearer message can come (one as new as ``stamp`` has arrived), or until ``until`` on
        the steady clock.
        """
        with self._news:
            self._news.wait_for(
                lambda: self._closed or (self._stamps and self._stamps[-1] >= stamp),
                max(until - time.monotonic(), 0.0),
            )
            at = bisect.bisect_left(self._stamps, stamp)
            around = range(max(at - 1, 0), min(at + 1, len(self._stamps)))
            best = min(around, key=lambda i: abs(self._stamps[i] - stamp), default=None)
            if best is None:
                return None
            offset = (self._stamps[best] - stamp) * 1e-9
            return Match(self._items[best][0], offset) if abs(offset) <= self.slop else None

    def __len__(self) -> int:
        with self._news:
            return len(self._stamps)

    def close(self) -> None:
        """End all waits: no more messages will come."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _forget(self, count: int) -> None:
        """Drop the oldest. The lock is held."""
        self._bytes -= sum(size for _, size in self._items[:count])
        del self._stamps[:count], self._items[:count]
