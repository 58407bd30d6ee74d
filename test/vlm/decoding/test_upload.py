"""Tiles cut on the device (recipe device_resize), against the stock processors' and the host's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from argus_ros.core.checkpoint import Tiling
from argus_ros.core.image import Image
from argus_ros.core.offline import Offline
from argus_ros.core.preparation import fill, plan
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.recipes import Recipes
from argus_ros.core.types import Answer, Task
from argus_ros.tools.pictures import photograph
from argus_ros.vlm.decoding.generation import Frame
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.decoding.upload import Upload
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats.prompts import TaskError
from argus_ros.vlm.models.vision import Normalisation

CAPTION = Task("caption")
DEVICE = torch.device(os.environ.get("ARGUS_TEST_DEVICE", "cpu"))


def upload(side: int, *recipes: str) -> Upload:
    on = Recipes(**dict.fromkeys(("device_resize", *recipes), True))
    return Upload(on, DEVICE, Normalisation(), side)


def stock(rgb: np.ndarray, tiling: Tiling) -> np.ndarray:
    """The stock PIL processor's tiles, (tiles, side, side, 3) in 0..255."""
    plain: dict[str, Any] = {"do_rescale": False, "do_normalize": False}
    if tiling.grid[1]:
        square = {"height": tiling.tile, "width": tiling.tile}
        processor = GotOcr2ImageProcessorPil(size=square, crop_to_patches=True, **plain)
    else:
        processor = Idefics3ImageProcessorPil(
            size={"longest_edge": tiling.longest_edge or tiling.tile},
            max_image_size={"longest_edge": tiling.tile},
            do_image_splitting=tiling.longest_edge > 0,
            **plain,
        )
    pixels = np.asarray(processor([rgb], return_tensors="np")["pixel_values"])
    return pixels.reshape(-1, 3, tiling.tile, tiling.tile).transpose(0, 2, 3, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "tiling"),
    [
        ((1280, 720), Tiling(512, 2048)),
        ((480, 640), Tiling(512, 1024)),
        ((640, 480), Tiling(512)),
        ((640, 480), Tiling(160)),
        ((1280, 720), Tiling(160)),
        ((640, 480), Tiling(448, grid=(1, 12))),
        ((300, 1200), Tiling(224, grid=(1, 12))),
    ],
)
def test_tiles_are_the_stock_ones_within_one_step(size: tuple[int, int], tiling: Tiling) -> None:
    rgb = photograph(size)
    found = upload(tiling.tile, "uint8_transfer")(Frame(rgb, *plan(*size, tiling))).cpu().numpy()
    wanted = stock(rgb, tiling)
    assert (found.shape, found.dtype) == (wanted.shape, np.uint8)
    difference = np.abs(found - wanted)
    assert difference.mean() <= 1.0
    assert difference[-1].mean() <= 1.0


@pytest.mark.parametrize("recipes", [(), ("uint8_transfer",), ("uint8_transfer", "pinned_async")])
def test_frames_and_tiles_arrive_alike(recipes: tuple[str, ...]) -> None:
    rgb = photograph((64, 64))
    to = upload(64, *recipes)
    frame, tiles = to(Frame(rgb, 0, 0)), to(rgb[None])  # nothing to scale
    assert frame.device.type == DEVICE.type
    assert frame.dtype == (torch.uint8 if recipes else torch.float32)
    torch.testing.assert_close(frame, tiles)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (33, 7), (1920, 1080)])
def test_frames_of_every_shape(size: tuple[int, int]) -> None:
    rgb = np.full((size[1], size[0], 3), (10, 120, 250), np.uint8)
    tiling = Tiling(32, 128)
    found = upload(32, "uint8_transfer")(Frame(rgb, *plan(*size, tiling))).cpu()
    assert (found == torch.tensor([10, 120, 250])).all()


@pytest.fixture(scope="module")
def cutting(tiled: Path) -> Engine:
    """An engine that takes frames."""
    return Engine(
        EngineConfig(str(tiled), device=DEVICE.type, dtype="float32", preset="realtime+device_resize")
    )


def ask(engine: Engine, rgb: np.ndarray, task: Task = CAPTION) -> tuple[FrameRequest, Answer]:
    slot = np.empty(engine.info.slot_bytes, np.uint8)
    height, width = rgb.shape[:2]
    tiling = engine.checkpoint.tiling
    prepared = fill(slot, Image(rgb, "rgb8", width, height, 3 * width), None, tiling, whole=True)
    layout = prepared.rows, prepared.columns
    request = FrameRequest(1, 0, *layout, width, height, task, frame=prepared.frame)
    return request, engine.run([request], [prepared.pixels(slot, tiling.tile)])[0]


@pytest.mark.slow
def test_the_engine_takes_frames(cutting: Engine) -> None:
    assert "device_resize" in cutting.info.recipes
    cutting.warm_up()
    model = cutting.model
    assert isinstance(model, NativeModel)
    for seed in range(3):
        rgb = photograph((160, 120), seed)
        request, answer = ask(cutting, rgb)
        assert (request.frame, request.tiles) == ((160, 120), 10)
        tiles = model.upload.cut(torch.from_numpy(rgb).to(DEVICE), request.rows, request.columns)
        (wanted,) = cutting.run([replace(request, frame=(0, 0))], [tiles.cpu().numpy()])
        assert replace(answer, times=wanted.times) == wanted
        assert answer.visual_tokens == 10 * cutting.info.tokens_per_tile


@pytest.mark.slow
def test_frames_go_through_shared_memory_as_they_are(cutting: Engine, tiled: Path) -> None:
    rgb = np.ascontiguousarray(photograph((96, 64)))
    config = EngineConfig(str(tiled), device=DEVICE.type, dtype="float32", preset="realtime+device_resize")
    with Offline(config, cutting.checkpoint.tiling) as offline:
        assert offline.engine.takes_frames
        assert offline.engine.info == replace(
            cutting.info,
            load_seconds=offline.engine.info.load_seconds,
            frame_seconds=offline.engine.info.frame_seconds,
        )
        for encoding, pixels in (("rgb8", rgb), ("bgr8", np.ascontiguousarray(rgb[..., ::-1]))):
            answer = offline.run(Image(pixels, encoding, 96, 64, 3 * 96), Task("detect", ("cone", "light")))
            wanted = ask(cutting, rgb, Task("detect", ("cone", "light")))[1]
            assert replace(without_scores(answer), times=wanted.times) == without_scores(wanted)
            # Two processes may add up in another order on a GPU. Boxes and words are the same tokens.
            scores = [found.score for found in wanted.detections]
            assert [found.score for found in answer.detections] == pytest.approx(scores, abs=1e-5)


def without_scores(answer: Answer) -> Answer:
    return replace(answer, detections=tuple(replace(found, score=0.0) for found in answer.detections))


def test_without_the_recipe_frames_are_refused(tiled: Path) -> None:
    engine = Engine(EngineConfig(str(tiled), device="cpu"))
    assert not {"device_resize", "pinned_async"} & set(engine.info.recipes)
    request = FrameRequest(1, 0, 0, 0, 64, 48, Task("caption"), frame=(64, 48))
    with pytest.raises(TaskError, match="needs recipe device_resize"):
        engine.run([request], [np.zeros((48, 64, 3), np.uint8)])
