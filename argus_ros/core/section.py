"""Reads one JSON object of a checkpoint with type checks; invalid values raise CheckpointError.

All JSON files of checkpoints are read through this class, so that an invalid value gives an error message
with the file and the key.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from argus_ros.core.resources import why_unreadable

#: Upper limit of lengths, counts and sides: above any model's, and safe from overflow in products.
MOST = 1 << 24

#: Exceptions from reading values of arbitrary JSON: wrong type, too large, nested too deep.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


class CheckpointError(ValueError):
    """A folder is not a checkpoint, or this package cannot use it."""


class Section:
    """A JSON object and its location. A missing or null key has its default."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def error(self, key: str, wanted: str) -> CheckpointError:
        return CheckpointError(
            f"{self.where}: {key} is {_short(self.values.get(key))}; it has to be {wanted}"
        )

    def section(self, key: str) -> Section:
        """A nested object; an empty one where it is missing."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.error(key, "an object")
        return Section(value or {}, f"{self.where}: {key}")

    def count(self, key: str, default: int, least: int = 1, most: int = MOST) -> int:
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.error(key, f"a whole number from {least} to {most}")
        return value

    def number(self, key: str, default: float, least: float = 0.0) -> float:
        """A finite number above ``least``."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(key, "a number")
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        if not least < value < math.inf:
            raise self.error(key, f"a number above {least:g}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, "true or false")
        return default if value is None else value

    def word(self, key: str, default: str = "") -> str:
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, "a string")
        return default if value is None else value

    def words(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key)
        value = [] if value is None else value
        if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
            raise self.error(key, "a list of strings")
        return tuple(value)

    def counts(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Non-negative whole numbers: one, or a list of them."""
        value = self.values.get(key)
        value = list(default) if value is None else value if isinstance(value, list) else [value]
        for item in value:
            if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= MOST:
                raise self.error(key, "a whole number, or a list of them")
        return tuple(value)

    def channels(self, key: str, default: float) -> tuple[float, float, float]:
        """A number for each of three channels; one number applies to all."""
        value = self.values.get(key)
        value = default if value is None else value
        each = value if isinstance(value, list) else [value] * 3
        numbers = [
            v for v in each if isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e6
        ]
        if len(each) != 3 or len(numbers) != 3:
            raise self.error(key, "a number, or a list of three")
        return float(numbers[0]), float(numbers[1]), float(numbers[2])

    def side(self, key: str, default: int) -> int:
        """The side of a square: a number, or two equal ones."""
        value = self.values.get(key)
        if isinstance(value, list):
            if len(value) != 2 or value[0] != value[1]:
                raise self.error(key, "a number, or two equal ones")
            return Section({key: value[0]}, self.where).count(key, default)
        return self.count(key, default)

    def require(self, key: str, value: object) -> None:
        """Raise CheckpointError where the key has another value than ``value``."""
        found = self.values.get(key, value)
        if found != value or isinstance(found, bool) != isinstance(value, bool):
            raise CheckpointError(
                f"{self.where}: {key} is {_short(found)}; only {_short(value)} is supported here"
            )


def read_json(path: Path) -> Section:
    """Read a file with a JSON object. Raises CheckpointError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise CheckpointError(f"{path} is missing; a checkpoint folder needs it") from None
        raise CheckpointError(why_unreadable(path, error)) from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} does not contain a JSON object")
    return Section(value, str(path))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
