"""Camera images, raw or compressed, and the decoding of their pixels.

An ``Image`` is a view of a ``sensor_msgs`` message. Creating one neither copies nor checks anything, so that
a callback returns at once. ``decode`` does the work, only for the frames that are run. It keeps the channel
order and names the conversion to RGB, because it is cheaper to scale first and to convert the small result.

From 16 bits to 8: colour and Bayer images keep the top 8 bits of the sensor's depth (10, 12, 14 or 16 bits,
from the brightest pixel). Images with one such channel, ``mono16`` and ``16UC1``, come from night vision,
thermal and depth cameras, which use a small part of the range. They are stretched from their minimum to their
maximum, unless ``Image.mono16`` is set to something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

#: Larger compressed images are refused before any memory is allocated for them.
MAX_PIXELS = 1 << 26

#: The values that become black and white in an image of one 16-bit channel: its minimum and maximum
#: (``stretch``), 0 and the maximum of the sensor's depth (``full``), or the two values given.
Mono16 = Literal["stretch", "full"] | tuple[int, int]


class ImageError(ValueError):
    """An image cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of the source image; a width or height of 0 means up to the image's edge."""

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0

    def within(self, width: int, height: int) -> Region:
        """The part inside an image of this size. Raises ImageError where there is none."""
        left, top = max(self.x, 0), max(self.y, 0)
        right = min(self.x + self.width, width) if self.width else width
        bottom = min(self.y + self.height, height) if self.height else height
        if left >= right or top >= bottom:
            raise ImageError(
                f"the region of interest ({self.width}x{self.height} at {self.x}, {self.y}) lies outside "
                f"the {width}x{height} image; set the camera's region inside it"
            )
        return Region(left, top, right - left, bottom - top)


@dataclass(frozen=True, eq=False)
class Image:
    """An image in the memory of its message, raw or compressed."""

    data: Any  #: an object with the buffer protocol: bytes, array, ndarray
    encoding: str  #: ``sensor_msgs/Image.encoding`` or ``sensor_msgs/CompressedImage.format``
    width: int = 0  #: pixels; 0 for a compressed image, where the header has it
    height: int = 0
    step: int = 0  #: bytes from one row to the next
    is_bigendian: bool = False
    compressed: bool = False
    mono16: Mono16 = "stretch"
    budget: float = 0.0  #: limit on the decoding work in megapixels, see ``_work``; 0: none

    @classmethod
    def of(cls, message: Any, mono16: Mono16 = "stretch", budget: float = 0.0) -> Image:
        """View of an object with the fields of a sensor_msgs Image or CompressedImage."""
        if hasattr(message, "format"):
            return cls(message.data, message.format, compressed=True, mono16=mono16, budget=budget)
        return cls(
            message.data,
            message.encoding,
            message.width,
            message.height,
            message.step,
            bool(message.is_bigendian),
            mono16=mono16,
        )

    def size(self) -> tuple[int, int]:
        """Width and height in pixels; of a compressed image from its header. Raises ImageError."""
        if self.compressed:
            return _header(self)[:2]
        if self.width <= 0 or self.height <= 0:
            raise ImageError(f"the image is empty ({self.width}x{self.height}); check the camera driver")
        return self.width, self.height


@dataclass(frozen=True)
class Pixels:
    """Decoded pixels, (height, width) or (height, width, channels) uint8, often a view."""

    array: np.ndarray
    to_rgb: int | None  #: OpenCV's conversion code to RGB; None where the order is RGB already

    def rgb(self) -> np.ndarray:
        """(height, width, 3) uint8."""
        return self.array if self.to_rgb is None else cv2.cvtColor(self.array, self.to_rgb)


def decode(image: Image, region: Region | None = None, target: tuple[int, int] = (0, 0)) -> Pixels:
    """Pixels of ``region`` (None: the whole image).

    ``target`` (width, height) is the size to which the caller will scale the region. A much larger JPEG is
    decoded at a half, a quarter or an eighth, as long as ``SPARE`` times the target remains. Raises
    ImageError.
    """
    width, height = image.size()
    region = (region or Region()).within(width, height)
    try:
        if image.compressed:
            return _decode_compressed(image, region, target)
        return _decode_raw(image, region)
    except cv2.error as error:
        raise ImageError(
            f"OpenCV cannot convert this {width}x{height} {image.encoding!r} picture: {error.err}"
        ) from None


# --- raw ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How pixels lie in rows. Those with ``cells`` have to be converted before they can be scaled."""

    channels: int
    to_rgb: int | None
    bits: int = 8
    cells: bool = False  # cells of 2x1 or 2x2 pixels share their colour
    even: bool = False  # width and height have to be even
    planes: bool = False  # rows of luma, then half as many rows of interleaved chroma


_LAYOUTS = {
    "rgb8": Layout(3, None),
    "bgr8": Layout(3, cv2.COLOR_BGR2RGB),
    "rgba8": Layout(4, cv2.COLOR_RGBA2RGB),
    "bgra8": Layout(4, cv2.COLOR_BGRA2RGB),
    "mono8": Layout(1, cv2.COLOR_GRAY2RGB),
    "8UC1": Layout(1, cv2.COLOR_GRAY2RGB),
    "8UC3": Layout(3, cv2.COLOR_BGR2RGB),
    "8UC4": Layout(4, cv2.COLOR_BGRA2RGB),
    "rgb16": Layout(3, None, 16),
    "bgr16": Layout(3, cv2.COLOR_BGR2RGB, 16),
    "rgba16": Layout(4, cv2.COLOR_RGBA2RGB, 16),
    "bgra16": Layout(4, cv2.COLOR_BGRA2RGB, 16),
    "mono16": Layout(1, cv2.COLOR_GRAY2RGB, 16),
    "16UC1": Layout(1, cv2.COLOR_GRAY2RGB, 16),
    # OpenCV names a Bayer pattern by the second row's second and third pixel.
    "bayer_rggb8": Layout(1, cv2.COLOR_BayerBG2RGB, cells=True),
    "bayer_bggr8": Layout(1, cv2.COLOR_BayerRG2RGB, cells=True),
    "bayer_gbrg8": Layout(1, cv2.COLOR_BayerGR2RGB, cells=True),
    "bayer_grbg8": Layout(1, cv2.COLOR_BayerGB2RGB, cells=True),
    "bayer_rggb16": Layout(1, cv2.COLOR_BayerBG2RGB, 16, cells=True),
    "bayer_bggr16": Layout(1, cv2.COLOR_BayerRG2RGB, 16, cells=True),
    "bayer_gbrg16": Layout(1, cv2.COLOR_BayerGR2RGB, 16, cells=True),
    "bayer_grbg16": Layout(1, cv2.COLOR_BayerGB2RGB, 16, cells=True),
    "yuv422": Layout(2, cv2.COLOR_YUV2RGB_UYVY, cells=True, even=True),
    "uyvy": Layout(2, cv2.COLOR_YUV2RGB_UYVY, cells=True, even=True),
    "yuv422_yuy2": Layout(2, cv2.COLOR_YUV2RGB_YUY2, cells=True, even=True),
    "yuyv": Layout(2, cv2.COLOR_YUV2RGB_YUY2, cells=True, even=True),
    "nv12": Layout(1, cv2.COLOR_YUV2RGB_NV12, cells=True, even=True, planes=True),
    "nv21": Layout(1, cv2.COLOR_YUV2RGB_NV21, cells=True, even=True, planes=True),
}

#: Encodings of raw images that ``decode`` supports.
ENCODINGS = tuple(_LAYOUTS)


def _decode_raw(image: Image, region: Region) -> Pixels:
    layout = _LAYOUTS.get(image.encoding)
    if layout is None:
        raise ImageError(
            f"unknown image encoding {image.encoding!r}; have the camera publish one of "
            f"{', '.join(ENCODINGS)}, or a JPEG or PNG CompressedImage"
        )
    pixels = view(image, layout)
    if layout.planes and layout.to_rgb is not None:
        return Pixels(_crop(cv2.cvtColor(np.ascontiguousarray(pixels), layout.to_rgb), region), None)
    if layout.cells:
        return _join_cells(pixels, layout, region)
    return Pixels(_eight_bits(_crop(pixels, region), layout, image.mono16), layout.to_rgb)


def _join_cells(pixels: np.ndarray, layout: Layout, region: Region) -> Pixels:
    """RGB of a region, which its neighbours in the picture have a share in."""
    assert layout.to_rgb is not None
    height, width = pixels.shape[:2]
    cells, inner = _whole_cells(region, width, height)
    eight = _eight_bits(_crop(pixels, cells), layout)
    return Pixels(_crop(cv2.cvtColor(eight, layout.to_rgb), inner), None)


def view(image: Image, layout: Layout) -> np.ndarray:
    """The message's data as (rows, width) or (rows, width, channels). Raises ImageError."""
    what = f"{image.width}x{image.height} {image.encoding}"
    row = image.width * layout.channels * layout.bits // 8
    rows = image.height * 3 // 2 if layout.planes else image.height
    memory = memoryview(image.data)
    if not memory.c_contiguous:
        raise ImageError(f"this {what} image is not contiguous in memory; pass np.ascontiguousarray of it")
    size = memory.nbytes
    if image.step < row:
        raise ImageError(
            f"a row of this {what} image needs {row} bytes but its step is {image.step}; "
            "set step to the bytes of a row in the camera driver"
        )
    if layout.even and (image.width % 2 or (layout.planes and image.height % 2)):
        raise ImageError(f"a {what} image needs an even width and height; check the camera driver")
    if size < image.step * rows:
        raise ImageError(
            f"a {what} image with rows of {image.step} bytes needs {image.step * rows} bytes but carries "
            f"{size}; check the camera driver, or the node that truncates its messages"
        )
    pixels = np.frombuffer(image.data, np.uint8, image.step * rows).reshape(rows, image.step)[:, :row]
    if layout.bits == 16:
        pixels = pixels.view(">u2" if image.is_bigendian else "<u2")
    elif layout.bits == 32:
        pixels = pixels.view(">f4" if image.is_bigendian else "<f4")
    return pixels if layout.channels == 1 else pixels.reshape(rows, image.width, layout.channels)


def _crop(pixels: np.ndarray, region: Region) -> np.ndarray:
    return pixels[region.y : region.y + region.height, region.x : region.x + region.width]


def _whole_cells(region: Region, width: int, height: int) -> tuple[Region, Region]:
    """The region extended to whole 2x2 cells plus one cell on each side, and its own place in that."""
    left, top = max(region.x // 2 * 2 - 2, 0), max(region.y // 2 * 2 - 2, 0)
    right = min(-(-(region.x + region.width) // 2) * 2 + 2, width)
    bottom = min(-(-(region.y + region.height) // 2) * 2 + 2, height)
    inner = Region(region.x - left, region.y - top, region.width, region.height)
    return Region(left, top, right - left, bottom - top), inner


def _eight_bits(pixels: np.ndarray, layout: Layout, mono16: Mono16 = "full") -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if layout.channels > 1 or layout.cells or mono16 == "full":
        brightest = int(pixels.max())
        depth = next(bits for bits in (10, 12, 14, 16) if brightest < 1 << bits)
        return (pixels >> (depth - 8)).astype(np.uint8)
    low, high = (int(pixels.min()), int(pixels.max())) if mono16 == "stretch" else mono16
    scale = 255 / max(high - low, 1)
    return cv2.convertScaleAbs(np.clip(pixels, low, high).astype(np.uint16), alpha=scale, beta=-low * scale)


# --- compressed ---------------------------------------------------------------------------------

#: A reduced JPEG has at least this many times the target's pixels per axis.
SPARE = 2

_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_JPEG = b"\xff\xd8"
PNG = b"\x89PNG\r\n\x1a\n"


def _decode_compressed(image: Image, region: Region, target: tuple[int, int]) -> Pixels:
    width, height, colours = _header(image)
    data = np.frombuffer(image.data, np.uint8)
    jpeg = bytes(data[:2]) == _JPEG
    work = width * height / 1e6 * _work(data)
    if 0.0 < image.budget < work:
        raise ImageError(
            f"the {width}x{height} {'JPEG' if jpeg else 'PNG'} picture ({data.size} bytes) takes as much "
            f"work as {work:.0f} megapixels, and its camera's decode_budget is {image.budget:g}; have the "
            "camera publish smaller or simpler pictures (baseline JPEG, 8 bits), or raise it"
        )
    if not jpeg:
        _check_chunks(data)
    mosaic = _mosaic(image) if colours == 1 else None
    # Some cameras pad after the end marker, so that it may not be last.
    if jpeg and data.tobytes().rfind(b"\xff\xd9") < 0:
        raise ImageError(
            f"the JPEG picture is truncated after {data.size} bytes; check the camera driver and the network"
        )
    # Each pixel of a mosaic has one colour: reducing it would mix them.
    factor = _reduction(region, width, height, target) if jpeg and not mosaic else 1
    how = _REDUCED[factor] if not mosaic else cv2.IMREAD_GRAYSCALE
    # An orientation in the header is ignored, as image_transport does: boxes are in stored pixels.
    how = how | cv2.IMREAD_IGNORE_ORIENTATION if jpeg else cv2.IMREAD_UNCHANGED
    pixels = cv2.imdecode(data, how)
    if pixels is None or pixels.shape[:2] != (height // factor, width // factor):
        raise ImageError(
            f"the {'JPEG' if jpeg else 'PNG'} picture ({data.size} bytes) is corrupt; "
            "check the camera driver and the network"
        )
    if mosaic and pixels.ndim == 2:
        return _join_cells(pixels, mosaic, region)
    pixels = _crop(pixels, Region(*(v // factor for v in (region.x, region.y, region.width, region.height))))
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels]
    return Pixels(_eight_bits(pixels, Layout(channels, code), image.mono16), code)


def _work(data: np.ndarray) -> float:
    """Decoding work per pixel, relative to a baseline JPEG, as far as the file's header tells.

    Each further scan of a progressive JPEG processes all pixels again; a PNG inflates all of its bytes.
    """
    if bytes(data[:2]) == _JPEG:
        return 1.0 + (data.tobytes().count(b"\xff\xda") - 1) / 4  # a marker: within a scan, 0 follows 0xff
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(int(data[25]), 4)
    return channels * max(int(data[24]), 8) / 8


def _check_chunks(data: np.ndarray) -> None:
    """Raise ImageError unless a PNG's chunks fit the file: OpenCV allocates the lengths that they state."""
    at = 8
    while at + 12 <= data.size:
        length, kind = int.from_bytes(data[at : at + 4].tobytes(), "big"), data[at + 4 : at + 8].tobytes()
        if (at == 8) != (kind == b"IHDR" and length == 13):
            break
        at += 12 + length
        if kind == b"IEND" and at <= data.size:
            return
    raise ImageError(
        f"the PNG picture ({data.size} bytes) is corrupt or truncated; check the camera driver and network"
    )


def _mosaic(image: Image) -> Layout | None:
    """How the colours lie in a grey picture that is a sensor's mosaic; None where it is none.

    image_transport writes the format as ``SOURCE; CODEC compressed TARGET``. TARGET is the encoding after
    conversion. With Bayer images it is empty for PNG, and for JPEG in ROS 1; in ROS 2 JPEGs of them are grey
    (TARGET is ``mono8``). Raises ImageError for an unknown pattern.
    """
    source, _, how = image.encoding.partition(";")
    if not source.strip().startswith("bayer_") or how.partition("compressed")[2].strip():
        return None
    layout = _LAYOUTS.get(source.strip())
    if layout is None:
        known = ", ".join(name for name in ENCODINGS if name.startswith("bayer_"))
        raise ImageError(f"unknown Bayer pattern in format {image.encoding!r}; known are {known}")
    return layout


def _reduction(region: Region, width: int, height: int, target: tuple[int, int]) -> int:
    """The largest reduction that leaves enough pixels and falls on whole ones."""
    if not all(target):
        return 1
    edges = (region.x, region.y, region.width, region.height, width, height)
    fits = (
        factor
        for factor in (8, 4, 2)
        if region.width >= SPARE * factor * target[0]
        and region.height >= SPARE * factor * target[1]
        and not any(edge % factor for edge in edges)
    )
    return next(fits, 1)


def _header(image: Image) -> tuple[int, int, int]:
    """Width, height and number of colours of a compressed image. Raises ImageError."""
    data = memoryview(image.data).cast("B")
    if data[:2] == _JPEG:
        size = _jpeg_header(data)
    elif data[:8] == PNG and len(data) >= 26:
        grey = data[25] == 0
        size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"), 1 if grey else 3
    else:
        raise ImageError(
            f"the compressed picture (format {image.encoding!r}) is neither JPEG nor PNG; "
            "have the camera publish one of these, or raw images"
        )
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise ImageError(
            f"the compressed picture claims {size[0]}x{size[1]} pixels; its header is corrupt, "
            f"or it is larger than the {MAX_PIXELS / 1e6:.0f} megapixels allowed"
        )
    return size


def _jpeg_header(data: memoryview) -> tuple[int, int, int]:
    """The same as ``_header``, from the start-of-frame segment of a JPEG. Raises ImageError.

    Thumbnails, colour profiles and makers' notes may precede it, in segments of up to 64 KiB each.
    """
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
            return width, height, data[at + 9]
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ImageError(
        f"the JPEG picture ({len(data)} bytes) has no frame header; check the camera driver and the network"
    )


def decode_png16(png: memoryview, encoding: str) -> np.ndarray:
    """(height, width) uint16 of a PNG of one 16-bit channel. Raises ImageError."""
    _header(Image(png, encoding, compressed=True))
    _check_chunks(np.frombuffer(png, np.uint8))
    values = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 2:
        raise ImageError(f"the PNG of the compressed depth ({len(png)} bytes) is corrupt, or not of 16 bits")
    return values
