"""Feature maps of a convolutional ONNX detector, computed by torch, as targets for the vision encoder.

The maps are computed of every training view as it is shown, so that they follow each augmentation. The
method is that of FitNets (arXiv 1412.6550). onnxruntime keeps no tensors of torch on a GPU, and a converter
would bring torchvision along, so the few operators of a convolutional backbone and its pyramid are run here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from argus_ros.training.teacher import TeacherError


class FeatureTeacher(nn.Module):
    """The part of an ONNX model that leads from ``images`` to some feature maps, without gradients."""

    def __init__(self, file: Path, layers: Sequence[str]) -> None:
        """Read the model; ``layers`` name maps (batch, channels, rows, columns). Raises TeacherError."""
        super().__init__()
        try:
            import onnx
        except ImportError:
            raise TeacherError("a teacher's features need onnx: pip install 'argus-ros[label]'") from None
        try:
            model = onnx.load(str(file))
        except Exception as error:  # protobuf's, onnx's, the system's
            raise TeacherError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
        maker = {name: node for node in model.graph.node for name in node.output}
        if unknown := [name for name in layers if name not in maker]:
            maps = [n for n in maker if n.endswith(("Mul_output_0", "Relu_output_0", "Conv_output_0"))]
            raise TeacherError(
                f"{file} has no layer {unknown[0]!r}; some that it has: {', '.join(maps[-8:])}"
            )
        if not layers:
            raise TeacherError(f"name at least one layer of {file}")
        values = {i.name: i for i in model.graph.initializer}
        needed = _before(layers, maker)
        self._layers = tuple(layers)
        self._steps: list[_Step] = []
        self._names: dict[str, str] = {}  # of a constant in the file: its buffer here
        for node in model.graph.node:
            if not needed.intersection(node.output):
                continue
            if node.op_type not in OPERATORS:
                way = ", ".join(layers)
                raise TeacherError(f"{file}: operator {node.op_type} on the way to {way} is not supported")
            options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            self._steps.append((OPERATORS[node.op_type], list(node.input), list(node.output), options))
            for name in node.input:
                if name in values and name not in self._names:
                    self._names[name] = f"constant{len(self._names)}"
                    value = torch.from_numpy(onnx.numpy_helper.to_array(values[name]).copy())
                    self.register_buffer(self._names[name], value, persistent=False)
        self.channels = self(torch.zeros(1, 64, 64, 3, dtype=torch.uint8), 2).shape[-1]

    @torch.no_grad()
    def forward(self, images: Tensor, grid: int) -> Tensor:
        """Targets (batch, grid * grid, channels) float32 of uint8 views (batch, tile, tile, 3).

        Each channel has mean 0 and variance 1 over the batch.
        """
        pixels = images.permute(0, 3, 1, 2).float() / 255
        known: dict[str, Any] = {"images": pixels, "": None}
        known.update((name, getattr(self, buffer)) for name, buffer in self._names.items())
        for run, inputs, outputs, options in self._steps:
            made = run(options, *(known[name] for name in inputs))
            known.update(zip(outputs, made if isinstance(made, (list, tuple)) else [made], strict=True))
        maps = [F.interpolate(known[name].float(), (grid, grid), mode="area") for name in self._layers]
        targets = torch.cat(maps, 1).flatten(2).transpose(1, 2)
        deviation, mean = torch.std_mean(targets, (0, 1), correction=0)
        return (targets - mean) / deviation.clamp(min=1e-3)


_Step = tuple[Callable[..., Any], list[str], list[str], dict[str, Any]]


def _before(layers: Sequence[str], maker: dict[str, Any]) -> set[str]:
    """All values that the layers depend on."""
    needed: set[str] = set()
    open_names = list(layers)
    while open_names:
        name = open_names.pop()
        if name in maker and name not in needed:
            needed.add(name)
            open_names += maker[name].input
    return needed


def _padded(o: dict[str, Any], x: Tensor, value: float) -> Tensor:
    """The input with the padding of a convolution or a pool, which ONNX gives for each side."""
    top, left, low, right = o.get("pads", (0, 0, 0, 0))
    return F.pad(x, (left, right, top, low), value=value) if any((top, left, low, right)) else x


def _conv(o: dict[str, Any], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(_padded(o, x, 0), weight, bias, o["strides"], 0, o.get("dilations", 1), o.get("group", 1))


def _max_pool(o: dict[str, Any], x: Tensor) -> Tensor:
    x = _padded(o, x, -torch.inf)
    return F.max_pool2d(x, o["kernel_shape"], o["strides"], ceil_mode=bool(o.get("ceil_mode")))


def _average_pool(o: dict[str, Any], x: Tensor) -> Tensor:
    if any(o.get("pads", ())) and not o.get("count_include_pad"):
        raise TeacherError("an AveragePool that leaves its padding out of the mean is not supported")
    return F.avg_pool2d(_padded(o, x, 0), o["kernel_shape"], o["strides"], ceil_mode=bool(o.get("ceil_mode")))


def _pad(o: dict[str, Any], x: Tensor, pads: Tensor, value: Tensor | None = None) -> Tensor:
    begin, end = pads.tolist()[: x.ndim], pads.tolist()[x.ndim :]
    sides = [n for pair in reversed(list(zip(begin, end, strict=True))) for n in pair]
    return F.pad(x, sides, value=float(value) if value is not None else 0.0)


def _slice(
    o: dict[str, Any], x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor, steps: Tensor | None = None
) -> Tensor:
    part = [slice(None)] * x.ndim
    by = steps.tolist() if steps is not None else [1] * len(axes)
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), by, strict=True):
        part[axis] = slice(start, end, step)
    return x[tuple(part)]


def _resize(o: dict[str, Any], x: Tensor, roi: Tensor | None, scales: Tensor) -> Tensor:
    if o.get("mode", b"nearest") != b"nearest":
        raise TeacherError("only a Resize to the nearest pixel is supported")
    return F.interpolate(x, scale_factor=scales.tolist()[2:], mode="nearest")


#: What a convolutional backbone and its pyramid are made of.
OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": lambda o, a, b: a + b,
    "AveragePool": _average_pool,
    "Concat": lambda o, *parts: torch.cat(parts, o["axis"]),
    "Conv": _conv,
    "GlobalAveragePool": lambda o, x: x.mean((2, 3), keepdim=True),
    "MaxPool": _max_pool,
    "Mul": lambda o, a, b: a * b,
    "Pad": _pad,
    "Relu": lambda o, x: x.relu(),
    "Resize": _resize,
    "Sigmoid": lambda o, x: x.sigmoid(),
    "Slice": _slice,
    "Split": lambda o, x, sizes: x.split(sizes.tolist(), o["axis"]),
}
