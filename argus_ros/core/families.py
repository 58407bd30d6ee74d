"""The families of models that run natively, with one record of their differences each.

``tower`` names the parts that need torch: sizes in ``vlm/models/architecture.py``, modules in
``vlm/models/vision.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from argus_ros.core.section import Section

#: Maximum number of tiles along one side of a grid.
MOST_TILES = 64


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut into square tiles."""

    tile: int  #: side of a tile in pixels
    longest_edge: int = 0  #: picture is scaled to this before it is cut; 0 or ``tile`` means one tile
    tokens_per_tile: int = 0
    grid: tuple[int, int] = (0, 0)  #: InternVL: minimum and maximum number of tiles in a grid
    whole: bool = False  #: pictures are not cut; the model's own processor resizes them

    @property
    def max_tiles(self) -> int:
        """Maximum number of tiles of a picture, with the global tile."""
        grid = self.grid[1] or (-(-self.longest_edge // self.tile)) ** 2
        return grid + 1 if grid > 1 else 1

    def limited(self, tiles: int) -> Tiling:
        """The same tiling with at most ``tiles`` tiles for any picture."""
        if self.grid[1]:
            most = min(max(tiles - 1, 1), self.grid[1])
            return replace(self, grid=(min(self.grid[0], most), most))
        side = math.isqrt(max(tiles - 1, 0))
        return replace(self, longest_edge=min(self.longest_edge, side * self.tile))


@dataclass(frozen=True)
class Family:
    """The differences of one family's checkpoints."""

    name: str
    model_types: tuple[str, ...]  #: of config.json
    tower: str  #: ``siglip`` or ``internvit``
    placeholder: str  #: token for a picture in a prompt and, after expansion, for one visual token
    picture: Callable[[int, int], str]  #: prompt text of a picture of (rows, columns) tiles
    tiling: Callable[[Section, Section, Section], Tiling]  #: of config, vision_config and image processor
    unshuffle: Callable[[Section], int]  #: of config: patches per side that become one visual token
    patch: int  #: transformers' default patch size
    image: int
    chat: str  #: default chat template
    nested: bool  #: transformers' model takes the tiles of a picture as one sample
    connector: str  #: name of transformers' module after the vision encoder
    asked: dict[str, Any] = field(default_factory=dict)  #: its processor's arguments for its image processor


def _tokens(family: Family, config: Section, vision: Section) -> int:
    side = vision.side("image_size", family.image) // vision.side("patch_size", family.patch)
    return (side // family.unshuffle(config)) ** 2


def _cut(config: Section, vision: Section, processor: Section) -> Tiling:
    """Tiles of side ``max_image_size``, cut from ``size`` when splitting is on."""
    own = vision.side("image_size", IDEFICS3.image)
    tile = processor.section("max_image_size").count("longest_edge", own)
    if tile != own:
        raise processor.error("max_image_size", f"the vision_config's image_size, which is {own}")
    splitting = processor.flag("do_image_splitting", True)
    longest = (
        processor.section("size").count("longest_edge", 4 * 364, 0, MOST_TILES * tile) if splitting else 0
    )
    return Tiling(tile, longest, _tokens(IDEFICS3, config, vision))


def _grid(config: Section, vision: Section, processor: Section) -> Tiling:
    """A grid of ``min_patches`` to ``max_patches`` tiles; the processor overrides ``crop_to_patches``."""
    most = processor.count("max_patches", 12, 1, MOST_TILES)
    least = processor.count("min_patches", 1, 1, most)
    tile, size = vision.side("image_size", INTERNVL.image), processor.section("size")
    if {size.count("height", tile), size.count("width", tile)} != {tile}:
        raise processor.error("size", f"the vision_config's image_size, which is {tile}")
    return Tiling(tile, 0, _tokens(INTERNVL, config, vision), (least, most))


def _rows_and_columns(rows: int, columns: int) -> str:
    """Every tile has a name with its row and column."""
    fake, tiles = "<fake_token_around_image>", ""
    for row in range(1, rows + 1):
        tiles += "".join(f"{fake}<row_{row}_col_{i}><image>" for i in range(1, columns + 1)) + "\n"
    return f"{tiles}{chr(10) if rows else ''}{fake}<global-img><image>{fake}"


def _one_after_the_other(rows: int, columns: int) -> str:
    return f"<img>{'<IMG_CONTEXT>' * (rows * columns + 1)}</img>"


def _downsampling(config: Section) -> int:
    ratio = config.number("downsample_ratio", 0.5)
    if not 1 / 64 <= ratio <= 1 or (1 / ratio) % 1:
        raise config.error("downsample_ratio", "one over a small whole number")
    return round(1 / ratio)


IDEFICS3 = Family(
    name="idefics3",
    model_types=("idefics3", "smolvlm"),
    tower="siglip",
    placeholder="<image>",
    picture=_rows_and_columns,
    tiling=_cut,
    unshuffle=lambda config: config.count("scale_factor", 2, 1, 64),
    patch=32,
    image=224,
    chat=(
        "<|im_start|>{% for message in messages %}{{ message.role | capitalize }}:"
        "{% for part in message.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}"
        "<end_of_utterance>\n{% endfor %}"
        "{% if add_generation_prompt %}Assistant:{% endif %}"
    ),
    nested=True,
    connector="connector",
)
INTERNVL = Family(
    name="internvl",
    model_types=("internvl",),
    tower="internvit",
    placeholder="<IMG_CONTEXT>",
    picture=_one_after_the_other,
    tiling=_grid,
    unshuffle=_downsampling,
    patch=14,
    image=448,
    chat=(
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
        "{{ '<IMG_CONTEXT>\n' if part.type == 'image' else part.text }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    nested=False,
    connector="multi_modal_projector",
    asked={"crop_to_patches": True},
)
FAMILIES = (IDEFICS3, INTERNVL)


def of(model_type: str) -> Family | None:
    """The family of a ``model_type``; None where it does not run natively."""
    return next((family for family in FAMILIES if model_type in family.model_types), None)
