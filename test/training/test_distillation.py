"""The feature maps that torch computes of an ONNX detector are onnxruntime's, and training learns them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from argus_ros.training import loop
from argus_ros.training.distillation import OPERATORS, FeatureTeacher
from argus_ros.training.plan import Plan
from argus_ros.training.teacher import TeacherError
from argus_ros.vlm.models.blank import TINY

onnx = pytest.importorskip("onnx", reason="pip install 'argus-ros[label]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'argus-ros[label]'")

TILE = 32


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone of every operator: maps ``fine`` of half the tile's side and ``coarse`` of a quarter."""
    h, rng = onnx.helper, np.random.default_rng(0)
    constants: list[Any] = []

    def number(*values: float) -> str:
        return constant(np.array(values, np.float32 if isinstance(values[0], float) else np.int64))

    def constant(array: np.ndarray) -> str:
        constants.append(onnx.numpy_helper.from_array(array, f"c{len(constants)}"))
        return constants[-1].name

    def weight(*shape: int) -> str:
        return constant(rng.normal(0, 0.3, shape).astype(np.float32))

    conv = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        h.make_node("Conv", ["images", weight(8, 3, 3, 3), weight(8)], ["a"], **conv),
        h.make_node("Relu", ["a"], ["b"]),
        h.make_node("Pad", ["b", number(0, 0, 0, 0, 0, 0, 1, 1)], ["padded"]),
        h.make_node("MaxPool", ["padded"], ["c"], kernel_shape=[2, 2], strides=[1, 1]),
        h.make_node("Split", ["c", number(3, 5)], ["d", "e"], axis=1),
        h.make_node("Concat", ["e", "d"], ["f"], axis=1),
        h.make_node("Slice", ["f", number(1), number(5), number(1)], ["g"]),
        h.make_node("Conv", ["g", weight(4, 1, 3, 3)], ["w"], **{**conv, "strides": [1, 1], "group": 4}),
        h.make_node("Sigmoid", ["w"], ["i"]),
        h.make_node("Mul", ["w", "i"], ["fine"]),
        h.make_node("AveragePool", ["fine"], ["j"], **conv, count_include_pad=1),
        h.make_node("GlobalAveragePool", ["j"], ["k"]),
        h.make_node("Add", ["j", "k"], ["coarse"]),
        h.make_node("Resize", ["coarse", "", number(1.0, 1.0, 2.0, 2.0)], ["l"], mode="nearest"),
        h.make_node("Tanh", ["l"], ["unknown"]),
    ]
    image = h.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["N", 3, TILE, TILE])
    outputs = [
        h.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("fine", "coarse", "l", "unknown")
    ]
    graph = h.make_graph(nodes, "detector", [image], outputs, constants)
    file = tmp_path_factory.mktemp("detector") / "detector.onnx"
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8), str(file))
    assert {n.op_type for n in nodes} - {"Tanh"} == set(OPERATORS)
    return file


@pytest.mark.parametrize(("layers", "grid"), [(("fine",), 16), (("coarse",), 8), (("l", "fine"), 16)])
def test_maps_are_those_of_onnxruntime(detector: Path, layers: tuple[str, ...], grid: int) -> None:
    views = np.random.default_rng(1).integers(0, 256, (3, TILE, TILE, 3), np.uint8)
    teacher = FeatureTeacher(detector, layers)
    found = teacher(torch.from_numpy(views), grid)
    session = onnxruntime.InferenceSession(str(detector), providers=["CPUExecutionProvider"])
    pixels = np.ascontiguousarray(views.transpose(0, 3, 1, 2), np.float32) / 255
    maps = np.concatenate(session.run(layers, {"images": pixels}), 1)
    wanted = maps.reshape(3, maps.shape[1], -1).transpose(0, 2, 1)
    wanted = (wanted - wanted.mean((0, 1))) / wanted.std((0, 1))
    assert teacher.channels == wanted.shape[-1]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_maps_of_another_size_are_averaged_to_the_grid(detector: Path) -> None:
    views = torch.randint(0, 256, (2, TILE, TILE, 3), dtype=torch.uint8)
    teacher = FeatureTeacher(detector, ("fine",))
    assert teacher(views, 4).shape == (2, 16, 4)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (("nothing",), "no layer 'nothing'; some that it has"),
        (("unknown",), "operator Tanh on the way to unknown is not supported"),
        ((), "name at least one layer"),
    ],
)
def test_layers_that_cannot_be_had_are_said(detector: Path, layers: tuple[str, ...], said: str) -> None:
    with pytest.raises(TeacherError, match=said):
        FeatureTeacher(detector, layers)


def test_a_file_that_is_no_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "torn.onnx").write_bytes(b"no model")
    with pytest.raises(TeacherError, match=r"torn\.onnx cannot be read"):
        FeatureTeacher(tmp_path / "torn.onnx", ("fine",))


@pytest.mark.slow
def test_training_learns_the_maps(detector: Path, tmp_path: Path) -> None:
    """The vision encoder and its head come nearer to the teacher than they were."""
    losses: list[float] = []
    plan = Plan(
        tmp_path / "out",
        samples=640,
        batch=16,
        lr=5e-3,
        vision_first=640,
        repeat=16,
        shape=TINY,
        tile=TILE,
        processes=1,
        report_steps=5,
        teacher=detector,
        teacher_layers=("fine",),
    )
    loop.train(plan, lambda entry: losses.append(entry["dense"]))
    without: list[float] = []
    plain = replace(plan, out=tmp_path / "plain", teacher=None)
    loop.train(plain, lambda entry: without.append(entry["dense"]))
    distance = np.array(losses) - np.array(without)
    assert distance[0] > 1.5  # twice the variance of the maps is 2
    assert distance[-1] < 0.8 * distance[0]
