"""The fast processors against the stock ones they stand in for."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    ViTImageProcessorPil,
)

# from where they are, because some versions hide them at the top where torchvision is missing
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import Tiling
from argus_ros.core.preparation import plan
from argus_ros.tools.pictures import photograph
from argus_ros.vlm import fast_processor
from argus_ros.vlm.models import configurations
from argus_ros.vlm.processors import stock_processor


def smolvlm(kind: type = Idefics3ImageProcessorPil, tile: int = 512, longest: int = 2048, **more: Any) -> Any:
    return kind(max_image_size={"longest_edge": tile}, size={"longest_edge": longest}, **more)


def internvl(tile: int = 448, **more: Any) -> Any:
    return GotOcr2ImageProcessorPil(size={"height": tile, "width": tile}, **{"crop_to_patches": True, **more})


def compare(stock: Any, images: Any, **asked: Any) -> float:
    """Same keys, shapes, dtypes and all but pixels; returns the mean difference of the pixels, of 255."""
    asked.setdefault("return_tensors", "pt")
    wanted, found = stock(images, **asked), fast_processor(stock)(images, **asked)
    assert list(found) == list(wanted)
    for key in wanted:
        assert type(found[key]) is type(wanted[key])
        if key != "pixel_values" and hasattr(wanted[key], "shape"):
            assert found[key].dtype == wanted[key].dtype
            np.testing.assert_array_equal(found[key], wanted[key])
        elif key != "pixel_values":
            assert found[key] == wanted[key]
    ours, theirs = (np.asarray(e["pixel_values"]) for e in (found, wanted))
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    std = np.reshape(np.broadcast_to(np.asarray(stock.image_std, np.float32), 3), (3, 1, 1))
    return float((np.abs(ours - theirs) * std * 255).mean())


STOCK = {
    "idefics3": smolvlm,
    "smolvlm": lambda: smolvlm(SmolVLMImageProcessorPil),
    "whole": lambda: smolvlm(do_image_splitting=False),
    "internvl": internvl,
    "internvl-whole": lambda: internvl(crop_to_patches=False),
}


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("size", [(1280, 720), (480, 640)])
def test_pixels_are_the_stock_ones_within_one_step(name: str, size: tuple[int, int]) -> None:
    assert 0 < compare(STOCK[name](), photograph(size)) <= 1.0


AS: dict[str, Callable[[np.ndarray], Any]] = {
    "PIL": PIL.Image.fromarray,
    "numpy": lambda rgb: rgb,
    "channels first": lambda rgb: np.ascontiguousarray(rgb.transpose(2, 0, 1)),
    "tensor": lambda rgb: torch.from_numpy(rgb.transpose(2, 0, 1).copy()),
    "strided": lambda rgb: np.repeat(rgb, 2, 1)[:, ::2],
    "padded rows": lambda rgb: np.pad(rgb, ((0, 0), (0, 5), (0, 0)))[:, :-5],
}


@pytest.mark.parametrize("kind", AS)
@pytest.mark.parametrize("stock", [smolvlm(tile=64, longest=256), internvl(64)], ids=["smolvlm", "internvl"])
def test_pictures_of_every_kind(stock: Any, kind: str) -> None:
    assert compare(stock, AS[kind](photograph((300, 200)))) <= 2.0  # tiny tiles hold squeezed detail


@pytest.mark.parametrize("tensors", [None, "np", "pt"])
@pytest.mark.parametrize("splitting", [True, False])
def test_batches(tensors: str | None, splitting: bool) -> None:
    one, wide, small = photograph((200, 200)), photograph((400, 100)), photograph((64, 64))
    asked = {"return_tensors": tensors, "return_row_col_info": True, "do_image_splitting": splitting}
    stock = smolvlm(tile=64, longest=256)
    assert compare(stock, [[one, wide], [small], []], **asked) <= 2.0
    assert compare(stock, [[one], [one]], **asked) <= 2.0
    crop = {"return_tensors": tensors, "crop_to_patches": splitting}
    assert compare(internvl(64), [one, wide, small], **crop) <= 2.0


UNUSUAL: dict[str, tuple[Any, dict[str, Any]]] = {
    "another filter": (photograph((90, 70)), {"resample": PIL.Image.Resampling.NEAREST}),
    "no normalisation": (photograph((90, 70)), {"do_normalize": False}),
    "no scaling": (photograph((64, 64)), {"do_resize": False, "do_image_splitting": False}),
    "floats": (photograph((90, 70)) / np.float32(255), {"do_rescale": False}),
    "no padding": (photograph((64, 64)), {"do_pad": False, "do_image_splitting": False}),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_the_stock_processor_handles_other_settings(name: str) -> None:
    picture, asked = UNUSUAL[name]
    assert compare(smolvlm(tile=64, longest=256), picture, **asked) == 0
    if "pad" not in name:
        asked = {key: value for key, value in asked.items() if key != "do_image_splitting"}
        assert compare(internvl(64), picture, crop_to_patches="no" not in name, **asked) == 0


@pytest.mark.parametrize("size", [(1, 100), (100, 1), (1, 1), (7680, 1000)])
def test_extreme_sizes(size: tuple[int, int]) -> None:
    picture = PIL.Image.new("RGB", size, (20, 120, 220))  # an array so thin could be read either way
    assert compare(smolvlm(tile=32, longest=128), picture) < 0.01
    assert compare(internvl(32), picture) < 0.01


@pytest.mark.parametrize("stock", [smolvlm(tile=64, longest=256), internvl(64)], ids=["smolvlm", "internvl"])
def test_an_empty_picture_is_refused_as_by_the_stock_processor(stock: Any) -> None:
    empty = np.zeros((0, 40, 3), np.uint8)
    for processor in (stock, fast_processor(stock)):
        with pytest.raises((ValueError, ZeroDivisionError)):
            processor(empty, return_tensors="pt")


def test_the_grid_is_internvls() -> None:
    for width in range(40, 1400, 97):
        for height in range(40, 1400, 89):
            columns, rows = get_optimal_tiled_canvas((height, width), (448, 448), 1, 12)
            wanted = (rows, columns) if rows * columns > 1 else (0, 0)
            assert plan(width, height, Tiling(448, grid=(1, 12))) == wanted


def test_the_stock_processor_stays_as_it_is(chat: Path) -> None:
    stock = AutoProcessor.from_pretrained(chat)
    kind = type(stock.image_processor)
    fast = fast_processor(stock)
    assert type(stock.image_processor) is kind
    assert isinstance(fast.image_processor, kind)
    assert type(fast) is type(stock)


def test_saved_pickled_and_made_fast_twice_it_is_the_same(chat: Path, tmp_path: Path) -> None:
    stock = AutoProcessor.from_pretrained(chat)
    fast = fast_processor(stock)
    fast.save_pretrained(tmp_path)
    assert AutoProcessor.from_pretrained(tmp_path).to_dict() == stock.to_dict()
    picture = photograph((200, 100))
    wanted = fast.image_processor(picture, return_tensors="np")["pixel_values"]
    for other in (pickle.loads(pickle.dumps(fast.image_processor)), fast_processor(fast.image_processor)):
        np.testing.assert_array_equal(other(picture, return_tensors="np")["pixel_values"], wanted)


def test_another_processor_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TypeError, match=r"no fast version of ViT.*Idefics3.*SmolVLM.*GotOcr2.*Qwen2VL"):
        fast_processor(ViTImageProcessorPil())


#: Image processors made of transformers' steps, as models of their families are published.
STEPPED: dict[str, tuple[str, dict[str, Any]]] = {
    "LLaVA-1.5": ("clip.CLIP", {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}),
    "Florence-2": ("clip.CLIP", {"size": {"height": 768, "width": 768}, "do_center_crop": False}),
    "LLaVA, padded": ("llava.Llava", {"do_pad": True}),
    "LLaVA-NeXT": ("llava_next.LlavaNext", {}),
    "LLaVA-OneVision": ("llava_onevision.LlavaOnevision", {}),
    "Qwen-VL": ("qwen2_vl.Qwen2VL", {"size": {"shortest_edge": 3136, "longest_edge": 12845056}}),
    "Qwen3-VL": ("qwen2_vl.Qwen2VL", {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}),
    "PaliGemma": ("siglip.Siglip", {"size": {"height": 448, "width": 448}, "resample": 3}),
    "Gemma 3": ("gemma3.Gemma3", {"size": {"height": 896, "width": 896}, "do_pan_and_scan": None}),
    "Idefics2": ("idefics2.Idefics2", {"do_image_splitting": True}),
}


def stepped(name: str) -> Any:
    (place, settings), module = STEPPED[name], "transformers.models.{0}.image_processing_pil_{0}"
    folder, kind = place.split(".")
    return getattr(importlib.import_module(module.format(folder)), f"{kind}ImageProcessorPil")(**settings)


@pytest.mark.parametrize("name", STEPPED)
@pytest.mark.parametrize("size", [(1280, 720), (300, 620), (90, 60)])
def test_steps_of_transformers_are_done_faster_and_come_out_the_same(
    name: str, size: tuple[int, int]
) -> None:
    """PIL's filters and torch's for uint8 round otherwise here and there."""
    stock = stepped(name)
    assert compare(stock, photograph(size)) <= 0.25
    assert compare(stock, PIL.Image.fromarray(photograph(size)), return_tensors="np") <= 0.25


@pytest.mark.parametrize("name", STEPPED)
def test_the_stock_steps_handle_other_settings(name: str) -> None:
    stock = stepped(name)
    floats = photograph((90, 70)) / np.float32(255)
    if "padded" not in name:  # the stock one pads floats with levels, and then refuses them
        assert compare(stock, floats.transpose(2, 0, 1), do_rescale=False) == 0
    assert compare(stock, photograph((90, 70)), resample=PIL.Image.Resampling.LANCZOS) < 1e-4
    assert compare(stock, photograph((90, 70)), do_normalize=False) * 255 <= 15
    again = pickle.loads(pickle.dumps(fast_processor(stock)))
    assert type(again) is type(fast_processor(stock))
    assert type(stock) is not type(again)


def write_internvl(folder: Path) -> Path:
    text = {**configurations.QWEN, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    vision = {**configurations.INTERN_VIT, "hidden_size": 32, "intermediate_size": 64}
    vision |= {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56}
    configurations.save(configurations.internvl(text, vision, tokens=600), folder, torch.float32)
    return folder


@pytest.mark.parametrize("family", ["idefics3", "internvl"])
@pytest.mark.parametrize("count", [1, 2])
def test_stock_generate_takes_what_it_makes(family: str, count: int, chat: Path, tmp_path: Path) -> None:
    folder = chat if family == "idefics3" else write_internvl(tmp_path)
    checkpoint = checkpoints.read(folder)
    stock = stock_processor(checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    image = stock.image_token
    pictures = [photograph((200, 150), seed) for seed in range(count)]
    texts = [f"User:{image} what is this?" for _ in pictures]
    asked = {"text": texts, "images": [[p] for p in pictures], "return_tensors": "pt", "padding": True}
    if family == "internvl":
        asked["images"] = pictures
    wanted, found = stock(**asked), fast_processor(stock)(**asked)
    assert list(found) == list(wanted)
    for key in ("input_ids", "attention_mask"):
        assert torch.equal(found[key], wanted[key])
    tokens = model.generate(**found, max_new_tokens=5, do_sample=False)
    assert tokens.shape[0] == count
    with torch.inference_mode():
        theirs, ours = (model(**inputs).logits for inputs in (wanted, found))
    assert float((ours - theirs).abs().mean()) < 0.02 * float(theirs.std())
