"""Drawings fill their boxes."""

import numpy as np
import pytest

from argus_ros.training.scenes.drawings import KINDS
from argus_ros.training.scenes.painting import paint

DRAWINGS = [(label, variant) for label, kind in KINDS.items() for variant in range(kind.variants)]


@pytest.mark.parametrize(("label", "variant"), DRAWINGS)
@pytest.mark.parametrize("colour", ["red", "black", "white"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_drawing_fills_its_box(label: str, variant: int, colour: str, split: str) -> None:
    canvas = np.full((120, 120, 3), 97, np.uint8)
    untouched = canvas.copy()
    paint(canvas, np.random.default_rng(1), label, colour, (20, 25, 100, 95), split, variant)
    rows, columns = np.where((canvas != untouched).any(-1))
    extent = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(extent, (20, 25, 100, 95), atol=1)
