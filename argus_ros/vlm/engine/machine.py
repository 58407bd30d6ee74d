"""The device and precision of a model, from parameter values, and the detection of out-of-memory errors."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class EngineError(ValueError):
    """The engine cannot run as configured; the message says what to do."""


def is_full(error: Exception) -> bool:
    """Whether an error means that memory ran out; torch has no exception class for that on the host."""
    signs = "can't allocate memory", "not enough memory", "ALLOC_FAILED"
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(s in str(error) for s in signs)


def device_of(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise EngineError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise EngineError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineError(
            f"device {name!r} does not exist; this machine has {torch.cuda.device_count()} CUDA devices"
        )
    return device


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise EngineError(f"unknown dtype {name!r}; use auto, {', '.join(DTYPES)}")
    return DTYPES[name]
