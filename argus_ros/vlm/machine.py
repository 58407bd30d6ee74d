"""Where a model runs and in which precision, by the names of parameters; and whether memory ran out."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class EngineError(ValueError):
    """The engine cannot run as configured; says what to do."""


def is_full(error: Exception) -> bool:
    """Whether memory ran out; torch has no type of its own for that on the host."""
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
            f"device {name!r} is not there; this machine has {torch.cuda.device_count()} CUDA devices"
        )
    return device


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise EngineError(f"unknown dtype {name!r}; use auto, {', '.join(DTYPES)}")
    return DTYPES[name]
