"""Solids of every class can be rendered into a bank of sprites."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from argus_ros.training.scenes import solids
from argus_ros.training.scenes.drawings import KINDS


@pytest.mark.slow
def test_without_mujoco_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['mujoco'] = None\n"
        "from argus_ros.tools.main import main; raise SystemExit(main(['lit', '--sprites', '10']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "pip install 'mujoco>=3.2,<3.18'" in ended.stderr


@pytest.mark.slow
def test_every_model_renders() -> None:
    if find_spec("mujoco") is None:  # importing it would choose an OpenGL already
        pytest.skip("mujoco is not installed")
    from argus_ros.training.scenes.renderer import LONGEST, Studio, render_bank

    with Studio() as studio:
        for family in solids.FAMILIES.values():
            for model in family.models:
                rng = np.random.default_rng(3)
                picture = studio.picture(solids.build(model, (205, 40, 40), rng), rng, family.turn)
                alpha = picture[..., 3]
                assert max(alpha.shape) == LONGEST
                assert (alpha == 255).mean() > 0.15
                assert all(edge.any() for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]))
                assert not picture[alpha == 0].any()
                red, green, blue = picture[alpha == 255][:, :3].astype(int).T
                assert (red > green + blue).mean() > 0.08  # the colour asked for is to be seen
    made = {split: render_bank(20, split) for split in ("train", "heldout")}
    assert {s.label for s in made["train"].sprites} == set(KINDS)
    models = [{(s.label, s.model) for s in b.sprites} for b in made.values()]
    assert not models[0] & models[1]
