"""Open models become Argus checkpoints that load, keep their weights and learn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import layouts
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Idefics3ForConditionalGeneration

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import CheckpointError
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import TASKS, Task
from argus_ros.tools import models
from argus_ros.tools.main import main
from argus_ros.training.conversion import CONNECTOR, EMBEDDINGS, OUTPUT, convert
from argus_ros.training.growth import grow
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats import prompts
from argus_ros.vlm.models import blank, configurations
from argus_ros.vlm.models.weights import shards

BINS = 32


def smolvlm2(folder: Path) -> Path:
    """The layout with model_type ``smolvlm``, in bfloat16 and several files."""
    model = transformers.SmolVLMForConditionalGeneration.from_pretrained(
        layouts.idefics3(folder / "idefics3"), dtype=torch.bfloat16
    )
    for file in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (folder / file).write_bytes((folder / "idefics3" / file).read_bytes())
    model.save_pretrained(folder, max_shard_size="50KB")
    assert len(shards(folder)) > 1
    assert json.loads((folder / "config.json").read_text())["model_type"] == "smolvlm"
    return folder


#: Folders by what they are: of the whole model, or of its eyes and its language.
SOURCES: dict[str, Callable[[Path], tuple[Path, ...]]] = {
    "SmolVLM-256M": lambda folder: (layouts.NATIVE["SmolVLM-256M"](folder),),
    "SmolVLM-2.2B": lambda folder: (layouts.NATIVE["SmolVLM-2.2B"](folder),),
    "Idefics3-8B": lambda folder: (layouts.NATIVE["Idefics3-8B"](folder),),
    "SmolVLM2": lambda folder: (smolvlm2(folder),),
    "SigLIP and SmolLM2": lambda folder: (layouts.siglip(folder / "a"), layouts.llama(folder / "b")),
    "SigLIP's vision tower and Llama 3": lambda folder: (
        layouts.siglip(folder / "a", 48, whole=False),
        layouts.llama(folder / "b", tied=False, begin="<|begin_of_text|>", rope_scaling=LLAMA3),
    ),
}
LLAMA3 = {**layouts.LLAMA3, "original_max_position_embeddings": 64}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, tuple[Path, ...]]]:
    """The converted folder of a source, and the folders that it was made of."""
    made: dict[str, tuple[Path, tuple[Path, ...]]] = {}

    def make(name: str) -> tuple[Path, tuple[Path, ...]]:
        if name not in made:
            folder = tmp_path_factory.mktemp("source")
            sources = SOURCES[name](folder)
            out = tmp_path_factory.mktemp("out") / "argus"
            convert(sources[0], out, *sources[1:], bins=BINS)
            made[name] = out, sources
        return made[name]

    return make


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {name: weight for file in shards(folder) for name, weight in load_file(file).items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_it_runs_in_the_engine_as_in_transformers(name: str, converted: Any) -> None:
    """With the stock processor's prompt ids, and the same tokens under the grammar."""
    out, _ = converted(name)
    read = checkpoints.read(out)
    assert read.tasks == TASKS
    assert read.vocabulary is not None
    assert (read.vocabulary.bins, read.vocabulary.classes) == (BINS, ())
    assert models.check(out).equal
    engine = Engine(EngineConfig(str(out), device="cpu", dtype="float32"))
    tile = np.zeros((1, engine.info.tile, engine.info.tile, 3), np.uint8)
    request = FrameRequest(0, 0, 0, 0, 640, 480, Task("detect", ("person", "traffic light")))
    (answer,) = engine.run([request], [tile])
    assert answer.dropped == 0
    assert {d.label for d in answer.detections} <= {"person", "traffic light"}


@pytest.mark.parametrize("name", SOURCES)
def test_old_weights_stay_as_they_are_stored(name: str, converted: Any) -> None:
    out, sources = converted(name)
    new, old = stored(out), {}
    for source in sources:
        old |= stored(source)
    names = {"model.vision_model.": "vision_model.", "model.text_model.": "model."}
    kept = 0
    for name, weight in new.items():
        prefix = next((p for p in names if name.startswith(p)), "")
        alike = (name, name.replace(prefix, names.get(prefix, "")), name.removeprefix("model.vision_model."))
        before = next((old[n] for n in alike if n in old), None)
        if before is None:
            assert name == CONNECTOR
            continue
        assert torch.equal(weight[: len(before) - 7], before[: len(before) - 7]), name  # 7 rows of no token
        assert weight.dtype == before.dtype
        kept += 1
    assert kept >= 2 * 16 + 2 * 9 + 3
    tied = json.loads((out / "config.json").read_text())["tie_word_embeddings"]
    assert tied == (OUTPUT not in new) == (name == "SigLIP and SmolLM2" or OUTPUT not in old)


@pytest.mark.parametrize("name", SOURCES)
def test_new_rows_are_near_the_mean_and_neighbouring_places_alike(name: str, converted: Any) -> None:
    out, sources = converted(name)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(out)
    places = tokenizer.convert_tokens_to_ids([prompts.location_token(i) for i in range(BINS)])
    assert places == list(range(places[0], places[0] + BINS))
    weights = stored(out)
    before = len(transformers.PreTrainedTokenizerFast.from_pretrained(sources[-1]))
    for rows in (weights[n].float() for n in (EMBEDDINGS, OUTPUT) if n in weights):
        assert len(rows) >= len(tokenizer)
        known, new = rows[:before], rows[before : len(tokenizer)]
        spread = (known - known.mean(0)).norm(dim=1).mean()
        assert 0 < (new - known.mean(0)).norm(dim=1).max() < 0.5 * spread
        apart = torch.cdist(rows[places], rows[places])
        assert apart.diagonal(1).max() < apart[0, BINS // 2]
        assert apart.diagonal(1).min() > 0


def test_a_new_connector_makes_visual_tokens_as_large_as_words(converted: Any) -> None:
    out, _ = converted("SigLIP and SmolLM2")
    model = Idefics3ForConditionalGeneration.from_pretrained(out, dtype=torch.float32)
    tile = torch.rand(1, 3, 32, 32, generator=torch.manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        seen = torch.cat([*model.model.get_image_features(tile[None]).pooler_output])
    words = model.get_input_embeddings().weight
    assert 0.5 < seen.square().mean().sqrt() / words.square().mean().sqrt() < 2


def edited(folder: Path, change: Callable[[Path], object]) -> Path:
    change(layouts.idefics3(folder))
    return folder


def alter(name: str, **values: Any) -> Callable[[Path], object]:
    return lambda folder: layouts.edit(folder / name, lambda content: content.update(values))


def other_tokens(*tokens: str) -> Callable[[Path], object]:
    def add(folder: Path) -> None:
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        tokenizer.add_tokens(list(tokens), special_tokens=True)
        tokenizer.save_pretrained(folder)

    return add


def move_a_word(folder: Path) -> None:
    """Give a word the id after the last one, so that no word has its old id."""
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]

    def move(content: dict[str, Any]) -> None:
        words = content["model"]["vocab"]
        word = max(words.keys() - {token["content"] for token in added}, key=words.__getitem__)
        words[word] = max(*words.values(), *(token["id"] for token in added)) + 1

    layouts.edit(folder / "tokenizer.json", move)


def without_the_output(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights[OUTPUT]
    save_file(weights, file)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (lambda f: (f / "config.json").unlink(), "no checkpoint"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json; transformers writes"),
    "another family": (
        alter("config.json", model_type="internvl"),
        "'internvl' cannot be converted; what can",
    ),
    "only eyes": (alter("config.json", model_type="siglip"), "has only eyes; name a Llama folder"),
    "an Argus checkpoint": (alter("config.json", argus={}), "is an Argus checkpoint already"),
    "code of its own": (alter("config.json", auto_map={"AutoModel": "a.b"}), "remote code"),
    "quantised": (alter("config.json", quantization_config={"quant_method": "awq"}), "awq"),
    "another decoder": (
        alter("config.json", text_config={"model_type": "mistral"}),
        "model_type is 'mistral'",
    ),
    "nonsense": (alter("config.json", text_config={"hidden_size": "wide"}), r"config.json"),
    "other pixels": (alter("preprocessor_config.json", image_mean=[0.4, 0.4, 0.4]), "image_mean is"),
    "places of its own": (other_tokens("<loc_0>"), "has location tokens of its own, such as <loc_0>"),
    "more tokens than rows": (
        other_tokens(*(f"<more_{i}>" for i in range(8))),
        "tokenizer.json has .* tokens, and the embeddings",
    ),
    "a gap between ids": (move_a_word, "leaves ids out"),
    "half a file": (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 9), "cannot be read"),
    "a pickle": (lambda f: (f / "model.safetensors").rename(f / "model.bin"), "a pickle"),
    "no output layer": (without_the_output, "weight 'lm_head.weight' is missing"),
    "a deeper model": (
        lambda f: layouts.edit(f / "config.json", lambda c: c["vision_config"].update(num_hidden_layers=3)),
        "and 15 more is missing",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_converted_is_refused_in_a_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, said = REFUSED[name]
    folder = edited(tmp_path / "source", change)
    with pytest.raises(CheckpointError, match=said):
        convert(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    capsys.readouterr()
    assert main(["convert", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("argus convert: ")


def test_arguments_that_cannot_be_are_refused(tmp_path: Path) -> None:
    source, eyes = layouts.idefics3(tmp_path / "source"), layouts.siglip(tmp_path / "eyes", 40)
    llama = layouts.llama(tmp_path / "llama")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="is there already; name a new folder"):
        convert(source, tmp_path / "out")
    for bins in (1, 1001):
        with pytest.raises(ValueError, match="2 to 1000 bins"):
            convert(source, tmp_path / "new", bins=bins)
    with pytest.raises(ValueError, match="--shuffle is for a connector"):
        convert(source, tmp_path / "new", shuffle=2)
    with pytest.raises(CheckpointError, match="'idefics3' is no SigLIP"):
        convert(source, tmp_path / "new", llama)
    with pytest.raises(CheckpointError, match="'siglip' is no llama"):
        convert(eyes, tmp_path / "new", eyes)
    with pytest.raises(CheckpointError, match="has 5 patches a side: --shuffle has to be one of 1, 5"):
        convert(eyes, tmp_path / "new", llama, shuffle=2)
    biased = layouts.llama(tmp_path / "biased", attention_bias=True)
    with pytest.raises(CheckpointError, match=r"new/config.json: text_config: attention_bias is True"):
        convert(eyes, tmp_path / "new", biased)
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of ``argus train`` for a few pictures, each with a bright square."""
    folder = tmp_path_factory.mktemp("coco")
    pictures, annotations = [], []
    for i in range(8):
        x, y = 8 * i % 48, 5 * i % 40
        image = np.full((64, 80, 3), 40, np.uint8)
        image[y : y + 20, x : x + 24] = (0, 200, 240) if i % 2 else (240, 120, 0)
        cv2.imwrite(str(folder / f"{i}.png"), image)
        pictures.append({"id": i, "file_name": f"{i}.png", "width": 80, "height": 64})
        box = {
            "id": i,
            "image_id": i,
            "category_id": i % 2,
            "bbox": [x, y, 24, 20],
            "area": 480,
            "iscrowd": 0,
        }
        annotations.append(box)
    categories = [{"id": 0, "name": "traffic light"}, {"id": 1, "name": "cone"}]
    content = {"images": pictures, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return ["--data", str(folder / "instances.json"), "--images", str(folder)]


STEPS = ["--samples", "16", "--batch", "4", "--lr", "1e-3", "--processes", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SmolVLM2", "SigLIP and SmolLM2"])
def test_it_can_be_trained_and_what_comes_of_it_again(
    name: str, converted: Any, data: list[str], tmp_path: Path
) -> None:
    base, _ = converted(name)
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["train", "--base", str(base), "--out", str(first), *data, *STEPS]) == 0
    more = ["--tile", "48", "--bins", "48", "--vision-layers", "3"]
    assert (
        main(["train", "--base", str(first / "checkpoint"), "--out", str(second), *data, *STEPS, *more]) == 0
    )
    assert not torch.equal(stored(first / "checkpoint")[EMBEDDINGS], stored(base)[EMBEDDINGS])
    for folder, tile, bins in ((first, 32, BINS), (second, 48, 48)):
        read = checkpoints.read(folder / "checkpoint")
        assert read.vocabulary is not None
        assert (read.tiling.tile, read.vocabulary.bins) == (tile, bins)
        assert read.vocabulary.classes == ("traffic light", "cone")
        assert models.check(folder / "checkpoint").equal


def test_growing_without_changes_is_the_converted_checkpoint(converted: Any) -> None:
    out, _ = converted("SmolVLM-256M")
    read = checkpoints.read(out)
    assert read.vocabulary is not None
    model, tokenizer = grow(out, read.vocabulary)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, stored(out)[name]), name
    assert tokenizer.get_vocab() == transformers.PreTrainedTokenizerFast.from_pretrained(out).get_vocab()


#: Parameters of the published SmolVLM-256M, -500M and -Instruct (2.2B); an Argus model has 1,001 tokens more,
#: with a row of its width in the embeddings and in the output layer.
PUBLISHED = {"256m": (256_484_928, 576), "500m": (507_482_304, 960), "2b": (2_246_272_880, 2048)}


@pytest.mark.slow
@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_of_the_family(size: str) -> None:
    published, width = PUBLISHED[size]
    assert count(configurations.CONFIGURATIONS[f"smolvlm-{size}"]().config) == published
    more = count(configurations.CONFIGURATIONS[f"argus-{size}"]().config) - published
    assert more == 2 * width * 1001


def test_size_of_argus_nano() -> None:
    read = checkpoints.read("argus-nano")
    assert read.vocabulary is not None
    config = blank.make_config(blank.NANO, read.vocabulary, blank.make_tokenizer(read.vocabulary))
    assert count(config) == models.parameters(read.path)


def count(config: Any) -> int:
    with torch.device("meta"):
        return Idefics3ForConditionalGeneration(config).num_parameters()
