"""The plugin in vLLM itself: where ``ARGUS_TEST_VLLM`` is a Python that has vLLM and this package."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import layouts
import pytest

PYTHON = os.environ.get("ARGUS_TEST_VLLM", "")
LOAD = """
import sys
import numpy as np
import logging
logging.basicConfig(level=logging.INFO)
from vllm.plugins import load_general_plugins
load_general_plugins()
from vllm.transformers_utils import processor
found = processor.cached_get_processor(sys.argv[1])
picture = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8).repeat(40, 0).repeat(40, 1)
pixels = found.image_processor([picture], return_tensors="np")["pixel_values"]
print("made", type(found.image_processor).__mro__[1].__name__, pixels.shape, float(np.abs(pixels).mean()))
"""
needed = pytest.mark.skipif(not PYTHON, reason="ARGUS_TEST_VLLM is no Python with vLLM and this package")


def loaded(folder: Path, **environment: str) -> tuple[list[str], str]:
    """What the script says of a folder's image processor, and what is logged."""
    done = subprocess.run(
        [PYTHON, "-c", LOAD, str(folder)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
        cwd="/",
    )
    said = next(line for line in done.stdout.splitlines() if line.startswith("made "))
    return said.split(), done.stdout + done.stderr


@needed
@pytest.mark.slow
def test_vllm_takes_the_fast_processors_unless_they_are_turned_off(tmp_path: Path) -> None:
    smolvlm = layouts.NATIVE["SmolVLM-256M"](tmp_path / "smolvlm")
    fast, log = loaded(smolvlm)
    stock, other = loaded(smolvlm, ARGUS_VLLM_PLUGIN="0")
    assert fast[1] == "_FastIdefics3"
    assert "argus_ros: image processor of Idefics3Processor: fast" in log
    assert not stock[1].startswith("_Fast")
    assert "argus_ros: off by ARGUS_VLLM_PLUGIN" in other
    assert fast[2:-1] == stock[2:-1]
    assert float(fast[-1]) == pytest.approx(float(stock[-1]), rel=0.05)  # tiny tiles of hard edges
    assert loaded(layouts.GENERIC["PaliGemma"](tmp_path / "paligemma"))[0][1] == "_FastSteps"


def test_without_vllm_it_says_so_and_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    from argus_ros.vlm import vllm_plugin

    try:
        import vllm  # noqa: F401
    except ImportError:
        vllm_plugin.register()
        assert "vLLM keeps its own processors (ModuleNotFoundError" in caplog.text
    else:
        pytest.skip("vLLM is installed here")
