"""Every encoding of a camera, and every way in which a picture can be wrong."""

from __future__ import annotations

import array
import contextlib
import struct
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argus_ros.core.image import ENCODINGS, Image, ImageError, Region, decode

WIDTH, HEIGHT = 64, 48


def scene(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Smooth colours, different in every corner, so that order, origin and phase all show."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.stack([40 + 180 * x, 220 - 160 * y, 60 + 120 * x * y], -1).round().astype(np.uint8)


def grey(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    out = np.empty(rgb.shape[:2], np.uint8)
    for index, colour in enumerate(pattern):
        y, x = divmod(index, 2)
        out[y::2, x::2] = rgb[y::2, x::2, "rgb".index(colour)]
    return out


def chroma(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, U, V of ITU-R BT.601 in video range."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return tuple(plane.round().astype(np.uint8) for plane in (y, u, v))  # type: ignore[return-value]


def encode(rgb: np.ndarray, encoding: str) -> np.ndarray:
    """The picture as a camera would send it, (rows, bytes) without padding."""
    height, width = rgb.shape[:2]
    if encoding.endswith("16") or encoding == "16UC1":
        eight = {"mono16": "mono8", "16UC1": "mono8"}.get(encoding, encoding.replace("16", "8"))
        return (encode(rgb, eight).astype("<u2") * 257).view(np.uint8)
    if encoding.startswith("bayer"):
        return mosaic(rgb, encoding[6:10])
    if encoding in ("mono8", "8UC1"):
        return grey(rgb)
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"):
        y, u, v = chroma(rgb)
        if encoding.startswith("nv"):
            pair = (u, v) if encoding == "nv12" else (v, u)
            return np.concatenate([y, np.stack(pair, -1)[::2, ::2].reshape(height // 2, width)])
        uv = np.where(np.arange(width) % 2 == 0, u, np.roll(v, 1, axis=1))
        return np.stack((uv, y) if encoding in ("yuv422", "uyvy") else (y, uv), -1).reshape(height, -1)
    order = {"8UC3": "bgr", "8UC4": "bgra"}.get(encoding, encoding.rstrip("8"))
    planes = [np.full(rgb.shape[:2], 255, np.uint8) if c == "a" else rgb[..., "rgb".index(c)] for c in order]
    return np.stack(planes, -1).reshape(height, -1)


def image(rgb: np.ndarray, encoding: str, padding: int = 0) -> Image:
    rows = encode(rgb, encoding)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return Image(rows.tobytes(), encoding, rgb.shape[1], rgb.shape[0], rows.shape[1])


def tolerance(encoding: str) -> float:
    return 7.0 if encoding.startswith(("bayer", "yu", "uyvy", "nv")) else 1.0


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_picture_back(encoding: str, padding: int) -> None:
    rgb = scene()
    found = decode(image(rgb, encoding, padding)).rgb().astype(float)
    expected = rgb.astype(float)
    if encoding in ("mono16", "16UC1"):
        low, high = grey(rgb).min(), grey(rgb).max()
        expected = (grey(rgb)[..., None].astype(float) - low) * 255 / (high - low)
    elif encoding in ("mono8", "8UC1"):
        expected = grey(rgb)[..., None].astype(float)
    inside = np.abs(found - expected)[2:-2, 2:-2]
    assert inside.max() <= tolerance(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_region_is_the_same_part_of_the_whole(encoding: str) -> None:
    whole = decode(image(scene(), encoding, 6)).rgb()
    part = decode(image(scene(), encoding, 6), Region(7, 5, 30, 21)).rgb()
    if encoding in ("mono16", "16UC1"):  # stretched by what the region shows
        assert part.max() == 255
        assert part.min() == 0
    else:
        np.testing.assert_array_equal(part, whole[5:26, 7:37])


@pytest.mark.parametrize("encoding", ["mono16", "16UC1", "rgb16", "bayer_rggb16"])
def test_big_endian(encoding: str) -> None:
    little = image(scene(), encoding)
    swapped = np.frombuffer(little.data, "<u2").byteswap().tobytes()
    big = Image(swapped, encoding, little.width, little.height, little.step, is_bigendian=True)
    np.testing.assert_array_equal(decode(big).rgb(), decode(little).rgb())


@pytest.mark.parametrize(("brightest", "shift"), [(1000, 2), (4000, 4), (16000, 6), (65535, 8)])
def test_sixteen_bits_keep_the_top_of_the_sensors_depth(brightest: int, shift: int) -> None:
    values = np.linspace(0, brightest, 64 * 48).astype("<u2").reshape(48, 64)
    found = decode(Image(values.tobytes(), "mono16", 64, 48, 128, mono16="full")).array
    np.testing.assert_array_equal(found, values >> shift)
    colour = np.repeat(values[..., None], 3, 2)
    found = decode(Image(colour.tobytes(), "rgb16", 64, 48, 384)).array
    np.testing.assert_array_equal(found, colour >> shift)


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
def test_thermal_contrast_is_kept(encoding: str) -> None:
    """Counts of 14 bits around 7500, say: a small part of the range."""
    values = np.linspace(7300, 7800, 64 * 48).astype("<u2").reshape(48, 64)
    picture = Image(values.tobytes(), encoding, 64, 48, 128)
    assert len(np.unique(decode(picture).array)) == 256
    _, png = cv2.imencode(".png", values)
    squeezed = Image(png, f"{encoding}; png compressed ", compressed=True)
    np.testing.assert_array_equal(decode(squeezed).array, decode(picture).array)
    flat = np.full((48, 64), 700, "<u2")
    assert decode(Image(flat.tobytes(), encoding, 64, 48, 128)).array.max() == 0


def test_the_range_of_one_16_bit_channel_can_be_given() -> None:
    values = np.array([[0, 7000, 7502, 8000, 65535]], "<u2")
    found = decode(Image(values.tobytes(), "mono16", 5, 1, 10, mono16=(7000, 8000))).array
    np.testing.assert_array_equal(found, [[0, 0, 128, 255, 255]])


def test_a_raw_picture_is_not_copied() -> None:
    data = array.array("B", scene().tobytes())
    message = SimpleNamespace(
        data=data, encoding="bgr8", width=WIDTH, height=HEIGHT, step=WIDTH * 3, is_bigendian=0
    )
    pixels = decode(Image.of(message), Region(8, 8, 16, 16))
    assert np.shares_memory(pixels.array, np.frombuffer(data, np.uint8))


# --- compressed ---------------------------------------------------------------------------------


def compressed(rgb: np.ndarray, kind: str) -> Image:
    _, data = cv2.imencode(f".{kind}", rgb[..., ::-1] if rgb.ndim == 3 else rgb)
    message = SimpleNamespace(data=array.array("B", data.tobytes()), format=f"bgr8; {kind} compressed bgr8")
    return Image.of(message)


@pytest.mark.parametrize(("kind", "most"), [("jpg", 12), ("png", 0)])
def test_compressed_pictures(kind: str, most: int) -> None:
    picture = compressed(scene(), kind)
    assert picture.size() == (WIDTH, HEIGHT)
    found = decode(picture).rgb()
    assert np.abs(found.astype(int) - scene()).max() <= most
    np.testing.assert_array_equal(decode(picture, Region(3, 5, 20, 10)).rgb(), found[5:15, 3:23])


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_compressed_grey(kind: str) -> None:
    found = decode(compressed(grey(scene()), kind)).rgb()
    assert np.abs(found.astype(int) - grey(scene())[..., None]).max() <= 8


def test_png_of_sixteen_bits_and_with_alpha() -> None:
    deep = scene().astype(np.uint16) * 257
    np.testing.assert_array_equal(decode(compressed(deep, "png")).rgb(), scene())
    _, data = cv2.imencode(".png", np.dstack([scene()[..., ::-1], grey(scene())]))
    np.testing.assert_array_equal(decode(Image(data, "png", compressed=True)).rgb(), scene())


BAYER = [encoding for encoding in ENCODINGS if encoding.startswith("bayer_")]


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("encoding", BAYER)
def test_a_mosaic_that_was_compressed_is_a_colour_picture(encoding: str, kind: str) -> None:
    pixels = mosaic(scene(), encoding[6:10])
    if encoding.endswith("16") and kind == "png":
        pixels = pixels.astype(np.uint16) * 257
    _, data = cv2.imencode(f".{kind}", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100] if kind == "jpeg" else [])
    picture = Image(data, f"{encoding}; {kind} compressed ", compressed=True)
    found = decode(picture, target=(4, 4)).rgb()
    assert np.abs(found.astype(float) - scene())[2:-2, 2:-2].max() <= (7 if kind == "png" else 16)
    np.testing.assert_array_equal(decode(picture, Region(7, 5, 30, 21)).rgb(), found[5:26, 7:37])


def test_a_converted_bayer_picture_is_decoded_as_grey_or_colour() -> None:
    _, data = cv2.imencode(".png", grey(scene()))
    made_grey = Image(data, "bayer_rggb8; jpeg compressed mono8", compressed=True)
    np.testing.assert_array_equal(decode(made_grey).rgb(), np.repeat(grey(scene())[..., None], 3, 2))
    for target in ("", "bgr8"):
        colour = compressed(scene(), "png")
        colour = Image(colour.data, f"bayer_rggb8; png compressed {target}", compressed=True)
        np.testing.assert_array_equal(decode(colour).rgb(), scene())
    with pytest.raises(ImageError, match="unknown Bayer pattern in format 'bayer_rgbw8; png compressed '"):
        decode(Image(data, "bayer_rgbw8; png compressed ", compressed=True))


def test_the_frame_header_of_a_jpeg_may_come_late() -> None:
    """After thumbnails, colour profiles or makers' notes of any length."""
    picture = compressed(scene(), "jpg")
    whole = bytes(picture.data)
    profile = (b"\xff\xe2" + (40_002).to_bytes(2, "big") + bytes(40_000)) * 3
    late = Image(whole[:2] + profile + whole[2:], "jpeg", compressed=True)
    assert late.size() == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(decode(late).rgb(), decode(picture).rgb())


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_an_orientation_in_the_header_is_ignored(orientation: int) -> None:
    """Boxes are in pixels as they are stored, whoever else reads the picture."""
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHHI", 0x0112, 3, 1, orientation, 0, 0)
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:20, :32] = 255
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag + jpeg[2:]
    assert not np.array_equal(
        cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR),
        cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR),
    ), "OpenCV would turn it"
    assert np.array_equal(
        decode(Image(turned, "jpeg", compressed=True)).rgb(),
        decode(Image(jpeg, "jpeg", compressed=True)).rgb(),
    )


def test_a_large_jpeg_is_decoded_no_larger_than_needed() -> None:
    picture = compressed(scene(1280, 720), "jpg")
    assert decode(picture, target=(160, 160)).array.shape == (360, 640, 3)
    assert decode(picture, target=(80, 80)).array.shape == (180, 320, 3)
    assert decode(picture, target=(512, 512)).array.shape == (720, 1280, 3)
    # A region that does not fall on whole reduced pixels would move by a part of one.
    assert decode(picture, Region(3, 0, 1024, 720), target=(160, 160)).array.shape == (720, 1024, 3)
    odd = compressed(scene(1279, 720), "jpg")
    assert decode(odd, target=(80, 80)).array.shape == (720, 1279, 3)


def test_a_jpeg_padded_after_its_end_is_whole() -> None:
    picture = compressed(scene(), "jpg")
    padded = Image(bytes(picture.data) + bytes(500), "jpeg", compressed=True)
    np.testing.assert_array_equal(decode(padded).rgb(), decode(picture).rgb())


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Image(b"", "rgb8", 0, 0, 0), "empty"),
        (Image(bytes(100), "rgb8", 10, 0, 30), "empty"),
        (Image(bytes(300), "rgb8", 10, 10, 20), "step is 20"),
        (Image(bytes(299), "rgb8", 10, 10, 30), "needs 300 bytes but carries 299"),
        (Image(bytes(300), "rgb9", 10, 10, 30), "unknown image encoding 'rgb9'"),
        (Image(bytes(300), "32FC1", 10, 10, 40), "unknown image encoding '32FC1'"),
        (Image(bytes(300), "", 10, 10, 30), "unknown image encoding ''"),
        (Image(bytes(100), "rgb8", 2**32 - 1, 2**32 - 1, 2**32 - 1), "step is"),
        (Image(bytes(99), "yuv422", 9, 5, 18), "even width and height"),
        (Image(bytes(99), "nv12", 8, 5, 8), "even width and height"),
        (Image(bytes(64), "nv12", 8, 8, 8), "needs 96 bytes but carries 64"),
        (Image(b"", "jpeg", compressed=True), "neither JPEG nor PNG"),
        (Image(bytes(40), "16UC1; compressedDepth png", compressed=True), "neither JPEG nor PNG"),
        (Image(b"\xff\xd8\xff", "jpeg", compressed=True), "no frame header"),
        (Image(b"\x89PNG\r\n\x1a\n" + bytes(8) + b"\xff" * 30, "png", compressed=True), "megapixels"),
    ],
)
def test_bad_pictures_are_refused_with_their_cause(bad: Image, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        decode(bad)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_pictures_cut_short(kind: str) -> None:
    whole = bytes(compressed(scene(), kind).data)
    for size in (30, len(whole) // 2, len(whole) - 5):
        with pytest.raises(ImageError):
            decode(Image(whole[:size], kind, compressed=True))


@given(st.data())
def test_damaged_pictures_never_crash(data: st.DataObject) -> None:
    raw = bytearray(compressed(scene(), data.draw(st.sampled_from(["jpg", "png"]))).data)
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert decode(Image(bytes(raw), "damaged", compressed=True)).rgb().dtype == np.uint8


@given(
    st.sampled_from([*ENCODINGS, "nonsense"]), st.integers(0, 9), st.integers(0, 9), st.integers(0, 80),
    st.integers(0, 400),
)  # fmt: skip
def test_raw_pictures_of_any_shape_never_crash(
    encoding: str, width: int, height: int, step: int, size: int
) -> None:
    with contextlib.suppress(ImageError):
        found = decode(Image(bytes(size), encoding, width, height, step)).rgb()
        assert found.shape == (height, width, 3)


def test_a_region_reaches_to_the_edge_and_is_clipped() -> None:
    assert Region().within(64, 48) == Region(0, 0, 64, 48)
    assert Region(10, 20).within(64, 48) == Region(10, 20, 54, 28)
    assert Region(-5, 20, 100, 100).within(64, 48) == Region(0, 20, 64, 28)
    with pytest.raises(ImageError, match="outside the 64x48 image"):
        Region(64, 0, 10, 10).within(64, 48)


def jpeg_of(width: int, height: int, progressive: bool) -> bytes:
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8), options)[1].tobytes()


@pytest.mark.parametrize(
    ("picture", "megapixels"),
    [
        (jpeg_of(640, 480, progressive=False), 0.31),
        (jpeg_of(640, 480, progressive=True), 1.0),  # ten scans
        (cv2.imencode(".png", np.zeros((480, 640, 3), np.uint8))[1].tobytes(), 0.93),
        (cv2.imencode(".png", np.zeros((480, 640, 4), np.uint16))[1].tobytes(), 2.46),
    ],
)
def test_pictures_above_the_decode_budget_are_refused(picture: bytes, megapixels: float) -> None:
    allowed = Image(picture, "jpeg", compressed=True, budget=megapixels * 1.05)
    assert decode(allowed).array.shape[:2] == (480, 640)
    with pytest.raises(ImageError, match="decode_budget"):
        decode(replace(allowed, budget=megapixels * 0.95))


def test_a_png_whose_chunk_claims_more_than_there_is() -> None:
    """OpenCV would make room for it: a gigabyte, and a second or two."""
    picture = bytearray(cv2.imencode(".png", np.zeros((24, 32, 3), np.uint8))[1].tobytes())
    picture[33:37] = b"\x40\0\0\0"
    for data in (picture, picture[:40]):
        with pytest.raises(ImageError, match="corrupt or truncated"):
            decode(Image(bytes(data), "png", compressed=True))
