"""`argus label`: boxes of an ONNX detector as COCO data that training reads."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from argus_ros.tools.main import main
from argus_ros.training import coco

onnx = pytest.importorskip("onnx", reason="pip install 'argus-ros[label]'")
pytest.importorskip("onnxruntime", reason="pip install 'argus-ros[label]'")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sees in every picture its left half as label 1, as sure as it is bright; label 0 has no area."""
    h = onnx.helper
    t, f32, i64 = onnx.TensorProto, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64

    def constant(name: str, kind: int, dims: list[int], values: list[float]) -> object:
        return h.make_tensor(name, kind, dims, values)

    nodes = [
        h.make_node("AveragePool", ["images"], ["map"], kernel_shape=[8, 8], strides=[8, 8]),
        h.make_node("ReduceMean", ["map"], ["mean"], axes=[1, 2, 3], keepdims=0),
        h.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        h.make_node("Concat", ["column", "column"], ["scores"], axis=1),
        h.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=t.FLOAT),
        h.make_node("Concat", ["sizes", "sizes"], ["corners"], axis=1),
        h.make_node("Unsqueeze", ["corners", "one"], ["rows"]),
        h.make_node("Mul", ["rows", "shares"], ["boxes"]),
        h.make_node("Identity", ["which"], ["labels"]),
    ]
    shares = [0, 0, 0.5, 1, 0.5, 0.5, 0.5, 0.5]
    graph = h.make_graph(
        nodes,
        "teacher",
        [
            h.make_tensor_value_info("images", f32, ["N", 3, 32, 32]),
            h.make_tensor_value_info("orig_target_sizes", i64, ["N", 2]),
        ],
        [
            h.make_tensor_value_info("labels", i64, [1, 2]),
            h.make_tensor_value_info("boxes", f32, [1, 2, 4]),
            h.make_tensor_value_info("scores", f32, [1, 2]),
        ],
        [
            constant("one", i64, [1], [1]),
            constant("shares", f32, [1, 2, 4], shares),
            constant("which", i64, [1, 2], [1, 0]),
        ],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8)
    file = tmp_path_factory.mktemp("teacher") / "teacher.onnx"
    onnx.save(model, str(file))
    return file


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    (folder / "night").mkdir()
    assert cv2.imwrite(str(folder / "bright.png"), np.full((40, 60, 3), 204, np.uint8))
    assert cv2.imwrite(str(folder / "night" / "dark.png"), np.full((40, 60, 3), 51, np.uint8))
    (folder / "torn.jpg").write_bytes(b"no picture")
    return folder


def label(teacher: Path, images: Path, *more: str) -> int:
    return main(["label", "--teacher", str(teacher), "--images", str(images), *more])


def test_boxes_are_written_and_read(
    teacher: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, names = tmp_path / "labels.json", tmp_path / "names.txt"
    names.write_text("cone\ndoor\n")
    more = ["--names", str(names), "--complete", "door"]
    assert label(teacher, images, "--out", str(out), *more) == 0
    said = capsys.readouterr().out
    assert "torn.jpg" in said
    assert "2 pictures, 1 boxes" in said
    data = coco.read(out, images)
    assert data.classes == ("cone", "door")
    bright, dark = data.pictures
    assert (bright.name, dark.name) == ("bright.png", "night/dark.png")
    assert bright.complete == dark.complete == {"door"}
    assert [(t.label, t.box, t.weight) for t in bright.objects] == [("door", (0, 0, 30, 40), 0.8)]
    assert not dark.objects  # under the score


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--complete", "lorry"], "'lorry' is not the name of a label"),
        (["--teacher", "nowhere.onnx"], "nowhere.onnx is missing"),
        (["--teacher", "{images}/torn.jpg"], "torn.jpg cannot be loaded"),
        (["--images", "{images}/../nothing"], "contains no pictures"),
    ],
)
def test_what_cannot_be_labelled_is_said(
    more: list[str],
    said: str,
    teacher: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [word.format(images=images) for word in more]
    assert label(teacher, images, "--out", str(tmp_path / "out.json"), *given) == 2
    assert said in capsys.readouterr().err
