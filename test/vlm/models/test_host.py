"""Compiled decode passes against those in numpy and in torch, and without a compiler."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import drawn

from argus_ros.vlm.models import compiler, host
from argus_ros.vlm.models.architecture import TextShape
from argus_ros.vlm.models.host import CompiledSteps, NumpySteps, steps_for

#: Sizes that are no multiple of a vector; argus-nano's; grouped heads with normalised queries, as in Qwen3.
ODD = TextShape(52, 2, 3, 1, 6, 75, 50, 1024, 1e-5)
NANO = TextShape(192, 4, 3, 3, 64, 512, 199, 1024, 1e-6)
QWEN = TextShape(96, 2, 6, 2, 32, 160, 50, 1024, 1e-6, qkv_bias=True, qk_norm=True)

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, compiler.COMPILERS)) and "CC" not in os.environ, reason="there is no C compiler"
)


@needs_compiler
@pytest.mark.parametrize("shape", [ODD, NANO, QWEN], ids=["odd", "nano", "qwen"])
def test_compiled_steps_are_the_numpy_steps(shape: TextShape) -> None:
    """With one to 16 tokens, in rows of different lengths, beside places that hold NaN."""
    decoder, draw = drawn(shape, 3), torch.Generator().manual_seed(1)
    plain, compiled = NumpySteps(decoder), CompiledSteps(decoder)
    for counts in ((1,), (2,), (3,), (4,), (7,), (16,), (1, 4), (5, 1, 2)):
        starts = [0, 511 - max(counts), 77][: len(counts)]
        ids = np.random.default_rng(sum(counts)).integers(0, shape.vocabulary, sum(counts))
        parts = np.split(ids, np.cumsum(counts)[:-1])
        segments = list(zip(range(len(counts)), starts, parts, strict=True))
        for kept in (decoder.keys, decoder.values):
            kept.copy_(torch.randn(kept.shape, generator=draw))
            for row, start, tokens in segments:
                kept[:, row, :, start + len(tokens) :] = torch.nan
        before = decoder.keys.clone(), decoder.values.clone()
        wanted = plain(segments), decoder.keys.clone(), decoder.values.clone()
        decoder.keys.copy_(before[0])
        decoder.values.copy_(before[1])
        found = compiled(segments), decoder.keys, decoder.values
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-4)


@needs_compiler
def test_they_are_the_torch_passes_too() -> None:
    decoder = drawn(QWEN, 1)
    ids = torch.arange(20)
    x, places = decoder.embed(ids[None]), torch.arange(20)[None]
    wanted = decoder(x, places, 20)[0].numpy()
    compiled = CompiledSteps(decoder)
    decoder.clear()
    found = [compiled([(0, start, ids[start : start + 5].numpy())]) for start in range(0, 20, 5)]
    np.testing.assert_allclose(np.concatenate(found), wanted, atol=1e-4, rtol=1e-4)


@needs_compiler
def test_weights_that_are_no_numbers_give_none() -> None:
    decoder = drawn(NANO, 1)
    decoder.layers[1] = replace(decoder.layers[1], out=decoder.layers[1].out * torch.nan)
    found = steps_for(decoder)([(0, 0, np.arange(3))])
    assert np.isnan(found).all()


@pytest.mark.slow
@needs_compiler
def test_it_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compile_elsewhere = "from argus_ros.vlm.models import compiler, host; compiler.load(host.SOURCE)"
    subprocess.run([sys.executable, "-c", compile_elsewhere], check=True)
    (kept,) = (tmp_path / "argus_ros").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])  # as a full disk leaves it
    compiler.load(host.SOURCE)
    assert kept.stat().st_size > 1000
    written = kept.stat().st_mtime_ns
    compiler.load(host.SOURCE)
    assert kept.stat().st_mtime_ns == written
    monkeypatch.setattr(compiler, "OPTIONS", (*compiler.OPTIONS, "-DANOTHER"))
    compiler.load(host.SOURCE)
    assert len(list(kept.parent.iterdir())) == 2


@pytest.mark.slow
@needs_compiler
def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "argus_ros").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiler.load(host.SOURCE).decode


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("false", "cannot be run"),
        ("no-such-compiler", "cannot be run"),
        (
            "sh -c 'case $1 in --version) ;; *) echo broken: no memory >&2; exit 1;; esac' x",
            "broken: no memory",
        ),
        ("sh -c true x", "cannot be loaded"),  # ends well, and has made nothing
    ],
)
def test_without_a_compiler_passes_run_in_numpy(
    command: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", command)
    with caplog.at_level(logging.INFO):
        steps = steps_for(drawn(ODD, 1))
    assert isinstance(steps, NumpySteps)
    (said,) = [record.getMessage() for record in caplog.records if "numpy" in record.getMessage()]
    assert reason in said


@pytest.mark.slow
@needs_compiler
def test_code_that_computes_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    source = tmp_path / "host.c"
    source.write_text(host.SOURCE.read_text().replace("up[i];", "up[i] * 1.01f;"))
    monkeypatch.setattr(host, "SOURCE", source)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    decoder = drawn(NANO, 1)
    with caplog.at_level(logging.INFO):
        assert isinstance(steps_for(decoder), NumpySteps)
    assert "other results on this processor" in caplog.text
    assert not decoder.keys.any()
