"""Solids differ every time, and the last model of each class is held out."""

import numpy as np
import pytest

from argus_ros.training import scenes
from argus_ros.training.scenes import solids
from argus_ros.training.scenes.drawings import KINDS


@pytest.mark.parametrize("label", KINDS)
def test_solids_vary_and_keep_the_last_model_for_measuring(label: str) -> None:
    train, val, heldout = (
        set(map(solids.name_of, solids.models_of(label, split))) for split in scenes.SPLITS
    )
    assert train == val
    assert len(train) >= 2
    assert len(heldout) == 1
    assert not train & heldout
    for model in solids.FAMILIES[label].models:
        red = (205, 40, 40)
        one, other, again = (solids.build(model, red, np.random.default_rng(seed)) for seed in (1, 2, 1))
        assert [p.frame.tolist() for p in one] == [p.frame.tolist() for p in again]
        assert [p.frame.tolist() for p in one] != [p.frame.tolist() for p in other]
        assert any(p.colour == red for p in one)
        for part in one:
            assert 0 < part.taper <= 1
            assert np.linalg.det(part.frame) > 0  # else its inside is shown
