"""Depth images as they arrive: raw, and as image_transport's compressedDepth in PNG and RVL."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argus_ros.core.depth import decode_depth
from argus_ros.core.image import Image, ImageError

WIDTH, HEIGHT = 64, 48
DEPTH = np.random.default_rng(5).integers(300, 9000, (HEIGHT, WIDTH)).astype(np.uint16)  # millimetres


def raw_depth(values: np.ndarray, encoding: str, padding: int = 0, **more: object) -> Image:
    size = values.dtype.itemsize * WIDTH
    rows = np.zeros((HEIGHT, size + padding), np.uint8)
    rows[:, :size] = values.view(np.uint8)
    return Image(rows.tobytes(), encoding, WIDTH, HEIGHT, size + padding, **more)


def compressed_depth(values: np.ndarray, encoding: str, near: float = 0.0, far: float = 0.0) -> Image:
    """As image_transport writes it: a number, two floats for inverse depth, a PNG."""
    header = np.array([0], "<i4").tobytes() + np.array([near, far], "<f4").tobytes()
    png = cv2.imencode(".png", values)[1].tobytes()
    return Image(header + png, f"{encoding}; compressedDepth png", compressed=True)


def rvl(values: np.ndarray) -> bytes:
    """Words of Wilson's algorithm, written down nibble by nibble."""
    nibbles: list[int] = []

    def number(value: int) -> None:
        while value > 7:
            nibbles.append(value & 7 | 8)
            value >>= 3
        nibbles.append(value)

    flat = [int(value) for value in values.ravel()]
    at = previous = 0
    while at < len(flat):
        nothing = next((i for i in range(at, len(flat)) if flat[i]), len(flat))
        something = next((i for i in range(nothing, len(flat)) if not flat[i]), len(flat))
        number(nothing - at)
        number(something - nothing)
        for value in flat[nothing:something]:
            difference = value - previous
            number(2 * difference if difference >= 0 else -2 * difference - 1)
            previous = value
        at = something
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{n:x}" for n in nibbles[i : i + 8]), 16) for i in range(0, len(nibbles), 8)]
    return np.array(words, "<u4").tobytes()


def rvl_depth(
    values: np.ndarray, encoding: str = "16UC1", near: float = 0.0, far: float = 0.0
) -> Callable[..., Image]:
    """As image_transport writes it: its header, width and height, words; the call damages some of it."""
    header = np.array([0], "<i4").tobytes() + np.array([near, far], "<f4").tobytes()

    def make(
        width: int = values.shape[1], words: bytes = rvl(values), cut: int = 0, more: bytes = b""
    ) -> Image:
        data = header + np.array([width, values.shape[0]], "<u4").tobytes() + words + more
        return Image(data[: len(data) - cut], f"{encoding}; compressedDepth rvl", compressed=True)

    return make


@pytest.mark.parametrize("padding", [0, 20, 3])
def test_raw_depth_is_a_view_of_the_message(padding: int) -> None:
    found = decode_depth(raw_depth(DEPTH, "16UC1", padding))
    np.testing.assert_array_equal(found, DEPTH)
    assert found.base is not None
    swapped = raw_depth(DEPTH.astype(">u2"), "mono16", padding, is_bigendian=True)
    np.testing.assert_array_equal(decode_depth(swapped), DEPTH)
    metres = (DEPTH / 1000).astype("<f4")
    np.testing.assert_array_equal(decode_depth(raw_depth(metres, "32FC1", padding)), metres)
    swapped = raw_depth(metres.astype(">f4"), "32FC1", padding, is_bigendian=True)
    np.testing.assert_array_equal(decode_depth(swapped), metres)


def test_compressed_depth_is_read_as_image_transport_writes_it() -> None:
    np.testing.assert_array_equal(decode_depth(compressed_depth(DEPTH, "16UC1")), DEPTH)
    # Its inverse coding of metres: 100 a metre at most, a third of that at 10 m.
    metres = (DEPTH / 1000).astype(np.float32)
    near, far = 10000.0, -900.0
    coded = (near / metres + far).astype(np.uint16)
    coded[0, 0] = 0
    found = decode_depth(compressed_depth(coded, "32FC1", near, far))
    assert np.isnan(found[0, 0])
    np.testing.assert_allclose(found[1:], metres[1:], rtol=0.01)


def test_the_words_are_those_of_the_paper() -> None:
    """By hand: 2 zeros, 2 others, of these 5 and -3 more; 1 zero and none. Zigzag: 10 and 5."""
    assert rvl(np.array([[0, 0, 5, 2, 0]])) == np.array([0x22A15100 << 0], "<u4").tobytes()


ROOM = np.where(np.arange(HEIGHT)[:, None] < 20, 0, 1500 + 3 * np.arange(WIDTH)).astype(np.uint16)


@pytest.mark.parametrize(
    "values",
    [
        DEPTH,
        ROOM,
        np.zeros((HEIGHT, WIDTH), np.uint16),
        np.full((HEIGHT, WIDTH), 65535, np.uint16),
        np.where(np.indices((HEIGHT, WIDTH)).sum(0) % 2, 65535, 0).astype(np.uint16),
        np.where(np.indices((HEIGHT, WIDTH)).sum(0) % 2, 65535, 1).astype(np.uint16),
        np.where(DEPTH > 7000, 0, DEPTH).astype(np.uint16),
        np.array([[7]], np.uint16),
        np.array([[0]], np.uint16),
    ],
)
def test_depth_in_rvl_is_exact(values: np.ndarray) -> None:
    found = decode_depth(rvl_depth(values)())
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, values)


@given(st.lists(st.one_of(st.just(0), st.integers(0, 65535)), min_size=1, max_size=60))
def test_any_depth_in_rvl_is_exact(values: list[int]) -> None:
    row = np.array([values], np.uint16)
    np.testing.assert_array_equal(decode_depth(rvl_depth(row)()), row)


def test_inverse_depth_in_rvl_is_that_in_png() -> None:
    coded = np.where(DEPTH > 7000, 0, DEPTH).astype(np.uint16)
    expected = decode_depth(compressed_depth(coded, "32FC1", 10000.0, -900.0))
    found = decode_depth(rvl_depth(coded, "32FC1", 10000.0, -900.0)())
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (raw_depth(DEPTH, "rgb8"), "'rgb8' is not a depth; it has to be 16UC1"),
        (replace(raw_depth(DEPTH, "16UC1"), step=10), "its step is 10"),
        (replace(raw_depth(DEPTH, "32FC1")), "its step is 128"),
        (replace(raw_depth(DEPTH, "16UC1"), data=b"123"), "carries 3"),
        (replace(raw_depth(DEPTH, "16UC1"), width=0), "empty"),
        (Image(b"0" * 5, "16UC1; compressedDepth rvl", compressed=True), "truncated"),
        (Image(b"", "16UC1; compressedDepth rvl", compressed=True), "truncated"),
        (rvl_depth(DEPTH)(cut=4), "do not fill 64x48 pixels"),
        (rvl_depth(DEPTH)(cut=3), "truncated"),
        (rvl_depth(DEPTH)(more=bytes(4)), "do not fill 64x48 pixels"),
        (rvl_depth(DEPTH)(width=63), "do not fill 63x48 pixels"),
        (rvl_depth(DEPTH)(width=0), "claims 0x48 pixels"),
        (rvl_depth(DEPTH)(width=1 << 31), "claims 2147483648x48 pixels"),
        (rvl_depth(DEPTH)(width=65), "do not fill 65x48 pixels"),
        (rvl_depth(DEPTH)(more=bytes(1 << 16)), "more data than 64x48 pixels need"),
        (rvl_depth(DEPTH)(words=b"\xff" * 80), "do not fill"),
        (rvl_depth(DEPTH)(words=b"\xff" * 8 + bytes(4)), "more than 32 bits"),
        (Image(b"0" * 5, "16UC1; compressedDepth png", compressed=True), "not a PNG after a header"),
        (Image(b"", "16UC1; compressedDepth png", compressed=True), "not a PNG after a header"),
        (compressed_depth(DEPTH.astype(np.uint8), "16UC1"), "not of 16 bits"),
        (compressed_depth(np.dstack([DEPTH] * 3), "16UC1"), "not of 16 bits"),
    ],
)
def test_depth_that_cannot_be_read_says_why(image: Image, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        decode_depth(image)


def test_a_header_of_any_numbers_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode_depth(rvl_depth(DEPTH, "32FC1", 3e38, float(DEPTH[0, 0]) - 0.5)())
    assert np.isinf(found[0, 0])


@given(cut=st.integers(0, 4000), at=st.integers(12, 4000), value=st.integers(0, 255))
def test_damaged_compressed_depth_is_an_error_or_a_picture(cut: int, at: int, value: int) -> None:
    data = bytearray(compressed_depth(DEPTH, "16UC1").data)
    data[min(at, len(data) - 1)] = value
    with contextlib.suppress(ImageError):
        found = decode_depth(Image(bytes(data[: len(data) - cut]), "16UC1; compressedDepth", compressed=True))
        assert found.dtype == np.uint16


@pytest.mark.slow
@given(words=st.binary(max_size=200), width=st.integers(0, 70))
def test_any_words_of_rvl_are_an_error_or_a_picture(words: bytes, width: int) -> None:
    with contextlib.suppress(ImageError):
        found = decode_depth(rvl_depth(DEPTH)(width, words))
        assert found.shape == (HEIGHT, width)
