"""The box formats of open models, one file for each family, with its questions and the parser of its answers.

Order, scale and markers of a box depend on the family, and cannot be recognised from an answer. The format is
chosen by ``model_type`` (``core/checkpoint.py``), unless ``argus_format`` in config.json or parameter
``answer_format`` names another one.
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
    """The format of a ``Checkpoint.format``."""
    return _MADE[name]
