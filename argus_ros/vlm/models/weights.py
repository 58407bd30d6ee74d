"""Reads ``model.safetensors``, in one file or sharded. Other files are never opened: no pickles, no code."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from argus_ros.core import checkpoint
from argus_ros.core.checkpoint import Checkpoint, CheckpointError
from argus_ros.core.resources import why_unreadable
from argus_ros.core.section import MALFORMED

#: Valid dtypes of stored weights. Integers and float8 need scales, which are not supported.
DTYPES = ("F64", "F32", "BF16", "F16")
#: Tensors that some folders contain and no model needs: computed tables, and a token for training.
HARMLESS = re.compile(r"(^|\.)(rotary_emb\.inv_freq|position_ids|mask_token)$")


class Weights:
    """Weights of a checkpoint by name, in ``dtype`` on ``device``. Use as a context manager."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._files: dict[str, safe_open] = {}
        self._open = ExitStack()
        for path in shards(checkpoint.path):
            try:
                file = self._open.enter_context(safe_open(path, "pt"))
            except (OSError, SafetensorError) as error:
                self._open.close()
                raise CheckpointError(why_unreadable(path, error, "download the file again")) from None
            self._files.update(dict.fromkeys(file.keys(), file))
        self._folder = checkpoint.path
        self._left = set(self._files)  # not read so far
        self.parameters = 0  #: number of parameters read so far

    def __enter__(self) -> Weights:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def take(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """One tensor of ``shape``. Raises CheckpointError when it is missing or has another shape."""
        if name not in self._files:
            raise CheckpointError(f"{self._folder}: weight {name!r} is missing")
        stored = self._files[name].get_slice(name)
        _check_dtype(self._folder, name, stored.get_dtype())
        found = tuple(stored.get_shape())
        if found != shape:
            raise CheckpointError(
                f"{self._folder}: weight {name!r} has shape {found}; config.json means {shape}"
            )
        self.parameters += math.prod(shape)
        self._left.discard(name)
        tensor = self._files[name].get_tensor(name).to(self._device, dtype or self._dtype)
        check_finite(self._folder, [(name, tensor)])
        return tensor

    def check_all_taken(self) -> None:
        """Raise CheckpointError for tensors that were not read, as the model would differ."""
        _check_left(self._folder, self._left)

    def cat(self, names: list[str], *shapes: tuple[int, ...]) -> torch.Tensor:
        """Several tensors, concatenated along the first axis."""
        return torch.cat([self.take(name, *shape) for name, shape in zip(names, shapes, strict=True)])


def shards(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint. Raises CheckpointError, for example for pickles."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file() or single.is_symlink():  # a broken link is reported when it is opened
        return [single]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (OSError, *MALFORMED) as error:
            raise CheckpointError(f"{index} cannot be read: {error!r}") from None
        if any(Path(str(name)).name != name for name in names):
            raise CheckpointError(f"{index} names files outside its folder")
        return [folder / name for name in names]
    pickles = sorted(p.name for suffix in ("bin", "pt", "pth", "ckpt") for p in folder.glob(f"*.{suffix}"))
    if pickles:
        raise CheckpointError(
            f"{folder} has its weights in {pickles[0]}, a pickle, which could run any code; "
            "convert it to model.safetensors (with transformers' save_pretrained)"
        )
    other_format = checkpoint.other_format(folder)
    instead = f"; it {other_format}" if other_format else ""
    raise CheckpointError(f"{folder} has neither model.safetensors nor model.safetensors.index.json{instead}")


def check_stored(folder: Path) -> None:
    """Raise CheckpointError for weights with an unsupported dtype."""
    for path in shards(folder):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118
                    _check_dtype(folder, name, file.get_slice(name).get_dtype())
        except (OSError, SafetensorError) as error:
            raise CheckpointError(why_unreadable(path, error, "download the file again")) from None


def check_loaded(folder: Path, told: dict[str, Any]) -> None:
    """Raise CheckpointError for missing and unused weights, where transformers only warns."""
    if missing := sorted(told.get("missing_keys", ())):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"{folder}: weight {missing[0]!r}{more} is missing")
    _check_left(folder, told.get("unexpected_keys", ()))


def check_finite(folder: Path, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise CheckpointError for a weight, of these by name, that holds NaN or an infinity in its dtype."""
    for name, tensor in weights:
        if tensor.numel() and not all(map(math.isfinite, torch.stack(tensor.aminmax()).tolist())):
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{folder}: weight {name!r} holds NaN or an infinity in {dtype}: the file is damaged, its "
                "training diverged, or its numbers are too large for this dtype; get the file again, or try "
                "dtype float32"
            )


def _check_dtype(folder: Path, name: str, dtype: str) -> None:
    if dtype not in DTYPES:
        raise CheckpointError(
            f"{folder}: weight {name!r} is stored as {dtype}, which is not supported, for example "
            f"in quantised weights; it has to be one of {', '.join(DTYPES)}"
        )


def _check_left(folder: Path, names: Iterable[str]) -> None:
    left = sorted(name for name in names if not HARMLESS.search(name))
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise CheckpointError(
            f"{folder}: weight {left[0]!r}{more} is not used: config.json describes another model, "
            "or the weights are quantised, an adapter's or of another layout"
        )
