"""Compares a run with an earlier one: missing objects and new objects, by frame.

An expectation is the ``detections.jsonl`` of the earlier run. Objects are the same if their labels are equal
and their boxes overlap enough. Scores and track_ids may change.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argus_ros.core.matching import Truth, match
from argus_ros.core.section import MALFORMED
from argus_ros.core.types import Detection

Line = dict[str, Any]  #: of ``detections.jsonl``
Key = tuple[str, int]  #: camera and stamp


class ExpectationError(ValueError):
    """A file is not an expectation; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Change:
    """The difference in the answer to one frame."""

    camera: str
    stamp: int  #: nanoseconds
    missing: tuple[Truth, ...] = ()
    new: tuple[Truth, ...] = ()
    text: tuple[str, str] | None = None  #: expected and found
    frame: str = ""  #: ``missing`` or ``new``, where only one run has an answer

    def __str__(self) -> str:
        parts = [f"no answer to this frame any more; it had {_names(self.missing)}"] * (
            self.frame == "missing"
        )
        parts += [
            f"the expectation lacks this frame (it had no answer then); now it has {_names(self.new)}"
        ] * (self.frame == "new")
        if not self.frame:
            parts += [f"- {_place(truth)}" for truth in self.missing]
            parts += [f"+ {_place(truth)}" for truth in self.new]
        if self.text:
            parts.append(f"text was {self.text[0]!r}, is {self.text[1]!r}")
        return f"{self.camera} {self.stamp * 1e-9:.3f}: " + "; ".join(parts)


@dataclass
class Comparison:
    """Compares frame by frame. ``partial``: a missing answer is no change, as in real time."""

    expected: dict[Key, Line]
    overlap: float = 0.5  #: minimum IoU of the same object
    partial: bool = False
    changes: list[Change] = field(default_factory=list)
    compared: int = 0

    def add(self, line: Line) -> Change | None:
        """Compare a frame's answer; returns the change, or None."""
        before = self.expected.pop(_key(line), None)
        if before is None and self.partial:
            return None
        self.compared += 1
        change = _new(line) if before is None else self._compare(before, line)
        if change:
            self.changes.append(change)
        return change

    def finish(self) -> None:
        """Report expected frames that had no answer as missing."""
        if not self.partial:
            self.changes += [_vanished(line) for line in self.expected.values()]

    def _compare(self, before: Line, now: Line) -> Change | None:
        expected, found = _truths(before), _truths(now)
        detections = [Detection(t.label, 1.0, *t.box) for t in found]
        pairs = match(detections, expected, self.overlap)
        kept, same = {j for _, j, _ in pairs}, {i for i, _, _ in pairs}
        missing = tuple(t for j, t in enumerate(expected) if j not in kept)
        new = tuple(t for i, t in enumerate(found) if i not in same)
        text = (before["text"], now["text"]) if before["text"] != now["text"] else None
        return Change(*_key(now), missing, new, text) if missing or new or text else None

    def summary(self) -> str:
        """One sentence."""
        if not self.changes:
            return f"as expected in {self.compared} frames"
        missing = Counter(t.label for change in self.changes for t in change.missing)
        new = Counter(t.label for change in self.changes for t in change.new)
        what = [
            f"{name}: {_counts(counts)}" for name, counts in (("missing", missing), ("new", new)) if counts
        ]
        return f"{len(self.changes)} of {self.compared} frames changed" + "".join(f"; {w}" for w in what)


def read(path: Path) -> dict[Key, Line]:
    """The lines of an expectation, by frame. Raises ExpectationError."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise ExpectationError(f"there is no expectation {path}; --update writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExpectationError(f"{path} cannot be read: {error}") from None
    found = {}
    for number, row in enumerate(text.splitlines(), 1):
        try:
            line = json.loads(row)
            _truths(line)
            found[_key(line)] = line | {"text": str(line["text"])}
        except MALFORMED as error:
            raise ExpectationError(
                f"line {number} of {path} is not a line of a detections.jsonl "
                f"({type(error).__name__}: {error}); give the file of a run, or write it with --update"
            ) from None
    return found


def write(path: Path, lines: Sequence[Line]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _key(line: Line) -> Key:
    return str(line["camera"]), int(line["stamp"])


def _truths(line: Line) -> list[Truth]:
    return [
        Truth(d["label"], (float(d["x_min"]), float(d["y_min"]), float(d["x_max"]), float(d["y_max"])))
        for d in line["detections"]
    ]


def _new(line: Line) -> Change:
    return Change(*_key(line), new=tuple(_truths(line)), frame="new")


def _vanished(line: Line) -> Change:
    return Change(*_key(line), missing=tuple(_truths(line)), frame="missing")


def _place(truth: Truth) -> str:
    return f"{truth.label} at ({', '.join(f'{edge:.0f}' for edge in truth.box)})"


def _names(truths: Sequence[Truth]) -> str:
    return _counts(Counter(t.label for t in truths)) or "nothing in it"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {label}" for label, n in counts.most_common())


def shown(changes: Sequence[Change], most: int = 20) -> Iterator[str]:
    """The first changes, as text for users."""
    yield from map(str, changes[:most])
    if len(changes) > most:
        yield f"... and {len(changes) - most} more frames"
