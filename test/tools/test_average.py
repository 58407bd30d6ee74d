"""`argus average`: means of weights, of like checkpoints alone."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from argus_ros.core.protocol import EngineConfig
from argus_ros.tools.main import main
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.models import blank


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    where = tmp_path_factory.mktemp("checkpoints")
    return [str(blank.write_checkpoint(where / str(seed), seed=seed)) for seed in range(3)]


@pytest.mark.slow
def test_the_mean_of_three(three: list[str], tmp_path: Path) -> None:
    out = tmp_path / "mean"
    assert main(["average", *three, "--out", str(out)]) == 0
    mean = load_file(out / "model.safetensors")
    each = [load_file(Path(folder, "model.safetensors")) for folder in three]
    assert mean.keys() == each[0].keys()
    for name, found in mean.items():
        assert found.dtype == each[0][name].dtype
        wanted = torch.stack([weights[name].double() for weights in each]).mean(0)
        torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-6)
    assert Engine(EngineConfig(str(out), device="cpu")).info.classes == ("cone", "ball", "box")


def test_what_has_no_mean_is_refused_and_nothing_is_written(
    three: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(blank.write_checkpoint(tmp_path / "other", classes=("cone", "ball", "door")))
    torn = tmp_path / "torn"
    shutil.copytree(three[0], torn)
    weights = load_file(torn / "model.safetensors")
    weights.popitem()
    save_file(weights, torn / "model.safetensors", metadata={"format": "pt"})
    out = tmp_path / "mean"
    for wrong, says in (
        ([three[0], other], "differ"),
        ([three[0], str(torn)], "different weights"),
        ([three[0]], "two"),
        ([three[0], "no-such-model"], "no-such-model"),
    ):
        assert main(["average", *wrong, "--out", str(out)]) == 2
        assert says in capsys.readouterr().err
        assert not out.exists()
    assert main(["average", *three[:2], "--out", str(torn)]) == 2
    assert "already" in capsys.readouterr().err
