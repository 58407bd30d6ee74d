"""What a checkpoint says of itself, read from its JSON files without loading torch.

A checkpoint is an ordinary transformers folder (``config.json``, ``model.safetensors``,
``tokenizer.json``, ``processor_config.json``). What only an Argus checkpoint has stands under
the key ``argus`` of ``config.json``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

#: Checkpoints that come with the package, by name.
SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints"


class CheckpointError(ValueError):
    """A folder that is no checkpoint, or one this package cannot use."""


@dataclass(frozen=True)
class Vocabulary:
    """The ``argus`` section of ``config.json``: what the checkpoint was trained to say."""

    tasks: tuple[str, ...]
    bins: int  #: location bins per axis; bin ``i`` stands for the edge ``i / (bins - 1)`` of the image
    classes: tuple[str, ...] = ()  #: closed vocabulary; empty means any phrase is accepted
    colours: tuple[str, ...] = ()  #: words a description may put before a class
    max_objects: int = 8
    temperature: float = 1.0  #: fitted on held-out scenes; scores are probabilities after it


@dataclass(frozen=True)
class Tiling:
    """How a picture becomes square tiles."""

    tile: int  #: side of a tile in pixels
    longest_edge: int = 0  #: picture is scaled to this before it is cut; 0 or ``tile`` means one tile
    tokens_per_tile: int = 0
    grid: tuple[int, int] = (0, 0)  #: InternVL: fewest and most tiles of a grid in the picture's shape

    @property
    def most(self) -> int:
        """Tiles of any picture at most, with the one of all of it."""
        grid = self.grid[1] or (-(-self.longest_edge // self.tile)) ** 2
        return grid + 1 if grid > 1 else 1

    def within(self, tiles: int) -> Tiling:
        """The tiling of which no picture takes more than so many tiles."""
        if self.grid[1]:
            most = min(max(tiles - 1, 1), self.grid[1])
            return replace(self, grid=(min(self.grid[0], most), most))
        side = math.isqrt(max(tiles - 1, 0))
        return replace(self, longest_edge=min(self.longest_edge, side * self.tile))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder and what its JSON files say."""

    name: str
    path: Path
    family: str  #: ``model_type`` of config.json: ``smolvlm``, ``idefics3``, ``internvl``
    config: dict[str, Any]
    tiling: Tiling
    vocabulary: Vocabulary | None  #: None: no Argus checkpoint, so free text only

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.vocabulary.tasks if self.vocabulary else ("caption", "ask")


def shipped() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(p.parent.name for p in SHIPPED.glob("*/config.json"))


def find(name: str | Path) -> Path:
    """Folder of a shipped checkpoint's name, or of a path. Raises CheckpointError."""
    for candidate in (SHIPPED / str(name), Path(name).expanduser()):
        if (candidate / "config.json").is_file():
            return candidate.resolve()
    raise CheckpointError(
        f"no checkpoint {str(name)!r}: neither a shipped one ({', '.join(shipped()) or 'none'}) "
        "nor a folder with a config.json; give one of these or the path of a folder"
    )


def read(name: str | Path) -> Checkpoint:
    """Read a checkpoint's JSON files. Raises CheckpointError with what is wrong and where."""
    path = find(name)
    config = _read_json(path / "config.json")
    family = config.get("model_type", "")
    processor = image_processor(path)
    return Checkpoint(
        name=path.name,
        path=path,
        family=family,
        config=config,
        tiling=_tiling(config, processor),
        vocabulary=_vocabulary(config.get("argus"), path),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; a checkpoint folder needs it") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return value


def image_processor(path: Path) -> dict[str, Any]:
    """Settings of the image processor: a section of its own file in transformers 5, a file before."""
    if (path / "processor_config.json").is_file():
        section = _read_json(path / "processor_config.json").get("image_processor")
        if section is not None:
            return section
    return _read_json(path / "preprocessor_config.json")


def _vocabulary(section: dict[str, Any] | None, path: Path) -> Vocabulary | None:
    if section is None:
        return None
    known = set(Vocabulary.__dataclass_fields__)
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in section.items() if k in known
    }
    try:
        return Vocabulary(**values)
    except TypeError as error:
        raise CheckpointError(f"{path / 'config.json'}: section 'argus': {error}") from None


def _tiling(config: dict[str, Any], processor: dict[str, Any]) -> Tiling:
    """SmolVLM and Idefics3: tiles of ``max_image_size``, cut from ``size`` when splitting is on.

    InternVL: a grid of ``min_patches`` to ``max_patches`` tiles, whatever ``crop_to_patches`` says there,
    because its processor asks its image processor for it.
    """
    vision = config.get("vision_config", {})
    size = processor.get("max_image_size", {}).get("longest_edge") or vision.get("image_size", 0)
    if isinstance(size, list):
        size = size[0]
    patch = vision.get("patch_size", 16)
    patch = patch[0] if isinstance(patch, list) else patch
    factor = config.get("scale_factor") or round(1 / config.get("downsample_ratio", 0.5))
    splitting = processor.get("do_image_splitting", False)
    longest = processor.get("size", {}).get("longest_edge", 0) if splitting else 0
    tokens = (size // patch // factor) ** 2
    if config.get("model_type") == "internvl":
        grid = processor.get("min_patches", 1), processor.get("max_patches", 12)
        return Tiling(tile=size, tokens_per_tile=tokens, grid=grid)
    return Tiling(tile=size, longest_edge=longest, tokens_per_tile=tokens)
