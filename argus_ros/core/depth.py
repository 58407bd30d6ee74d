"""Depth images, raw or as image_transport's compressedDepth: a PNG, or RVL.

RVL is described in Wilson, "Fast lossless depth image compression", ISS 2017. Runs of zeros and runs of
other values alternate, each with its length. A value is stored as the difference to the previous one.
Numbers are nibbles with 3 bits each, the lowest first; the fourth bit is set where more follow. Words of 32
bits are filled with nibbles from the top.
"""

from __future__ import annotations

import numpy as np

from argus_ros.core.image import MAX_PIXELS, PNG, Image, ImageError, Layout, decode_png16, view

_LAYOUTS = {
    "16UC1": Layout(1, None, 16),  # millimetres
    "mono16": Layout(1, None, 16),
    "32FC1": Layout(1, None, 32),  # metres
}
_HEADER = 12  #: bytes of compressedDepth before the PNG or RVL: a number, and two floats for inverse depth
_SIZE = 8  #: bytes of RVL before its words: width and height
_NIBBLES = 8  #: per word
_MOST_NIBBLES = 11  #: per number of 32 bits
_MOST_BYTES = 4  #: per pixel, and for the rest: a difference of 17 bits takes 3 bytes


def decode_depth(image: Image) -> np.ndarray:
    """(height, width) of a depth image: uint16 in millimetres or float32 in metres; a view of raw data.

    Raises ImageError.
    """
    encoding = image.encoding.partition(";")[0].strip()
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise ImageError(
            f"encoding {image.encoding!r} is not a depth; it has to be 16UC1 (millimetres) or 32FC1 (metres)"
        )
    if not image.compressed:
        image.size()  # raises for an empty image
        return view(image, layout)
    data = memoryview(image.data).cast("B")
    if "compressedDepth rvl" in image.encoding:
        values = decode_rvl(data[_HEADER:])
    elif data[_HEADER : _HEADER + len(PNG)] == PNG:
        values = decode_png16(data[_HEADER:], image.encoding)
    else:
        raise ImageError(
            f"the compressed depth (format {image.encoding!r}, {len(data)} bytes) is not a PNG after a "
            f"header of {_HEADER} bytes, as image_transport's compressedDepth writes it"
        )
    if layout.bits == 16:
        return values
    near, far = np.frombuffer(data[4:_HEADER], "<f4")  # quantised inverse depth
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(values > 0, near / (values - far), np.nan).astype(np.float32)


def decode_rvl(data: memoryview) -> np.ndarray:
    """(height, width) uint16 of RVL data after their width and height. Raises ImageError."""
    if len(data) < _SIZE or len(data) % 4:
        raise _corrupt(data, "it is truncated")
    width, height = (int(side) for side in np.frombuffer(data[:_SIZE], "<u4"))
    if not 0 < width * height <= MAX_PIXELS:
        raise _corrupt(
            data, f"it claims {width}x{height} pixels, and {MAX_PIXELS / 1e6:.0f} megapixels are accepted"
        )
    if len(data) - _SIZE > _MOST_BYTES * (width * height + 4):
        raise _corrupt(data, f"it has more data than {width}x{height} pixels need")
    numbers = _numbers(data)
    heads, zeros, others = _runs(numbers, width * height)
    if len(heads) == 0 or zeros.sum() + others.sum() != width * height:
        raise _corrupt(data, f"its runs do not fill {width}x{height} pixels")
    # Numbers other than run lengths are differences, with the sign in the lowest bit.
    is_difference = np.ones(int(heads[-1] + 2 + others[-1]), bool)
    is_difference[heads] = is_difference[heads + 1] = False
    coded = numbers[: len(is_difference)][is_difference]
    differences = (coded >> 1) ^ -(coded & 1)
    depth = np.zeros(width * height, np.uint16)
    filled = np.repeat(np.tile([False, True], len(heads)), np.column_stack([zeros, others]).ravel())
    depth[filled] = np.cumsum(differences).astype(np.uint16)
    return depth.reshape(height, width)


def _numbers(data: memoryview) -> np.ndarray:
    """All numbers in RVL's words, (n,) int64."""
    octets = np.frombuffer(data[_SIZE:], "<u4").astype(">u4").view(np.uint8)
    nibbles = np.column_stack([octets >> 4, octets & 15]).ravel()
    ends = np.flatnonzero(nibbles < 8)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]
    lengths = ends - starts
    if len(ends) and lengths.max() >= _MOST_NIBBLES:
        raise _corrupt(data, "it holds a number of more than 32 bits")
    numbers = (nibbles[starts] & 7).astype(np.int64)
    longer = np.flatnonzero(lengths)
    place = 1
    while len(longer):
        numbers[longer] |= (nibbles[starts[longer] + place] & 7).astype(np.int64) << 3 * place
        place += 1
        longer = longer[lengths[longer] >= place]
    return numbers


def _runs(numbers: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each run's lengths stand, and these: of zeros, and of the values that follow them."""
    heads, zeros, others = [], [], []
    at, left, values = 0, pixels, numbers.tolist()
    while left > 0 and at + 1 < len(values):
        nothing, something = values[at], values[at + 1]
        heads.append(at)
        zeros.append(nothing)
        others.append(something)
        left -= nothing + something
        at += 2 + something
    if not 0 <= len(values) - at < _NIBBLES:  # values are missing, or there is more than fills a word
        heads = []
    return np.array(heads, np.int64), np.array(zeros, np.int64), np.array(others, np.int64)


def _corrupt(data: memoryview, why: str) -> ImageError:
    return ImageError(
        f"the compressed depth in RVL ({len(data)} bytes) cannot be read: {why}; "
        "check the publisher and the network"
    )
