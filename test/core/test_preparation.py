"""Tiles against the stock processor's own, and against what the picture shows."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from argus_ros.core.checkpoint import Tiling
from argus_ros.core.image import Image, ImageError, Pixels, Region
from argus_ros.core.preparation import Prepared, fill, plan, prepare, scale

NANO = Tiling(160)
SMOLVLM = Tiling(512, 2048)


def photograph(width: int, height: int, seed: int = 0) -> np.ndarray:
    """What a camera sees: texture at every scale, objects with edges, a lens's blur, sensor noise."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.float32)
    for octave in range(1, 8):
        cells = 2**octave
        coarse = rng.normal(0, 40 / 2 ** (0.6 * octave), (cells * height // width + 2, cells + 2, 3))
        picture += cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(25):
        colour = rng.uniform(0, 255, 3).tolist()
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        size = int(rng.integers(10, width // 6))
        if rng.random() < 0.5:
            cv2.rectangle(picture, (x, y), (x + size, y + size), colour, -1)
        else:
            cv2.circle(picture, (x, y), size // 2, colour, -1)
    picture = cv2.GaussianBlur(picture, (0, 0), 1.0) + rng.normal(0, 1, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def as_image(rgb: np.ndarray, encoding: str = "rgb8") -> Image:
    if encoding == "jpeg":
        return Image(cv2.imencode(".jpg", rgb[..., ::-1])[1], "jpeg", compressed=True)
    pixels = np.ascontiguousarray(rgb if encoding == "rgb8" else rgb[..., ::-1])
    return Image(pixels, encoding, rgb.shape[1], rgb.shape[0], rgb.shape[1] * 3)


def tiles(picture: Image, tiling: Tiling, region: Region | None = None) -> tuple[Prepared, np.ndarray]:
    most = max(tiling.longest_edge // tiling.tile, 1) ** 2 + 1
    out = np.full((most, tiling.tile, tiling.tile, 3), 7, np.uint8)
    prepared = prepare(picture, region, tiling, out)
    assert np.all(out[prepared.tiles :] == 7)
    return prepared, out[: prepared.tiles]


Stock = Callable[[np.ndarray, Tiling], tuple[int, int, np.ndarray]]


@pytest.fixture(scope="module", params=["Idefics3", "SmolVLM"])
def stock(request: pytest.FixtureRequest) -> Stock:
    """The stock PIL processor: rows, columns and (tiles, tile, tile, 3) in 0..255."""
    pytest.importorskip("torch", reason="the stock processor needs torch")
    transformers = pytest.importorskip("transformers", reason="the stock processor is in transformers")
    processor = getattr(transformers, f"{request.param}ImageProcessorPil", None)
    if processor is None:
        pytest.skip("this transformers has no PIL processor of that name")

    def run(rgb: np.ndarray, tiling: Tiling) -> tuple[int, int, np.ndarray]:
        found = processor(
            size={"longest_edge": tiling.longest_edge or tiling.tile},
            max_image_size={"longest_edge": tiling.tile},
            do_image_splitting=tiling.longest_edge > 0,
            do_rescale=False,
            do_normalize=False,
            resample=1,  # Lanczos
        )(rgb, return_row_col_info=True, return_tensors="np", input_data_format="channels_last")
        pixels = np.asarray(found["pixel_values"])[0].transpose(0, 2, 3, 1)
        return found["rows"][0][0], found["cols"][0][0], pixels.astype(np.float32)

    return run


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
@pytest.mark.parametrize(
    ("width", "height", "tiling"),
    [
        (640, 480, NANO),
        (1280, 720, NANO),
        (1280, 720, SMOLVLM),
        (640, 480, SMOLVLM),
        (480, 640, Tiling(512, 1024)),
        (500, 375, Tiling(364, 1456)),
        (2560, 720, Tiling(512, 1024)),
        (640, 480, Tiling(512)),
    ],
)
def test_pixels_are_the_stock_processors_within_one_step(
    stock: Stock, width: int, height: int, tiling: Tiling, encoding: str
) -> None:
    rgb = photograph(width, height)
    rows, columns, expected = stock(rgb, tiling)
    prepared, found = tiles(as_image(rgb, encoding), tiling)
    assert prepared == Prepared(rows, columns, Region(0, 0, width, height))
    difference = np.abs(found - expected)
    assert difference.mean() <= 1.0
    assert difference[-1].mean() <= 1.0


def test_a_reduced_jpeg_gives_the_same_tiles() -> None:
    picture = as_image(photograph(1280, 720), "jpeg")
    rgb = cv2.imdecode(np.asarray(picture.data), cv2.IMREAD_COLOR)[..., ::-1]
    _, reduced = tiles(picture, NANO)
    _, whole = tiles(as_image(rgb), NANO)
    assert np.any(reduced != whole)
    assert np.abs(reduced.astype(int) - whole).mean() <= 0.5


SMALL = Tiling(16, 64)


@given(width=st.integers(1, 200), height=st.integers(1, 200))
@example(width=16, height=16)
@example(width=64, height=1)
@example(width=1, height=64)
def test_the_grid_is_the_stock_processors(width: int, height: int) -> None:
    """In small, where the stock arithmetic can be run over many shapes."""
    processing = pytest.importorskip(
        "transformers.models.idefics3.image_processing_pil_idefics3", reason="the stock processor"
    )
    processor = processing.Idefics3ImageProcessorPil()
    wanted = processing.get_resize_output_image_size(np.empty((3, height, width)), SMALL.longest_edge)
    first = np.zeros((3, *wanted), np.uint8)
    second = processor.resize_for_vision_encoder(first, SMALL.tile, resample=0)
    _, rows, columns = processor.split_images(second, {"longest_edge": SMALL.tile}, resample=0)
    assert plan(width, height, SMALL) == (rows, columns)


def test_grids_of_real_cameras() -> None:
    assert plan(1280, 720, SMOLVLM) == (3, 4)
    assert plan(480, 640, SMOLVLM) == (4, 3)
    assert plan(1000, 1000, SMOLVLM) == (4, 4)
    assert plan(640, 480, NANO) == (0, 0)
    assert plan(640, 480, Tiling(512, 512)) == (0, 0)


def test_tiles_are_in_reading_order_with_the_global_tile_last() -> None:
    rgb = np.zeros((512, 512, 3), np.uint8)
    rgb[:256, 256:] = (255, 0, 0)
    rgb[256:, :256] = (0, 255, 0)
    prepared, found = tiles(as_image(rgb, "bgr8"), Tiling(64, 128))
    assert (prepared.rows, prepared.columns) == (2, 2)
    colours = [tile[8:-8, 8:-8].reshape(-1, 3).mean(0).round().tolist() for tile in found[:4]]
    assert colours == [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 0]]
    assert found[4][4, 60].tolist() == [255, 0, 0]
    assert found[4][60, 4].tolist() == [0, 255, 0]


@pytest.mark.parametrize("encoding", ["rgb8", "jpeg"])
def test_a_region_is_prepared_as_if_it_were_the_picture(encoding: str) -> None:
    region = Region(100, 60, 300, 200)
    rgb = photograph(640, 480)
    picture = as_image(rgb, encoding)
    if encoding == "jpeg":
        rgb = cv2.imdecode(np.asarray(picture.data), cv2.IMREAD_COLOR)[..., ::-1]
    prepared, found = tiles(picture, NANO, region)
    _, alone = tiles(as_image(rgb[60:260, 100:400]), NANO)
    assert prepared.region == region
    np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize(
    "size", [(160, 160), (320, 160), (40, 30), (640, 100), (100, 640), (161, 159), (1, 1)]
)
def test_scaling_every_way_keeps_the_brightness(size: tuple[int, int]) -> None:
    rgb = np.full((size[1], size[0], 3), (10, 120, 250), np.uint8)
    out = np.zeros((160, 160, 3), np.uint8)
    scale(Pixels(rgb, None), 160, 160, out)
    assert np.all(out == (10, 120, 250))


INTERNVL = Tiling(32, grid=(1, 12))


def test_grids_of_internvl() -> None:
    assert plan(640, 480, INTERNVL) == (3, 4)
    assert plan(1280, 720, INTERNVL) == (2, 4)
    assert plan(480, 640, INTERNVL) == (4, 3)
    assert plan(20, 20, INTERNVL) == (0, 0)
    assert INTERNVL.max_tiles == 13


@pytest.mark.parametrize(
    ("most", "grid"), [(13, (3, 4)), (12, (2, 3)), (5, (2, 2)), (2, (0, 0)), (1, (0, 0))]
)
def test_a_budget_of_tiles_is_kept(most: int, grid: tuple[int, int]) -> None:
    assert plan(640, 480, INTERNVL.limited(most)) == grid
    assert INTERNVL.limited(most).max_tiles <= most
    assert SMOLVLM.limited(most).max_tiles <= most


def odd_pictures() -> dict[str, Image]:
    """The same picture (but for the last four) as drivers and callers may hand it over."""
    rgb = photograph(640, 480)[:48, :64]
    padded = np.pad(rgb, ((0, 0), (0, 3), (0, 0)))
    return {
        "plain": as_image(rgb),
        "padded rows": Image(padded.tobytes(), "rgb8", 64, 48, 67 * 3),
        "blue first": as_image(rgb, "bgr8"),
        "with alpha": Image(np.dstack([rgb, rgb[..., :1]]), "rgba8", 64, 48, 64 * 4),
        "one pixel high": Image(bytes(64 * 3), "rgb8", 64, 1, 64 * 3),
        "one pixel wide": Image(bytes(48 * 3), "rgb8", 1, 48, 3),
        "one pixel": Image(bytes(3), "rgb8", 1, 1, 3),
        "8K": Image(bytes(7680 * 4320 * 3), "rgb8", 7680, 4320, 7680 * 3),
    }


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("tiling", [SMALL, INTERNVL], ids=["smolvlm", "internvl"])
def test_pictures_of_every_kind_fill_a_slot(tiling: Tiling, whole: bool) -> None:
    slot = np.zeros(100_000, np.uint8)
    seen = {}
    for name, picture in odd_pictures().items():
        prepared = fill(slot, picture, None, tiling, whole)
        assert (prepared.rows, prepared.columns) == plan(picture.width, picture.height, tiling)
        small = whole and name != "8K"  # which does not fit, and so becomes tiles
        assert prepared.frame == ((picture.width, picture.height) if small else (0, 0))
        seen[name] = prepared.pixels(slot, tiling.tile).copy()
        assert seen[name].ndim == (3 if small else 4)
    for same in ("padded rows", "blue first", "with alpha"):
        np.testing.assert_array_equal(seen[same], seen["plain"])


def test_a_frame_too_thin_to_be_scaled_at_once_becomes_tiles() -> None:
    slot = np.zeros(100_000, np.uint8)
    assert fill(slot, Image(bytes(30_000), "mono8", 30_000, 1, 30_000), None, SMALL, True).frame == (0, 0)


def test_an_array_with_gaps_is_named() -> None:
    rgb = np.zeros((48, 64, 3), np.uint8)[:, ::2]
    with pytest.raises(ImageError, match="ascontiguousarray"):
        tiles(Image(rgb, "rgb8", 32, 48, rgb.strides[0]), NANO)


@pytest.mark.parametrize("size", [(0, 48), (64, 0), (0, 0)])
def test_an_empty_picture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"empty .{size[0]}x{size[1]}"):
        fill(np.zeros(10, np.uint8), Image(b"", "rgb8", *size, 3 * size[0]), None, NANO, True)


def test_bad_pictures_are_refused() -> None:
    with pytest.raises(ImageError, match="carries 10"):
        tiles(Image(bytes(10), "rgb8", 640, 480, 1920), NANO)
    with pytest.raises(ImageError, match="outside"):
        tiles(as_image(np.zeros((48, 64, 3), np.uint8)), NANO, Region(100, 100))
