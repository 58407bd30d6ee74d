"""Kernels for long rows against torch's operations, run by Triton's interpreter.

``ARGUS_TEST_DEVICE=cuda`` runs them on a GPU instead.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace

import pytest
import torch
from drawn import drawn

from argus_ros.core import checkpoint as checkpoints
from argus_ros.vlm.models import architecture, configurations
from argus_ros.vlm.models.architecture import TextShape
from argus_ros.vlm.models.elementwise import TORCH, Kernels, Norm, Way

DEVICE = torch.device(os.environ.get("ARGUS_TEST_DEVICE", "cpu"))
triton = pytest.importorskip("triton", reason="there is no Triton for this machine")
if DEVICE.type == "cpu" and not triton.knobs.runtime.interpret:
    pytest.skip("Triton is compiled here: ARGUS_TEST_DEVICE=cuda", allow_module_level=True)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NEAR = {
    torch.float32: {"atol": 2e-6, "rtol": 1e-5},
    torch.bfloat16: {"atol": 0.04, "rtol": 0.02},
    torch.float16: {"atol": 5e-3, "rtol": 3e-3},
}
#: Heads whose halves are no power of two, and several groups with biases.
LLAMA = TextShape(48, 2, 4, 2, 12, 72, 50, 1024, 1e-5)
QWEN = TextShape(64, 1, 6, 2, 32, 160, 50, 1024, 1e-6, qkv_bias=True)


def random(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    draw = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=draw).to(DEVICE, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [48, 129, 1152])
def test_norms_and_residuals(dtype: torch.dtype, width: int) -> None:
    kernels = Kernels()
    x, h = random(2, 3, width, dtype=dtype), random(2, 3, 40, dtype=dtype)
    out = random(width, 40, dtype=dtype) / 6, random(width, dtype=dtype)
    weight, bias = (random(width + n, dtype=dtype)[:width] for n in (0, 1))
    for norm in (Norm(weight, None, 1e-5), Norm(weight, bias, 1e-6), None):
        if norm:
            torch.testing.assert_close(kernels.norm(x, norm), TORCH.norm(x, norm), **NEAR[dtype])
        for ours, plain in zip(
            kernels.residual(x, h, out, norm), TORCH.residual(x, h, out, norm), strict=True
        ):
            torch.testing.assert_close(ours, plain, **NEAR[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [72, 1025])
def test_activations(dtype: torch.dtype, width: int) -> None:
    kernels, x = Kernels(), random(2, 3, 40, dtype=dtype)
    up = random(width, 40, dtype=dtype) / 3, random(width, dtype=dtype)
    for kind in ("tanh", "none"):
        torch.testing.assert_close(
            kernels.activated(x, up, kind), TORCH.activated(x, up, kind), **NEAR[dtype]
        )
    gates = random(5, 2 * width, dtype=dtype)
    torch.testing.assert_close(kernels.swiglu(gates), TORCH.swiglu(gates), **NEAR[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [LLAMA, QWEN])
def test_turned_queries_and_the_cache(dtype: torch.dtype, shape: TextShape) -> None:
    """Rows of different lengths, and a row that is not asked for."""
    ours, plain = (drawn(shape, 3, DEVICE, dtype) for _ in range(2))
    places = (torch.tensor([[7], [300]]) + torch.arange(5)).to(DEVICE)
    qkv = random(10, shape.heads + 2 * shape.kv_heads, shape.head_dim, dtype=dtype)
    last = shape.layers - 1
    found = Kernels().turning(ours, places, 1)(last, qkv)
    torch.testing.assert_close(found, TORCH.turning(plain, places, 1)(last, qkv), **NEAR[dtype])
    torch.testing.assert_close(ours.keys, plain.keys, **NEAR[dtype])
    torch.testing.assert_close(ours.values, plain.values, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", configurations.NAMES)
def test_real_shapes(name: str) -> None:
    """Widths, heads and activations of every configuration, for two tokens and two patches."""
    with configurations.temporary(name, weights=False) as folder:
        vision, text = architecture.read(checkpoints.read(folder))
    kernels, near = Kernels(), NEAR[torch.float32]
    made = drawn(replace(text, layers=1, vocabulary=8), 1, DEVICE, capacity=256)
    places = torch.tensor([[40, 41]], device=DEVICE)
    x = random(1, 2, text.width, dtype=torch.float32)
    if not text.qk_norm:
        torch.testing.assert_close(
            made.plain(x, places, 256, ops=kernels), made.plain(x, places, 256), atol=1e-4, rtol=1e-4
        )
    x, h = (random(1, 2, n, dtype=torch.float32) for n in (vision.width, 16))
    out = random(vision.width, 16, dtype=torch.float32), random(vision.width, dtype=torch.float32)
    norm = Norm(out[1], None if vision.rms_norm else out[0][:, 0].contiguous(), vision.eps)
    for ours, plain in zip(kernels.residual(x, h, out, norm), TORCH.residual(x, h, out, norm), strict=True):
        torch.testing.assert_close(ours, plain, **near)
    up = random(vision.mlp, 16, dtype=torch.float32), random(vision.mlp, dtype=torch.float32)
    torch.testing.assert_close(kernels.activated(h, up, "tanh"), TORCH.activated(h, up, "tanh"), **near)


@pytest.mark.slow
def test_a_prompt_is_the_plain_one() -> None:
    """With more tokens than a step has, with a mask and without."""
    made = drawn(LLAMA, 2, DEVICE)
    for start in (0, -1):
        x, places = random(1, 33, 48, dtype=torch.float32), torch.arange(33, device=DEVICE)[None]
        made.long.kernels = None
        wanted = made(x, places, 33, 1, start)
        made.long.kernels = Kernels()
        found = made(x, places, 33, 1, start)
        assert made.long.kernels, "a kernel failed; the log says why"
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_kernels_that_fail_are_followed_by_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of resource:\nshared memory")

    way = Way(Kernels())
    monkeypatch.setattr(Kernels, "swiglu", fail)
    x = random(3, 8, dtype=torch.float32)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(way.run(lambda ops: ops.swiglu(x)), TORCH.swiglu(x))
    (record,) = caplog.records
    assert "off from here on: out of resource: shared memory" in record.getMessage()
