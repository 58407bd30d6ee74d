"""The families of models that run natively: what differs between them, one record each.

What needs torch is found by the record's ``tower``: sizes in ``vlm/architecture.py``, modules in
``vlm/vision.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from argus_ros.core.section import Section

#: Most tiles along one side of a grid.
MOST_TILES = 64


@dataclass(frozen=True)
class Tiling:
    """How a picture becomes square tiles."""

    tile: int  #: side of a tile in pixels
    longest_edge: int = 0  #: picture is scaled to this before it is cut; 0 or ``tile`` means one tile
    tokens_per_tile: int = 0
    grid: tuple[int, int] = (0, 0)  #: InternVL: fewest and most tiles of a grid in the picture's shape
    whole: bool = False  #: pictures are not cut: the model's own processor takes them as they are

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
class Family:
    """What is particular to the checkpoints of one family."""

    name: str
    model_types: tuple[str, ...]  #: of config.json
    tower: str  #: ``siglip`` or ``internvit``
    placeholder: str  #: stands for a picture in a prompt and, after expansion, for one visual token
    picture: Callable[[int, int], str]  #: rows, columns: a picture in a prompt, one placeholder a tile
    tiling: Callable[[Section, Section, Section], Tiling]  #: of config, vision_config and image processor
    unshuffle: Callable[[Section], int]  #: of config: patches per side that become one visual token
    patch: int  #: transformers' default where vision_config names none
    image: int
    chat: str  #: template where the folder has none
    nested: bool  #: whether transformers' model takes the tiles of a picture as one sample
    connector: str  #: transformers' module that ends the eyes
    asked: dict[str, Any] = field(default_factory=dict)  #: what its processor asks of its image processor


def _tokens(family: Family, config: Section, vision: Section) -> int:
    side = vision.side("image_size", family.image) // vision.side("patch_size", family.patch)
    return (side // family.unshuffle(config)) ** 2


def _cut(config: Section, vision: Section, processor: Section) -> Tiling:
    """Tiles of ``max_image_size``, cut from ``size`` when splitting is on."""
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
    """A grid of ``min_patches`` to ``max_patches`` tiles, whatever ``crop_to_patches`` says there,
    because its processor asks its image processor for it.
    """
    most = processor.count("max_patches", 12, 1, MOST_TILES)
    least = processor.count("min_patches", 1, 1, most)
    tile, size = vision.side("image_size", INTERNVL.image), processor.section("size")
    if {size.count("height", tile), size.count("width", tile)} != {tile}:
        raise processor.error("size", f"the vision_config's image_size, which is {tile}")
    return Tiling(tile, 0, _tokens(INTERNVL, config, vision), (least, most))


def _rows_and_columns(rows: int, columns: int) -> str:
    """Every tile has a name, by its row and column."""
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
    """The family that a ``model_type`` belongs to, if it runs natively."""
    return next((family for family in FAMILIES if model_type in family.model_types), None)
