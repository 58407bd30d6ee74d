"""Depth found by the stamp of an image."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from argus_ros.core.pairing import Recent

MS = 1_000_000


def recent(*stamps: int, slop: float = 0.05, seconds: float = 1.0, most_bytes: int = 1000) -> Recent[str]:
    kept: Recent[str] = Recent(slop, seconds, most_bytes)
    for stamp in stamps:
        kept.add(stamp * MS, f"at {stamp}", 1)
    return kept


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (100, "at 100"),
        (112, "at 100"),
        (119, "at 133"),
        (150, "at 133"),
        (183, "at 133"),
        (184, None),
        (49, None),
    ],
)
def test_the_nearest_within_the_slop_is_found(asked: int, found: str | None) -> None:
    match = recent(100, 133).nearest(asked * MS)
    assert (match.item if match else None) == found
    if match:
        assert match.offset == pytest.approx((int(match.item[3:]) - asked) / 1e3)


def test_the_result_equals_a_full_search() -> None:
    rng = np.random.default_rng(0)
    stamps = [int(s) for s in rng.permutation(400)[:60]]  # out of order, by less than a jump
    kept = recent(*stamps, seconds=10.0)
    for asked in range(-60, 460):
        best = min(abs(s - asked) for s in stamps)
        match = kept.nearest(asked * MS)
        assert (match is None) == (best > 50)
        if match:
            assert abs(match.offset) * 1e3 == pytest.approx(best)


def test_the_other_rate_and_a_pause_leave_images_without() -> None:
    kept = recent(*range(0, 1000, 200), seconds=10.0)
    with_depth = [asked for asked in range(0, 1000, 33) if kept.nearest(asked * MS)]
    assert len(with_depth) == 14  # of 31: two at the first, three around each other
    assert recent().nearest(0) is None


def test_old_or_excess_messages_are_dropped() -> None:
    kept = recent(0, 500, 1000, 1400)
    assert len(kept) == 3
    kept.seconds = 2.0
    kept.add(2400 * MS, "later", 1)
    assert len(kept) == 4
    full = recent(most_bytes=10)
    for stamp in range(5):
        full.add(stamp * MS, "x", 4)
    assert len(full) == 2
    full.add(5 * MS, "larger than all", 100)
    assert len(full) == 1


def test_time_that_goes_back_begins_anew() -> None:
    kept = recent(5000, 5033)
    kept.add(100 * MS, "of the second round", 1)
    assert len(kept) == 1
    assert kept.nearest(5000 * MS) is None


def test_a_wait_ends_when_no_nearer_message_can_come() -> None:
    kept = recent(100)
    threading.Timer(0.05, kept.add, (130 * MS, "nearer")).start()
    match = kept.nearest(128 * MS, until=time.monotonic() + 60.0)
    assert match is not None
    assert match.item == "nearer"
    before = kept.nearest(160 * MS, until=time.monotonic() + 0.01)
    assert before is not None
    assert before.item == "nearer"
    threading.Timer(0.05, kept.close).start()
    assert kept.nearest(500 * MS, until=time.monotonic() + 60.0) is None
