"""The preprocessing recipes for plain transformers: a drop-in replacement of the stock image processors.

    processor = fast_processor(AutoProcessor.from_pretrained("HuggingFaceTB/SmolVLM-256M-Instruct"))

Keys, shapes and dtypes are the same. For SmolVLM, Idefics3 and InternVL, which cut pictures into tiles,
pixels are scaled once by OpenCV instead of up to three times by PIL. For other families each step stays, but
is faster: torch's uint8 kernels replace PIL's filters, with occasional differences of one level; rescaling
and normalising are one pass through a table. The stock processor still runs for all other options (float
pictures, other filters, no normalisation).
"""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    Idefics3Processor,
    InternVLProcessor,
)
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_transforms import get_resize_output_image_size, get_size_with_aspect_ratio
from transformers.image_utils import get_image_size_for_max_height_width
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from argus_ros.core.checkpoint import Checkpoint, Tiling
from argus_ros.core.families import INTERNVL
from argus_ros.core.image import Image
from argus_ros.core.preparation import prepare
from argus_ros.vlm.formats import chat

Processor = TypeVar("Processor")

#: PIL's filters that OpenCV's area averaging and cubic interpolation replace: Lanczos, bicubic.
FILTERS = (1, 3)
#: Maximum side to which the stock Idefics3 processor scales a picture.
LONGEST = 4096


def fast_processor(processor: Processor) -> Processor:
    """A faster copy of a processor (or of its image processor).

    It keeps the settings, is saved as the stock one, and is an instance of its class. A torchvision processor
    is replaced by the PIL one's faster copy. Raises TypeError for processors without a fast version.
    """
    if hasattr(processor, "image_processor"):
        fast = copy.copy(processor)
        fast.image_processor = fast_processor(processor.image_processor)
        return fast
    fast = copy.copy(_with_pil(processor))
    stock: Any = type(fast)
    fast.__class__ = _fast_class(stock)
    return fast


def _with_pil(processor: Any) -> Any:
    """The PIL version of a torchvision image processor with a fast version; others unchanged."""
    kind = type(processor)
    if kind.__name__ not in STEPS or isinstance(processor, PilBackend):
        return processor
    module = importlib.import_module(kind.__module__.replace("image_processing_", "image_processing_pil_"))
    return getattr(module, f"{kind.__name__}Pil").from_dict(json.loads(processor.to_json_string()))


class ImagesOnly(InternVLProcessor):
    """InternVL's processor without the video part, which needs torchvision."""

    def __init__(
        self, image_processor: Any, tokenizer: Any, image_seq_length: int = 256, chat_template: Any = None
    ) -> None:
        super().__init__(image_processor, tokenizer, None, image_seq_length, chat_template)


ImagesOnly.__name__ = InternVLProcessor.__name__  # processors are saved under their class name


def stock_processor(checkpoint: Checkpoint) -> Any:
    """transformers' processor for a checkpoint; for InternVL the part for pictures.

    Some versions hide image processors that work without torchvision: then it is assembled here.
    """
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    intern = checkpoint.native is INTERNVL
    try:
        if not intern:
            return AutoProcessor.from_pretrained(checkpoint.path, **local)
        images = AutoImageProcessor.from_pretrained(checkpoint.path, **local)
    except (ImportError, ValueError):
        pil = GotOcr2ImageProcessorPil if intern else Idefics3ImageProcessorPil
        images = pil.from_pretrained(checkpoint.path, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path, **local)
    kind = ImagesOnly if intern else Idefics3Processor
    template = None if checkpoint.vocabulary else chat.template(checkpoint)
    return kind(images, tokenizer, checkpoint.tiling.tokens_per_tile, chat_template=template)


@lru_cache
def _fast_class(stock: Any) -> type:
    """A subclass of ``stock`` with fast preprocessing, under the same name, which is used for saving."""
    if issubclass(stock, _Fast):
        return stock
    names = {name.removesuffix("Pil") for name in (base.__name__ for base in stock.__mro__)}
    for mixin in (_FastIdefics3, _FastInternVL):
        if names & set(mixin.NAMES) and hasattr(stock, "_preprocess"):
            return type(stock.__name__, (mixin, stock), {"__module__": stock.__module__, "stock": stock})
    if names & set(STEPS) and issubclass(stock, PilBackend):
        members = {"__module__": stock.__module__, "stock": stock}
        first = _FastPatches if names & set(_FastPatches.NAMES) else _FastSteps
        return type(stock.__name__, (first, stock, _Steps), members)
    known = ", ".join((*_FastIdefics3.NAMES, *_FastInternVL.NAMES, *STEPS))
    raise TypeError(f"no fast version of {stock.__name__}; supported are {known} of transformers 5")


def _restore(stock: type, state: dict[str, Any]) -> object:
    fast: Any = object.__new__(_fast_class(stock))
    fast.__dict__.update(state)
    return fast


class _Fast:
    """A base class before a stock image processor: handles the usual settings, and calls it for others."""

    NAMES: tuple[str, ...] = ()
    stock: type

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.stock, self.__dict__)

    def _preprocess(self, images: Any, **settings: Any) -> BatchFeature:
        pictures = [p for each in images for p in (each if isinstance(each, (list, tuple)) else [each])]
        if not pictures or not _usual(settings) or not all(map(_usual_picture, pictures)):
            return super()._preprocess(images, **settings)  # type: ignore[misc]
        return self._fast(images, _table(settings), settings)

    def _fast(self, images: Any, table: np.ndarray, settings: dict[str, Any]) -> BatchFeature:
        raise NotImplementedError


class _FastIdefics3(_Fast):
    """Tiles of one size, the last with the whole picture; samples with fewer are padded with zeros."""

    NAMES = ("Idefics3ImageProcessor", "SmolVLMImageProcessor")

    def _fast(self, images: Any, table: np.ndarray, settings: dict[str, Any]) -> BatchFeature:
        longest = settings["size"].longest_edge
        if not settings["do_pad"] or not longest or longest > LONGEST:
            return super(_Fast, self)._preprocess(images, **settings)  # type: ignore[misc]
        tile = settings["max_image_size"]["longest_edge"]
        tiling = Tiling(tile, longest if settings["do_image_splitting"] else 0)
        out = np.empty((tiling.max_tiles, tile, tile, 3), np.uint8)
        rows, columns, samples = [], [], []
        for sample in images:
            found = []
            for picture in sample:
                prepared = prepare(_image(picture), None, tiling, out)
                found.append((prepared, _planes(out[: prepared.tiles], table)))
            rows.append([p.rows for p, _ in found])
            columns.append([p.columns for p, _ in found])
            samples.append([tiles for _, tiles in found])
        pixels, mask = _pad(samples, tile, settings["return_tensors"])
        data = {"pixel_values": pixels, "pixel_attention_mask": mask}
        encoding = BatchFeature(data, tensor_type=settings["return_tensors"])
        if settings["return_row_col_info"]:
            encoding["rows"], encoding["cols"] = rows, columns
        return encoding


class _FastInternVL(_Fast):
    """A grid of tiles with the aspect ratio nearest to the picture's, then the whole picture as a tile."""

    NAMES = ("GotOcr2ImageProcessor",)

    def _fast(self, images: Any, table: np.ndarray, settings: dict[str, Any]) -> BatchFeature:
        size = settings["size"]
        if size.height != size.width or not size.height:
            return super(_Fast, self)._preprocess(images, **settings)  # type: ignore[misc]
        most = settings["max_patches"] if settings["crop_to_patches"] else 1
        tiling = Tiling(size.height, grid=(settings["min_patches"], most))
        out = np.empty((tiling.max_tiles, size.height, size.height, 3), np.uint8)
        counts, planes = [], []
        for picture in images:
            counts.append(prepare(_image(picture), None, tiling, out).tiles)
            planes.append(_planes(out[: counts[-1]], table))
        pixels = np.concatenate(planes)
        data = {"pixel_values": pixels if settings["return_tensors"] else list(pixels), "num_patches": counts}
        return BatchFeature(data, tensor_type=settings["return_tensors"])


#: Processors with the steps of transformers' PIL backend; tests compare each with its stock version.
STEPS = (
    "CLIPImageProcessor",
    "Gemma3ImageProcessor",
    "Idefics2ImageProcessor",
    "LlavaImageProcessor",
    "LlavaNextImageProcessor",
    "LlavaOnevisionImageProcessor",
    "Qwen2VLImageProcessor",
    "SiglipImageProcessor",
)


class _FastSteps:
    """A base class before a stock image processor: leaves rescaling to the normalisation."""

    stock: type
    factor: float | None = None  #: by which pictures still have to be multiplied

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.stock, self.__dict__)

    def _preprocess(self, *images: Any, **settings: Any) -> BatchFeature:
        working = copy.copy(self)  # other threads may use this one
        if settings.get("do_rescale") and settings.get("do_normalize"):
            working.factor, settings["do_rescale"] = settings["rescale_factor"], False
        return super(_FastSteps, working)._preprocess(*images, **settings)  # type: ignore[misc]


class _FastPatches(_FastSteps):
    """Of Qwen-VL, whose pictures are cut into patches: in the type that they have."""

    NAMES = ("Qwen2VLImageProcessor",)

    def patchify(
        self, image: np.ndarray, patch_size: int, merge_size: int, temporal_patch_size: int
    ) -> tuple[np.ndarray, int, int]:
        """(3, height, width) to (patches, 3 x temporal x patch x patch), and rows and columns of patches."""
        channels, rows, columns = image.shape[0], image.shape[1] // patch_size, image.shape[2] // patch_size
        down, across = rows // merge_size, columns // merge_size
        cut = image.reshape(channels, down, merge_size, patch_size, across, merge_size, patch_size)
        shape = (down, across, merge_size, merge_size, channels, temporal_patch_size, patch_size, patch_size)
        patches: np.ndarray = np.empty(shape, image.dtype)
        patches[...] = cut.transpose(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
        return patches.reshape(rows * columns, -1), rows, columns


class _Steps(PilBackend):
    """A base class after a stock image processor: replaces transformers' own steps."""

    factor: float | None = None

    def resize(self, image: Any, size: Any, resample: Any = None, **more: Any) -> Any:
        """(3, height, width) uint8, bilinear or bicubic; transformers handles the rest."""
        name = FILTER_NAMES.get(int(getattr(resample, "value", resample if resample is not None else 2)))
        if not (_usual_picture(image) and name and isinstance(image, np.ndarray)) or more.get("reducing_gap"):
            return super().resize(image, size, resample, **more)
        height, width = _resized(image, size)
        if (height, width) == image.shape[1:]:
            return image
        import torch

        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(1, 2, 0))).permute(2, 0, 1)
        scaled = torch.nn.functional.interpolate(planes[None], (height, width), mode=name, antialias=True)
        return scaled[0].numpy()

    def normalize(self, image: Any, mean: Any, std: Any, **more: Any) -> Any:
        """(3, height, width) uint8 to float32, with the rescaling that was left to this step."""
        factor = self.factor if self.factor is not None else 1.0
        if not (_usual_picture(image) and isinstance(image, np.ndarray)):
            image = image if self.factor is None else self.rescale(image, factor)
            return super().normalize(image, mean, std, **more)
        table = _table({"rescale_factor": factor, "image_mean": mean, "image_std": std})
        out: np.ndarray = np.empty(image.shape, np.float32)
        for channel, levels in enumerate(table):
            cv2.LUT(np.ascontiguousarray(image[channel]), levels, dst=out[channel])
        return out


#: PIL's filters that torch supports for uint8.
FILTER_NAMES = {2: "bilinear", 3: "bicubic"}


def _resized(image: np.ndarray, size: Any) -> tuple[int, int]:
    """Height and width for a ``size`` setting. Raises ValueError."""
    if size.shortest_edge and size.longest_edge:
        return get_size_with_aspect_ratio(image.shape[1:], size.shortest_edge, size.longest_edge)
    if size.shortest_edge:
        height, width = get_resize_output_image_size(
            image, size.shortest_edge, default_to_square=False, input_data_format="channels_first"
        )
        return height, width
    if size.max_height and size.max_width:
        return get_image_size_for_max_height_width(image.shape[1:], size.max_height, size.max_width)
    if size.height and size.width:
        return size.height, size.width
    raise ValueError(f"a size has to have height and width, or a shortest edge; it is {size}")


def _usual(settings: dict[str, Any]) -> bool:
    """Whether the settings are the usual ones: smooth scaling, and normalisation."""
    resample = settings.get("resample")
    resample = getattr(resample, "value", resample)
    return (
        all(settings[name] for name in ("do_resize", "do_rescale", "do_normalize"))
        and resample in (*FILTERS, "lanczos", "bicubic")
        and settings["return_tensors"] in (None, "np", "pt")
    )


def _usual_picture(picture: Any) -> bool:
    """(3, height, width) uint8, not empty; torch or numpy."""
    shape = tuple(picture.shape)
    return len(shape) == 3 and shape[0] == 3 and min(shape) > 0 and str(picture.dtype).endswith("uint8")


def _rgb(picture: Any) -> np.ndarray:
    """(3, height, width) to contiguous (height, width, 3)."""
    array = picture if isinstance(picture, np.ndarray) else picture.cpu().numpy()
    return np.ascontiguousarray(array.transpose(1, 2, 0))


def _image(picture: Any) -> Image:
    rgb = _rgb(picture)
    return Image(rgb, "rgb8", rgb.shape[1], rgb.shape[0], rgb.strides[0])


def _table(settings: dict[str, Any]) -> np.ndarray:
    """(3, 256) float32: the normalised value of each level of each channel."""
    levels = np.arange(256, dtype=np.float32) * np.float32(settings["rescale_factor"])
    mean, std = (
        np.broadcast_to(np.asarray(settings[name], np.float32), 3) for name in ("image_mean", "image_std")
    )
    return (levels - mean[:, None]) / std[:, None]


def _planes(tiles: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(tiles, side, side, 3) uint8 to (tiles, 3, side, side) float32."""
    count, side = tiles.shape[:2]
    pixels = np.empty((count, 3, side, side), np.float32)
    for tile, planes in zip(tiles, pixels, strict=True):
        for plane, levels, out in zip(cv2.split(tile), table, planes, strict=True):
            cv2.LUT(plane, levels, dst=out)
    return pixels


def _pad(samples: Sequence[Sequence[np.ndarray]], tile: int, tensors: str | None) -> tuple[Any, Any]:
    """Pixels (samples, tiles, 3, tile, tile) and their mask (samples, tiles, tile, tile) int64."""
    counts = [sum(map(len, sample)) for sample in samples]
    if len(samples) == 1 and len(samples[0]) == 1:
        pixels = samples[0][0][None]
    else:
        pixels = np.zeros((len(samples), max(counts), 3, tile, tile), np.float32)
        for sample, out in zip(samples, pixels, strict=True):
            if sample:
                np.concatenate(sample, out=out[: sum(map(len, sample))])
    shape = (len(samples), max(counts), tile, tile)
    if tensors == "pt" and min(counts) == max(counts):
        import torch

        # Without padding, one number represents the whole mask, which would be as large as the pixels.
        return pixels, torch.ones((), dtype=torch.int64).expand(shape)
    mask = np.zeros(shape, np.int64)
    for count, out in zip(counts, mask, strict=True):
        out[:count] = 1
    return pixels, mask
