"""Open models in their published layouts: prompts, tokens and positions are those of plain transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import Checkpoint, CheckpointError
from argus_ros.core.preparation import plan
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Task
from argus_ros.tools.pictures import photograph
from argus_ros.vlm.decoding.reference import TransformersModel
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats import chat
from argus_ros.vlm.formats.prompts import TaskError
from argus_ros.vlm.formats.tokens import Tokens
from argus_ros.vlm.models import architecture
from argus_ros.vlm.models.vision import Normalisation

SIZES = ((96, 64), (40, 90), (32, 32))
NEW = 24


@pytest.fixture(scope="module", params=layouts.NATIVE)
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.NATIVE[request.param](tmp_path_factory.mktemp("layouts") / request.param)


def uint8_tiles(pixels: torch.Tensor, checkpoint: Checkpoint) -> np.ndarray:
    """The stock processor's pixels (…, 3, side, side) before they were normalised, (tiles, side, side, 3)."""
    normal = Normalisation.read(checkpoint)
    planes = pixels.reshape(-1, *pixels.shape[-3:]).permute(0, 2, 3, 1).numpy()
    levels = (planes * np.array(normal.std) + np.array(normal.mean)) / normal.scale
    assert np.abs(levels - levels.round()).max() < 0.01
    return levels.round().astype(np.uint8)


@pytest.mark.slow
def test_prompts_and_tokens_are_those_of_plain_generate(layout: Path) -> None:
    """The stock processor's own tiles go into both, so that only the model and the text are compared."""
    engine = Engine(EngineConfig(str(layout), device="cpu", dtype="float32"))
    stock = TransformersModel(engine.checkpoint, torch.device("cpu"), torch.float32)
    said = set()
    for seed, (width, height) in enumerate(SIZES * 2):
        image = photograph((width, height), seed)
        task = Task("ask", prompt=f"What is at {seed}? A cone?") if seed % 2 else Task("caption")
        inputs: Any = stock.stock_inputs(image, task)
        rows, columns = plan(width, height, engine.checkpoint.tiling)
        request = FrameRequest(seed, 0, rows, columns, width, height, task, max_new_tokens=NEW)
        prompt, grammar = engine.prompt_and_grammar(request)
        assert list(prompt.ids) == inputs["input_ids"][0].tolist()
        made = engine.generate(request, uint8_tiles(inputs["pixel_values"], engine.checkpoint))
        ours = [int(grammar.tokens[column]) for column in made.columns]
        theirs = stock.stock(image, task, NEW)
        for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if a != b:
                second, first = np.sort(made.logits[step])[-2:]
                assert first - second < 1e-4, f"step {step}: {a} instead of {b}"
                break
        said.update(theirs)
    assert len(said) > 10, "the model says the same of everything, so this proves little"


ROPES: dict[str, dict[str, Any]] = {
    "default": {},
    "dynamic, as InternVL3": layouts.DYNAMIC,
    "linear by its old name": {"type": "linear", "factor": 4.0},
    "yarn by its old name": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    "yarn with all": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
        "mscale": 0.7,
        "mscale_all_dim": 0.3,
        "truncate": False,
    },
    "llama3": {**layouts.LLAMA3, "original_max_position_embeddings": 64},
}


@pytest.mark.parametrize("name", ROPES)
def test_logits_under_every_rope_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    text = {"model_type": "llama", "max_position_embeddings": 512, "rope_theta": 10000.0}
    path = layouts.idefics3(tmp_path, text=text)
    layouts.edit(path / "config.json", lambda c: c["text_config"].pop("rope_parameters"))
    layouts.edit(path / "config.json", lambda c: c["text_config"].update(rope_theta=10000.0))
    if ROPES[name]:
        layouts.edit(path / "config.json", lambda c: c["text_config"].update(rope_scaling=ROPES[name]))
    plain = TransformersModel(checkpoints.read(path), torch.device("cpu"), torch.float32)
    decoder = Engine(EngineConfig(str(path), device="cpu", dtype="float32")).model.decoder  # type: ignore[attr-defined]
    ids = torch.randint(0, 300, (1, 200), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        theirs = plain.model(input_ids=ids).logits[0]
        decoder.reserve(1, 256)
        ours = decoder(decoder.embed(ids), torch.arange(200)[None], 200)[0] @ decoder.head.t()
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_an_unknown_rope_is_refused_by_name(key: str, tmp_path: Path) -> None:
    path = layouts.idefics3(tmp_path)
    layouts.edit(path / "config.json", lambda c: c["text_config"].update(rope_scaling={key: "longrope"}))
    with pytest.raises(CheckpointError, match=f"{key} is 'longrope'.*yarn"):
        Engine(EngineConfig(str(path)))


def test_location_tokens_are_shown_and_other_special_tokens_are_not(tmp_path: Path) -> None:
    engine = Engine(EngineConfig(str(layouts.internvl(tmp_path, layouts.QWEN3))))
    tokens = engine.tokens
    said = tokens.encode("<|im_start|><ref>a cone</ref><box>[[1, 2, 3, 4]]</box><IMG_CONTEXT><|im_end|>")
    assert set(said) - set(tokens.ends) <= tokens.text_set
    assert tokens.decode(said) == "<ref>a cone</ref><box>[[1, 2, 3, 4]]</box>"


def test_control_tokens_are_refused_in_a_question(tmp_path: Path) -> None:
    engine = Engine(EngineConfig(str(layouts.idefics3(tmp_path))))
    request = FrameRequest(0, 0, 0, 0, 32, 32, Task("ask", prompt="a <image> there?"))
    with pytest.raises(TaskError, match="control token"):
        engine.check(request, np.zeros((1, 32, 32, 3), np.uint8))


TEMPLATES = {
    "is broken": "{% for %}",
    "fails": "{{ raise_exception('no') }}",
    "has no picture": "{{ messages[0].role }}",
    "has two": "<image><image>",
    "reaches out": "{{ messages.__class__.__mro__[1].__subclasses__() }}<image>",
}


@pytest.mark.parametrize("how", TEMPLATES)
def test_a_chat_template_that_cannot_be_used_is_a_sentence(how: str, tmp_path: Path) -> None:
    path = layouts.idefics3(tmp_path, chat=TEMPLATES[how])
    with pytest.raises(CheckpointError, match="chat template"):
        Engine(EngineConfig(str(path))).warm_up()


def test_the_template_is_found_where_transformers_finds_it(tmp_path: Path) -> None:
    path = layouts.idefics3(tmp_path, chat="jinja<image>")
    checkpoint = checkpoints.read(path)
    assert chat.template(checkpoint) == "jinja<image>"
    (path / "chat_template.json").write_text(json.dumps({"chat_template": "json<image>"}))
    assert chat.template(checkpoint) == "json<image>" == AutoProcessor.from_pretrained(path).chat_template
    for name in ("chat_template.json", "chat_template.jinja"):
        (path / name).unlink()
    layouts.edit(path / "tokenizer_config.json", lambda c: c.update(chat_template="tokenizer<image>"))
    assert chat.template(checkpoint) == "tokenizer<image>"
    layouts.edit(path / "tokenizer_config.json", lambda c: c.pop("chat_template"))
    assert chat.template(checkpoint) == checkpoint.family.chat


GENERATION = {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "bad_words_ids": [[5, 6]]}


@pytest.mark.parametrize("key", GENERATION)
def test_generation_settings_other_than_greedy_are_refused(key: str, tmp_path: Path) -> None:
    path = layouts.idefics3(tmp_path)
    layouts.edit(path / "generation_config.json", lambda c: c.update({key: GENERATION[key]}))
    with pytest.raises(CheckpointError, match=f"{key} changes answers.*transformers"):
        Engine(EngineConfig(str(path)))
    Engine(EngineConfig(str(path), backend="transformers"))


def quantised(folder: Path, **config: object) -> None:
    layouts.edit(folder / "config.json", lambda c: c.update(quantization_config=config))


def stored_as(dtype: torch.dtype) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        name = "model.text_model.layers.0.mlp.down_proj.weight"
        weights[name] = weights[name].mul(64).to(dtype)
        save_file(weights, folder / "model.safetensors")

    return change


def with_tensor(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        save_file({**weights, name: torch.ones(3)}, folder / "model.safetensors")

    return change


def without_head(**tied: bool) -> Callable[[Path], None]:
    """No weights for the words, and ``tie_word_embeddings`` as given at the top and of the text model."""

    def change(folder: Path) -> None:
        def tell(config: dict[str, Any]) -> None:
            for where, section in (("top", config), ("text", config["text_config"])):
                section.pop("tie_word_embeddings", None)
                section.update({"tie_word_embeddings": tied[where]} if where in tied else {})

        layouts.edit(folder / "config.json", tell)
        weights = load_file(folder / "model.safetensors")
        save_file({k: v for k, v in weights.items() if "lm_head" not in k}, folder / "model.safetensors")

    return change


NOT_AS_THEY_WERE: dict[str, tuple[Callable[[Path], None], str]] = {
    "bitsandbytes": (lambda f: quantised(f, quant_method="bitsandbytes", load_in_8bit=True), "bitsandbytes"),
    "a text model's own": (
        lambda f: layouts.edit(
            f / "config.json",
            lambda c: c["text_config"].update(quantization_config={"quant_method": "gptq"}),
        ),
        "text_config: quantization_config.*gptq",
    ),
    "int8": (stored_as(torch.int8), "stored as I8"),
    "uint8, as nf4": (stored_as(torch.uint8), "stored as U8"),
    "float8": (stored_as(torch.float8_e4m3fn), "stored as F8_E4M3"),
    "scales": (
        with_tensor("model.text_model.layers.0.mlp.down_proj.SCB"),
        r"weight .*down_proj\.SCB. is not used",
    ),
    "an adapter": (with_tensor("base_model.model.lora_A.weight"), "is not used"),
    "no head": (without_head(top=False), "'lm_head.weight' is missing"),
    "no head, said of the text model": (without_head(text=False), "'lm_head.weight' is missing"),
}


@pytest.mark.parametrize("what", NOT_AS_THEY_WERE)
def test_weights_that_would_be_read_wrongly_are_refused(what: str, tmp_path: Path) -> None:
    change, message = NOT_AS_THEY_WERE[what]
    path = layouts.idefics3(tmp_path)
    change(path)
    with pytest.raises(CheckpointError, match=message):
        Engine(EngineConfig(str(path)))


@pytest.mark.parametrize(
    "tied", [{"top": True}, {"top": True, "text": False}, {"top": False, "text": True}, {}]
)
def test_the_output_layer_may_share_the_embeddings(tied: dict[str, bool], tmp_path: Path) -> None:
    """Versions of transformers write that at the top, in the text model's part, or leave it out."""
    path = layouts.idefics3(tmp_path)
    without_head(**tied)(path)
    decoder = Engine(EngineConfig(str(path), device="cpu")).model.decoder  # type: ignore[attr-defined]
    assert decoder.head is decoder.embedding


@pytest.mark.parametrize("name", ["model.text_model.rotary_emb.inv_freq", "x.embeddings.position_ids"])
def test_tensors_that_no_model_needs_do_no_harm(name: str, tmp_path: Path) -> None:
    path = layouts.idefics3(tmp_path)
    with_tensor(name)(path)
    Engine(EngineConfig(str(path)))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("mutated")
    return [layouts.NATIVE[name](root / name) for name in ("Idefics3-8B", "InternVL3.5-1B")]


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, item in inside for p in places(item, (*path, key)))]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.sampled_from([0, 1, -1, 2, 3, 7, 1 << 23])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_json_files_with_nonsense_in_them_are_refused_in_a_sentence(
    published: list[Path], data: st.DataObject
) -> None:
    """Or are read all the same; nothing but a CheckpointError comes of them."""
    folder = data.draw(st.sampled_from(published))
    name = data.draw(
        st.sampled_from(
            ["config.json"] * 3
            + [
                "preprocessor_config.json",
                "processor_config.json",
                "generation_config.json",
                "tokenizer_config.json",
            ]
        )
    )
    before = (folder / name).read_text()
    values = json.loads(before)
    if name == "config.json" and data.draw(st.booleans()):
        values["argus"] = {"tasks": ["detect"], "bins": 64, "classes": ["cone"], "max_objects": 3}
    for _ in range(data.draw(st.integers(1, 2))):
        way = data.draw(st.sampled_from(places(values)))
        new = data.draw(JSON)
        if not way:
            values = new
            break
        at = values
        for key in way[:-1]:
            at = at[key]
        at[way[-1]] = new
    try:
        (folder / name).write_text(json.dumps(values))
        checkpoint = checkpoints.read(folder)
        vision, text = architecture.read(checkpoint)
        assert vision.tokens > 0
        assert checkpoint.tiling.max_tiles > 0
        tokens = Tokens(checkpoint, min(text.vocabulary, 1 << 12))
        tokens.check_plain()
        Normalisation.read(checkpoint)
        if checkpoint.vocabulary is None:
            tokens.prompt(Task("caption"), 0, 0, vision.tokens if vision.tokens < 4096 else 1)
    except CheckpointError:
        pass
    finally:
        (folder / name).write_text(before)


def test_of_free_text_probabilities_are_kept_and_no_logits(tmp_path: Path) -> None:
    """Logits of a whole vocabulary for every token would be a hundred megabytes."""
    engine = Engine(EngineConfig(str(layouts.internvl(tmp_path, layouts.QWEN3)), device="cpu"))
    request = FrameRequest(1, 0, 0, 0, 64, 64, Task("detect", ("cone",)), max_new_tokens=NEW)
    tiles = photograph((32, 32))[None]
    whole = engine.generate(request, tiles)
    ((_, made),) = engine.generate_all([request], [tiles])
    assert made.columns == whole.columns
    assert made.logits.shape == (0, whole.logits.shape[1])
    best = np.exp(whole.logits - whole.logits.max(1, keepdims=True))
    expected = (best / best.sum(1, keepdims=True))[np.arange(len(best)), whole.columns]
    assert made.probabilities == pytest.approx(expected, rel=1e-4)
    assert whole.probabilities == pytest.approx(expected, rel=1e-4)
