"""Models in transformers' own modules, in the layouts that are published: loaded, asked, and held to plain
``generate``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import PIL.Image
import pytest
import torch

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import CheckpointError
from argus_ros.core.image import Image
from argus_ros.core.offline import Offline
from argus_ros.core.preparation import fill
from argus_ros.core.protocol import EngineConfig, FrameRequest, why_unusable
from argus_ros.core.types import Answer, Status, Task
from argus_ros.tools.pictures import photograph
from argus_ros.vlm.engine import engines, generic
from argus_ros.vlm.engine.generic import GenericEngine
from argus_ros.vlm.engine.generic_pixels import multiply_patches
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.formats.prompts import TaskError
from argus_ros.vlm.formats.reading import caption_or_question

SIZE = (90, 60)
BOXES = ("PaliGemma", "Florence-2", "Kosmos-2")  # whose answers are decoded under an automaton


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generic")


@pytest.fixture(scope="module", params=layouts.GENERIC)
def engine(request: pytest.FixtureRequest, root: Path) -> GenericEngine:
    return load(layouts.GENERIC[request.param](root / request.param))


def load(path: Path) -> GenericEngine:
    found = engines.load(EngineConfig(str(path), backend="transformers", device="cpu", dtype="float32"))
    assert isinstance(found, GenericEngine)
    return found


def asked(task: Task, **more: int) -> FrameRequest:
    return FrameRequest(1, 0, 0, 0, *SIZE, task, frame=SIZE, **more)


def task_of(engine: GenericEngine, name: str) -> Task:
    return Task(name, ("cone", "traffic light"), "the red cone")


@pytest.mark.slow
def test_captions_are_those_of_plain_generate(engine: GenericEngine) -> None:
    image, task = photograph(SIZE), Task("caption")
    ((_, answer),) = engine.stream([asked(task, max_new_tokens=12)], [image])
    processor, model = engine.processor, engine.model
    question = engine.format.questions(task)[0]
    picture = PIL.Image.fromarray(image)
    if engine.format.chat:
        assert question == caption_or_question(task)
        content = [{"type": "image", "image": picture}, {"type": "text", "text": question.text}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    else:
        inputs = processor(text=question.text, images=picture, return_tensors="pt")
    output = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=12)
    new = output[0] if model.config.is_encoder_decoder else output[0, inputs["input_ids"].shape[1] :]
    assert answer.text == processor.tokenizer.decode(new, skip_special_tokens=True).strip()
    assert answer.generated_tokens > 0


@pytest.mark.slow
def test_times_include_preprocessing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As stock's does in measurements."""
    engine, order = load(layouts.GENERIC["Florence-2"](root / "clock")), list[str]()

    def noted(name: str, function: Callable) -> Callable:
        def call(*arguments: object) -> object:
            order.append(name)
            return function(*arguments)

        return call

    monkeypatch.setattr(generic, "Stopwatch", noted("clock", generic.Stopwatch))
    monkeypatch.setattr(engine, "check", noted("check", engine.check))
    monkeypatch.setattr(PIL.Image, "fromarray", noted("conversion", PIL.Image.fromarray))
    list(engine.stream([asked(task_of(engine, "caption"), max_new_tokens=2)], [photograph(SIZE)]))
    assert order == ["clock", "check", "conversion"]


@pytest.mark.slow
def test_every_task_is_answered_with_boxes_in_the_picture(engine: GenericEngine) -> None:
    for name in engine.info.tasks:
        request = asked(task_of(engine, name), max_new_tokens=40)
        ((_, answer),) = engine.stream([request], [photograph(SIZE, 3)])
        assert why_unusable(answer, *SIZE) == ""
        assert bool(answer.text) <= (name in ("caption", "ask"))
        if engine.checkpoint.name in BOXES and name in ("detect", "ground"):
            assert answer.detections
            assert {d.label for d in answer.detections} <= {"cone", "traffic light", "the red cone"}
            assert answer.dropped <= 2  # where each of two answers was cut off


def test_text_is_made_once_a_size_and_pictures_by_the_fast_processor(engine: GenericEngine) -> None:
    """What the model takes is what the whole processor makes; of a stock preset, the stock one."""
    lean = ("lean_modules",) if "Qwen" in engine.checkpoint.name else ()
    assert engine.info.recipes == ("direct_resize", "uint8_transfer", "prompt_cache", *lean)
    question = engine.format.questions(Task("caption"))[0]
    engine.prompts.clear()
    for turn, size in enumerate([SIZE, (60, 90), SIZE, (60, 90), (200, 120)]):
        picture = PIL.Image.fromarray(photograph(size, turn))
        made = engine.inputs(question, picture)
        whole = engine.ask_processor(engine.processor, question, picture)
        stock = engine.ask_processor(engine.stock, question, picture)
        assert set(made) == set(whole) == set(stock)
        assert (made["pixel_values"].dtype == torch.uint8) == (turn in (2, 3))  # others are compared first
        for name, value in engine.to_device(whole).items():
            torch.testing.assert_close(engine.to_device(made)[name], value, rtol=0, atol=1e-5)
            if not value.is_floating_point():
                assert torch.equal(stock[name], value)
    assert len(engine.prompts) == 3
    assert None not in engine.prompts.values(), "the text is made anew for every frame"


@pytest.mark.slow
def test_recipes_leave_the_tokens_as_they_are(engine: GenericEngine) -> None:
    """Pixels as levels, patches as a product, the static cache, against the stock preset."""
    path = str(engine.checkpoint.path)
    stock, recipes = (
        engines.load(EngineConfig(path, "transformers", device="cpu", dtype="float32", preset=preset))
        for preset in ("stock", "realtime-direct_resize+compiled_step")
    )
    assert {"uint8_transfer", "prompt_cache"} <= set(recipes.info.recipes)
    known = engine.checkpoint.name not in ("PaliGemma", "Kosmos-2", "Idefics2")
    assert ("compiled_step" in recipes.info.recipes) == known
    for seed, name in enumerate(("caption", "caption", engine.info.tasks[0])):
        request, image = asked(task_of(engine, name), max_new_tokens=16), photograph(SIZE, seed)
        ((_, a),), ((_, b),) = (list(each.stream([request], [image])) for each in (stock, recipes))
        assert isinstance(a, Answer)
        assert isinstance(b, Answer)
        assert (a.text, a.generated_tokens, a.status) == (b.text, b.generated_tokens, b.status)
        assert [(d.label, d.x_min, d.y_max) for d in a.detections] == [
            (d.label, d.x_min, d.y_max) for d in b.detections
        ]


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"do_normalize": False}, "does not rescale and normalise"), ({"do_convert_rgb": None}, "")],
)
def test_uint8_transfer_is_off_where_a_processor_does_not_normalise(
    settings: dict[str, Any], why: str, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = layouts.GENERIC["LLaVA-1.5"](root / f"plain{len(why)}")
    layouts.edit(path / "preprocessor_config.json", lambda content: content.update(settings))
    engine = load(path)
    assert ("uint8_transfer" in engine.info.recipes) == (not why)
    said = f"uint8_transfer is off for CLIPImageProcessorPil: it {why}"
    assert (said in caplog.text) == bool(why)
    ((_, answer),) = engine.stream([asked(Task("caption"), max_new_tokens=3)], [photograph(SIZE)])
    assert answer.generated_tokens == 3


def test_levels_that_do_not_become_the_processors_pixels_are_found_out(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a processor that does more than its settings say."""
    engine = load(layouts.GENERIC["LLaVA-1.5"](root / "more"))
    assert "uint8_transfer" in engine.info.recipes
    kind = type(engine.processor.image_processor)
    normalize = kind.normalize
    monkeypatch.setattr(kind, "normalize", lambda *a, **k: normalize(*a, **k) * 1.01)
    for seed in range(2):
        ((_, answer),) = engine.stream([asked(Task("caption"), max_new_tokens=3)], [photograph(SIZE, seed)])
        assert answer.generated_tokens == 3
    assert "uint8_transfer" not in engine.info.recipes
    assert caplog.text.count("does more to pixels than to rescale and normalise them") == 1


def test_a_product_of_patches_is_their_convolution() -> None:
    torch.manual_seed(0)
    for bias in (False, True):
        model = torch.nn.Sequential(torch.nn.Conv3d(3, 8, (2, 4, 4), (2, 4, 4), bias=bias))
        patches, film = torch.randn(5, 3, 2, 4, 4), torch.randn(1, 3, 4, 8, 12)
        wanted = [model(x) for x in (patches, film)]
        assert multiply_patches(model)
        for x, y in zip((patches, film), wanted, strict=True):
            torch.testing.assert_close(model(x), y)
    assert not multiply_patches(torch.nn.Sequential(torch.nn.Conv3d(3, 8, 3, 1), torch.nn.Linear(3, 3)))


def test_preset_stock_has_the_stock_processor(root: Path) -> None:
    path = layouts.GENERIC["LLaVA-1.5"](root / "stock")
    config = EngineConfig(str(path), backend="transformers", device="cpu", preset="stock")
    plain = engines.load(config)
    assert isinstance(plain, GenericEngine)
    assert plain.info.recipes == ()
    assert plain.processor is plain.stock
    list(plain.stream([asked(Task("caption"), max_new_tokens=3)], [photograph(SIZE)]))
    assert not plain.prompts


def test_info(engine: GenericEngine) -> None:
    assert engine.info.whole_frames
    assert engine.info.slot_bytes == 1920 * 1080 * 3
    assert engine.info.parameters == sum(p.numel() for p in engine.model.parameters())
    assert engine.info.tasks == checkpoints.FORMATS[engine.checkpoint.format]


def test_unsupported_tasks_are_refused(engine: GenericEngine) -> None:
    image = photograph(SIZE)
    control = next(str(t) for t in engine.processor.tokenizer.added_tokens_decoder.values())
    tasks = {"control token": Task("caption", prompt=f"a {control} b")}
    if "detect" in engine.info.tasks:
        tasks["name fewer"] = Task("detect", tuple(f"kind {i}" for i in range(400)))
        if engine.checkpoint.format not in checkpoints.UNASKED:
            tasks["list in 'classes'"] = Task("detect")
    else:
        tasks["it can do caption, ask"] = Task("detect", ("cone",))
    for message, task in tasks.items():
        with pytest.raises(TaskError, match=message):
            engine.check(asked(task), image)
    with pytest.raises(TaskError, match="whole frames"):
        engine.check(asked(Task("caption")), image[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", BOXES)
def test_under_the_automaton_any_weights_give_boxes_that_parse(name: str, root: Path) -> None:
    """Also broken ones, and however few tokens there are."""
    path = root / name
    path = path if path.exists() else layouts.GENERIC[name](path)
    engine = load(path)
    for scale in (0.0, 30.0):
        for weight in engine.model.parameters():
            weight.data.mul_(scale if scale != 30.0 else torch.randn(weight.shape) * 30)
        for most in (3, 6, 30):
            request = asked(Task("detect", ("cone", "ball")), max_new_tokens=most, max_detections=2)
            ((_, answer),) = engine.stream([request], [photograph(SIZE, 1)])
            assert why_unusable(answer, *SIZE) == ""
            assert len(answer.detections) <= 2
            assert answer.dropped <= 2
    for weight in engine.model.parameters():
        weight.data.fill_(torch.nan)
    ((_, answer),) = engine.stream([asked(Task("detect", ("cone", "ball")))], [photograph(SIZE, 1)])
    assert isinstance(answer, FloatingPointError)


def test_a_deadline_ends_an_answer(root: Path) -> None:
    engine = load(layouts.GENERIC["LLaVA-1.5"](root / "late"))
    request = asked(Task("caption"), max_new_tokens=500, deadline=1)  # long ago on the steady clock
    ((_, answer),) = engine.stream([request], [photograph(SIZE)])
    assert answer.status is Status.TRUNCATED
    assert answer.generated_tokens == 1


@pytest.mark.slow
def test_behind_the_worker_frames_larger_than_a_slot_are_scaled(root: Path) -> None:
    """The same process, messages and shared memory as for the native engine."""
    path = layouts.GENERIC["Florence-2"](root / "worker")
    config = EngineConfig(str(path), backend="transformers", device="cpu", threads=1)
    large = photograph((2400, 1500))
    with Offline(config, checkpoints.read_for(config).tiling) as offline:
        assert offline.engine.takes_frames
        found = offline.run(_image(large), Task("detect", ("cone",)))
    assert found.detections
    for box in found.detections:
        assert 0 <= box.x_min < box.x_max <= 2400
        assert 0 <= box.y_min < box.y_max <= 1500
    assert max(box.x_max for box in found.detections) > 90


@pytest.mark.parametrize("size", [(2400, 1500), (1920, 1080), (7000, 1), (1, 7000), (64, 64)])
def test_a_frame_is_scaled_down_only_where_it_does_not_fit(size: tuple[int, int]) -> None:
    slot = np.zeros(1920 * 1080 * 3 if min(size) > 1 else 3000, np.uint8)
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[:] = (10, 20, 30)
    prepared = fill(slot, _image(image), None, checkpoints.WHOLE, True)
    pixels = prepared.pixels(slot, 1)
    assert pixels.nbytes <= slot.size
    if image.nbytes <= slot.size:
        assert prepared.frame == size
    else:
        assert (
            prepared.frame[0] / prepared.frame[1] == pytest.approx(size[0] / size[1], rel=0.02)
            or min(size) == 1
        )
    assert (pixels == (10, 20, 30)).all()


def _image(rgb: np.ndarray) -> Image:
    return Image(rgb, "rgb8", rgb.shape[1], rgb.shape[0], rgb.strides[0])


REFUSED = {
    "gpt2": ("model_type 'gpt2' is not supported: transformers", "transformers"),
    "moondream1": ("is not supported natively.*remote code", "native"),
    "internvl_chat": ("original layout.*-hf", "native"),
    "qwen2_5_vl": ("not supported natively.*backend transformers may", "native"),
    "": ("lacks model_type", "transformers"),
}


@pytest.mark.parametrize("model_type", REFUSED)
def test_checkpoints_that_cannot_run_are_refused_with_a_remedy(
    model_type: str, root: Path, tmp_path: Path
) -> None:
    path = layouts.GENERIC["LLaVA-1.5"](tmp_path / "x")
    message, backend = REFUSED[model_type]
    changes: dict[str, object] = {"model_type": model_type}
    if model_type == "moondream1":
        changes["auto_map"] = {"AutoModel": "moondream.py"}
        (path / "preprocessor_config.json").unlink()
    layouts.edit(path / "config.json", lambda c: c.update(changes))
    with pytest.raises(CheckpointError, match=message):
        engines.load(EngineConfig(str(path), backend=backend))


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: layouts.edit(f / "config.json", lambda c: c.update(text_config=[])),
        lambda f: layouts.edit(f / "config.json", lambda c: c["text_config"].update(num_attention_heads=0)),
        lambda f: layouts.edit(f / "config.json", lambda c: c["text_config"].update(num_hidden_layers=3)),
        lambda f: layouts.edit(f / "config.json", lambda c: c["text_config"].update(num_hidden_layers=1)),
        lambda f: layouts.edit(
            f / "config.json", lambda c: c.update(quantization_config={"quant_method": "awq"})
        ),
        lambda f: layouts.edit(f / "config.json", lambda c: c.update(argus_format="morse")),
        lambda f: (f / "tokenizer.json").write_text("{}"),
        lambda f: (f / "preprocessor_config.json").write_text("[]"),
        lambda f: (f / "chat_template.jinja").unlink(),
        lambda f: (f / "model.safetensors").write_bytes(b"x" * 100),
    ],
)
def test_a_broken_folder_is_a_checkpoint_error(harm: object, tmp_path: Path) -> None:
    path = layouts.GENERIC["LLaVA-1.5"](tmp_path / "x")
    harm(path)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=r".{20}"):
        load(path)


def test_the_folder_or_a_parameter_can_set_another_format(tmp_path: Path) -> None:
    path = layouts.GENERIC["LLaVA-1.5"](tmp_path / "x")
    assert checkpoints.read(path, "transformers").tasks == ("caption", "ask")
    layouts.edit(path / "config.json", lambda c: c.update(argus_format="qwen3_vl"))
    assert "detect" in checkpoints.read(path, "transformers").tasks
    assert checkpoints.read(path, "transformers", "internvl").format == "internvl"
    with pytest.raises(CheckpointError, match=r"answer_format is 'morse'.*internvl"):
        checkpoints.read(path, "transformers", "morse")


def test_internvl_is_asked_for_boxes_natively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What random weights say is no box; what the family writes is."""
    engine = Engine(EngineConfig(str(layouts.internvl(tmp_path, layouts.QWEN3)), device="cpu"))
    request = FrameRequest(1, 0, 0, 0, 640, 480, Task("detect", ("cone", "ball")))
    tiles = np.zeros((1, 32, 32, 3), np.uint8)
    assert engine.run([request], [tiles])[0].text == ""
    words = "<ref>cone</ref><box>[[100, 200, 300, 400], [1, 2]]</box>"
    words += "<ref>ball</ref><box>[[0, 0, 1000, 1000]]</box>"
    said = engine.tokens.encode(words)
    monkeypatch.setattr(
        "argus_ros.vlm.decoding.generation.Decoding.take",
        _saying([*said, engine.tokens.ends[0]], engine.prompt_and_grammar(request)[1].column),
    )
    answer = engine.run([request], [tiles])[0]
    found = [(d.label, d.x_min, d.y_min, d.x_max, d.y_max) for d in answer.detections]
    assert found == [("cone", 64, 96, 192, 192), ("ball", 0, 0, 640, 480)]
    assert answer.dropped == 1
    assert all(0 <= d.score <= 1 for d in answer.detections)


def _saying(tokens: list[int], column: dict[int, int]) -> object:
    """Instead of the best token, the next of these."""

    def take(decoding: object, logits: np.ndarray) -> None:
        step = len(decoding.columns)  # type: ignore[attr-defined]
        decoding.add(column[tokens[step]], logits[0])  # type: ignore[attr-defined]
        decoding.length += len(decoding.pending)  # type: ignore[attr-defined]
        decoding.pending = decoding.columns[-1:]  # type: ignore[attr-defined]
        decoding.check_end(decoding.columns[-1:])  # type: ignore[attr-defined]

    return take
