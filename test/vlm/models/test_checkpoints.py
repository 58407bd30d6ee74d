"""Checkpoints in all their states: whole, sharded, broken, dangerous."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from argus_ros.core.checkpoint import CheckpointError, read
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Task
from argus_ros.vlm.engine import engines
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.models.vision import position_ids

WEIGHTS = "model.safetensors"


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "copy")


def edit(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def detections(path: Path) -> object:
    request = FrameRequest(1, 0, 0, 0, 640, 480, Task("detect"))
    tiles = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), np.uint8)
    return Engine(EngineConfig(str(path))).run([request], [tiles])[0].detections


def test_shards_and_tied_embeddings(copy: Path) -> None:
    before = detections(copy)
    weights = load_file(copy / WEIGHTS)
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({n: weights[n] for n in part}, copy / file)
    index = {"weight_map": {n: file for file, part in parts.items() for n in part}}
    (copy / (WEIGHTS + ".index.json")).write_text(json.dumps(index))
    (copy / WEIGHTS).unlink()
    assert detections(copy) == before

    tied = {n: w for n, w in weights.items() if n != "lm_head.weight"}
    save_file(tied, copy / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"'lm_head\.weight' is missing"):
        detections(copy)  # config.json says that they are not tied
    edit(copy / "config.json", lambda config: config.update(tie_word_embeddings=True))
    found = detections(copy)
    save_file(
        tied | {"lm_head.weight": weights["model.text_model.embed_tokens.weight"].clone()}, copy / WEIGHTS
    )
    assert found == detections(copy)


def remove(name: str) -> Callable[[Path], object]:
    return lambda path: (path / name).unlink()


def pickled(path: Path) -> None:
    (path / WEIGHTS).rename(path / "pytorch_model.bin")


def shortened(path: Path) -> None:
    (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:5000])


def without_a_weight(path: Path) -> None:
    weights = load_file(path / WEIGHTS)
    del weights["model.text_model.norm.weight"]
    save_file(weights, path / WEIGHTS)


def outside_index(path: Path) -> None:
    (path / WEIGHTS).unlink()
    (path / (WEIGHTS + ".index.json")).write_text(json.dumps({"weight_map": {"x": "../other.safetensors"}}))


def config(**changes: object) -> Callable[[Path], object]:
    return lambda path: edit(path / "config.json", lambda c: c.update(changes))


def text_config(**changes: object) -> Callable[[Path], object]:
    return lambda path: edit(path / "config.json", lambda c: c["text_config"].update(changes))


def vision_config(**changes: object) -> Callable[[Path], object]:
    return lambda path: edit(path / "config.json", lambda c: c["vision_config"].update(changes))


@pytest.mark.parametrize("backend", ["native", "transformers"])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (pickled, "pytorch_model.bin, a pickle"),
        (config(auto_map={"AutoModel": "modeling.py"}), "remote code"),
        (remove(WEIGHTS), "has neither model.safetensors"),
        (outside_index, "outside its folder"),
        (remove("tokenizer.json"), r"tokenizer\.json"),
        (config(model_type="gpt2"), "model_type 'gpt2' is not supported"),
    ],
)
def test_refused_by_both_backends(
    copy: Path, backend: str, harm: Callable[[Path], object], message: str
) -> None:
    harm(copy)
    with pytest.raises(CheckpointError, match=message):
        Engine(EngineConfig(str(copy), backend=backend))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (shortened, r"model\.safetensors cannot be read"),
        (without_a_weight, r"'model\.text_model\.norm\.weight' is missing"),
        (text_config(hidden_size=64, head_dim=32), "has shape"),
        (text_config(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}), "given for yarn"),
        (text_config(rope_scaling={"type": "longrope", "factor": 2}), "type is 'longrope'"),
        (text_config(num_hidden_layers="many"), "config.json"),
        (config(scale_factor=3), "do not divide"),
        (vision_config(hidden_act="relu"), "hidden_act is 'relu'"),
        (vision_config(image_size=96), "max_image_size is"),
        (vision_config(patch_size=0), "patch_size is 0"),
        (config(vision_config=[]), r"vision_config is \[\]; it has to be an object"),
        (config(argus=[]), r"argus is \[\]"),
    ],
)
def test_broken(copy: Path, harm: Callable[[Path], object], message: str) -> None:
    harm(copy)
    with pytest.raises(CheckpointError, match=message):
        Engine(EngineConfig(str(copy)))


@pytest.mark.parametrize("backend", ["native", "transformers"])
def test_weights_that_are_not_those_listed_are_refused(copy: Path, backend: str) -> None:
    files = [file.name for file in copy.iterdir()]
    (copy / "SHA256SUMS").write_text("".join(f"{'0' * 64}  {name}\n" for name in files))
    with pytest.raises(CheckpointError, match="is not the file that SHA256SUMS lists"):
        engines.load(EngineConfig(str(copy), backend=backend, device="cpu"))


@pytest.mark.parametrize("side", [4, 10, 14, 27, 32])
def test_positions_are_the_stock_models(side: int) -> None:
    from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
    from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionEmbeddings

    stock = Idefics3VisionEmbeddings(Idefics3VisionConfig(hidden_size=1, image_size=side * 2, patch_size=2))
    with torch.no_grad():
        stock.patch_embedding.weight.zero_()
        stock.patch_embedding.bias.zero_()
        stock.position_embedding.weight.copy_(torch.arange(side * side)[:, None])
        ids = stock(torch.zeros(1, 3, side * 2, side * 2), torch.ones(1, side, side, dtype=torch.bool))
    assert torch.equal(position_ids(side).flatten(), ids.flatten().long())


@pytest.mark.parametrize("name", ["x" * 300, "~nosuchuser/model", "a\0b", "/proc/1/root/model"])
def test_a_path_that_cannot_be_opened_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be opened|no checkpoint"):
        read(name)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
GIVEN: dict[str, tuple[dict[str, str], str]] = {
    "an adapter": ({"adapter_config.json": "{}"}, "is an adapter: merge it into its base"),
    "GGUF": ({"model.gguf": ""}, "holds weights of llama.cpp"),
    "ONNX": ({"model.onnx": ""}, "holds an ONNX model"),
    "YOLO": ({"yolov8n.pt": ""}, "holds a PyTorch pickle, such as YOLO's"),
    "LFS": ({"config.json": POINTER}, r"config.json is a pointer of Git LFS.*'git lfs pull'"),
    "something": ({"README.md": ""}, "neither a shipped one .* nor a folder with a config.json"),
}


@pytest.mark.parametrize("what", GIVEN)
def test_the_error_names_what_a_path_is_instead_of_a_checkpoint(what: str, tmp_path: Path) -> None:
    files, message = GIVEN[what]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path)


def test_addresses_files_and_caches_that_were_pruned(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a URL, .*argus models --download ORG/NAME"):
        read("https://huggingface.co/HuggingFaceTB/SmolVLM-256M-Instruct")
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(CheckpointError, match="is a file, and a checkpoint is a folder"):
        read(tmp_path / "model.safetensors")
    (tmp_path / "config.json").symlink_to(tmp_path / "blobs" / "4d7a")
    with pytest.raises(CheckpointError, match=r"config\.json is a broken link"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda file: file.write_text(POINTER), "is a pointer of Git LFS"),
        (lambda file: (file.unlink(), file.symlink_to("gone")), "a broken link"),
        (lambda file: file.rename(file.with_name("model.gguf")), "it holds weights of llama.cpp"),
    ],
)
def test_the_error_names_what_a_folder_has_instead_of_weights(
    harm: Callable[[Path], object], message: str, copy: Path
) -> None:
    harm(copy / WEIGHTS)
    with pytest.raises(CheckpointError, match=message):
        Engine(EngineConfig(str(copy)))
