"""How families of open models write boxes: one file each, which asks for them and reads them.

The order, the scale and the signs of a box are the family's own and cannot be told from an answer. The format
is chosen by ``model_type`` (``core/checkpoint.py``); ``argus_format`` in config.json or parameter
``answer_format`` says otherwise.
"""

from __future__ import annotations

from argus_ros.core.checkpoint import FORMATS
from argus_ros.vlm.formats import florence2, internvl, json_boxes, kosmos2, paligemma, qwen2_vl, text
from argus_ros.vlm.formats.reading import Format

_MADE: dict[str, Format] = {
    "text": text.Text(),
    "internvl": internvl.InternVL(),
    "qwen2_vl": qwen2_vl.Qwen2VL(),
    "qwen2_5_vl": json_boxes.QWEN2_5,
    "qwen3_vl": json_boxes.QWEN3,
    "lfm2_5_vl": json_boxes.LFM2_5,
    "paligemma": paligemma.PaliGemma(),
    "florence2": florence2.Florence2(),
    "kosmos2": kosmos2.Kosmos2(),
}
assert set(_MADE) == set(FORMATS)


def of(name: str) -> Format:
    """The format of a name that ``Checkpoint.format`` can have."""
    return _MADE[name]
