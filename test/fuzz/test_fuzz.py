"""Bytes from outside raise nothing but the errors that are promised; ``make fuzz`` tries more of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).with_name("corpus")
#: What any parser may stumble over: nothing, zeros, arrays in arrays without end.
ANYWHERE = (b"", bytes(100), b"[" * 5000, b'{"a":' * 4000, b"- " * 4000, b"\xff" * 100)


@st.composite
def changed(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Something right with a few bytes replaced, inserted or taken out, or cut off."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        end = min(at + draw(st.integers(0, 8)), len(data))
        data[at:end] = draw(
            st.binary(max_size=8) | st.sampled_from([b"\xff" * 4, b"null", b"[]", b"-1", b"1e999"])
        )
    return bytes(data[: draw(st.sampled_from([len(data), len(data) // 2]))])


@pytest.mark.parametrize("name", TARGETS)
def test_bytes_of_any_kind(name: str) -> None:
    target = TARGETS[name]
    for seed in (*target.seeds, *ANYWHERE):
        target.run(seed)
    for found in sorted(CORPUS.glob(f"{name}-*")):  # what once went wrong
        target.run(found.read_bytes())

    @settings(max_examples=100)
    @given(data=st.binary(max_size=300) | changed(target.seeds))
    def try_it(data: bytes) -> None:
        target.run(data)

    try_it()
