"""Weights and activations that are no numbers: refused at load, or a frame that fails alone and says why."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from argus_ros.core.checkpoint import CheckpointError
from argus_ros.core.protocol import Arena, EngineConfig, FrameRequest
from argus_ros.core.types import Answer, Task
from argus_ros.vlm import worker
from argus_ros.vlm.decoding.generation import FLOOR, Decoding, Job, Limits
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.engine import engines
from argus_ros.vlm.engine.native import Engine

REQUEST = FrameRequest(0, 0, 0, 0, 640, 480, Task("dense_caption"))
WHY = "no numbers \\(NaN or infinite\\) in float32 on cpu"
#: Weights of the vision tower, of the decoder, and those that are not in a layer.
NAMES = (
    "model.vision_model.encoder.layers.0.mlp.fc1.bias",
    "model.text_model.layers.1.self_attn.k_proj.weight",
    "model.text_model.norm.weight",
)


def pictures(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, 4, 4, 3), np.uint8).repeat(16, 1).repeat(16, 2)


def poison(folder: Path, name: str, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name] = weights[name].astype(np.float32)  # whose range is wider than of what is stored
    weights[name].flat[-1] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("backend", ["native", "transformers"])
@pytest.mark.parametrize(("name", "value"), list(zip(NAMES, (math.nan, math.inf, -math.inf), strict=True)))
def test_weights_are_refused(tiny: Path, tmp_path: Path, backend: str, name: str, value: float) -> None:
    folder = shutil.copytree(tiny, tmp_path / "broken")
    poison(folder, name, value)
    with pytest.raises(CheckpointError, match=f"weight '{name}' holds NaN or an infinity in float32"):
        Engine(EngineConfig(str(folder), device="cpu", backend=backend))


def test_weights_too_large_for_the_dtype_are_refused(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "large")
    poison(folder, NAMES[1], 1e5)
    Engine(EngineConfig(str(folder), device="cpu", dtype="bfloat16"))
    with pytest.raises(CheckpointError, match=f"{NAMES[1]}' holds .* in float16"):
        Engine(EngineConfig(str(folder), device="cpu", dtype="float16"))


def test_weights_of_transformers_own_modules_are_refused(tmp_path: Path) -> None:
    folder = layouts.GENERIC["LLaVA-1.5"](tmp_path / "llava")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(weights) if name.endswith("k_proj.weight"))
    poison(folder, name, math.nan)
    with pytest.raises(CheckpointError, match=r"k_proj\.weight' holds NaN"):
        engines.load(EngineConfig(str(folder), backend="transformers", device="cpu"))


PRESETS = [
    "realtime",  # steps in numpy
    "realtime-compiled_step",  # in torch
    "realtime+device_loop",  # choices on the device, and static shapes
    "stock",  # transformers' own modules
]


@contextmanager
def spilt(weight: torch.Tensor, value: float) -> Iterator[None]:
    """A number of a weight that turns bad after it was loaded."""
    kept = weight.clone()
    with torch.no_grad():
        weight.view(-1)[0] = value
        try:
            yield
        finally:
            weight.copy_(kept)


def weight_of(engine: Engine) -> torch.Tensor:
    if isinstance(engine.model, NativeModel):
        return engine.model.decoder.layers[1].norm2
    return engine.model.model.model.text_model.layers[1].post_attention_layernorm.weight  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("preset", "value"), list(zip(PRESETS, [math.nan, math.inf, math.nan, math.inf], strict=True))
)
def test_a_frame_with_invalid_activations_fails_and_later_ones_do_not(
    tiny: Path, preset: str, value: float
) -> None:
    """Later frames do not look at what it left in the buffers, and cameras' memories are as they were."""
    engine = Engine(EngineConfig(str(tiny), device="cpu", preset=preset))
    request = replace(REQUEST, camera="front", max_new_tokens=9)
    requests = [replace(request, taken=i / 10) for i in range(3)]
    before = engine.generate(requests[0], pictures(3))
    with spilt(weight_of(engine), value):
        made = engine.generate(replace(request, camera=""), pictures(4))
        assert not made.sound
        assert preset == "stock" or len(made.columns) == 1, "it ends where it breaks"
        with pytest.raises(FloatingPointError, match=WHY):
            engine.run([requests[1]], [pictures(4)])
    after = engine.generate(requests[2], pictures(3))
    assert after.sound
    assert after.columns == before.columns
    np.testing.assert_allclose(after.logits, before.logits, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="there is no Triton for this machine")
def test_fused_kernels_propagate_nan(tiny: Path) -> None:
    """From a step's activations through the kernel of the choice to the host."""
    preset = "realtime+device_loop+fused_kernels"
    engine = Engine(EngineConfig(str(tiny), device="cpu", preset=preset))
    assert "fused_kernels" in engine.info.recipes
    request = replace(REQUEST, max_new_tokens=2)
    whole = engine.generate(request, pictures(3))
    assert (whole.sound, whole.passes) == (True, 1)
    (layer,) = engine.model.decoder.layers[1:]  # type: ignore[attr-defined]
    prefill = engine.model.prefill  # type: ignore[attr-defined]

    def prefilled(*given: object) -> object:
        found = prefill(*given)
        layer.norm2[0] = math.nan
        return found

    engine.model.prefill = prefilled  # type: ignore[attr-defined]
    made = engine.generate(request, pictures(3))
    assert made.columns[:1] == whole.columns[:1]
    assert (made.sound, made.passes) == (False, 1)


@pytest.fixture
def marked(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Engine]:
    """Makes engines whose vision gives no numbers for pictures that begin with white."""

    def make(preset: str) -> Engine:
        engine = Engine(EngineConfig(str(tiny), device="cpu", preset=preset))
        model = engine.model
        assert isinstance(model, NativeModel)
        see = model.vision

        def vision(tiles: torch.Tensor) -> torch.Tensor:
            seen = see(tiles).clone()
            for i, tile in enumerate(tiles):
                if (tile[0] == 255).all():
                    seen.view(len(tiles), -1)[i] = math.nan
            return seen

        monkeypatch.setattr(model, "vision", vision)
        return engine

    return make


@pytest.mark.parametrize("preset", PRESETS[:-1])
def test_frames_beside_it_are_answered(marked: Callable[[str], Engine], preset: str) -> None:
    """In the same pass, and in later ones that use its place in the buffers."""
    engine = marked(preset)
    requests = [replace(REQUEST, id=i, slot=i) for i in range(3)]
    views = [pictures(3), np.full_like(pictures(0), 255), pictures(5)]
    alone = {i: boxes(engine.run([requests[i]], [views[i]])[0]) for i in (0, 2)}
    for _ in range(2):
        found = dict(engine.stream(requests, views))
        assert isinstance(found[1], FloatingPointError)
        assert {i: boxes(found[i]) for i in (0, 2)} == alone
    assert boxes(engine.run([requests[0]] * 3, [views[0]] * 3)[1]) == alone[0]


def boxes(answer: Answer | Exception) -> list[tuple[object, ...]]:
    assert isinstance(answer, Answer)
    return [(d.label, d.x_min, d.y_min, d.x_max, d.y_max) for d in answer.detections]


def test_the_worker_says_which_frame_failed(marked: Callable[[str], Engine]) -> None:
    engine = marked("realtime")
    arena = Arena(Arena.create_file(), 2, engine.info.slot_bytes)
    requests = [replace(REQUEST, id=10 + i, slot=i) for i in range(2)]
    arena.pixels(requests[0], engine.info.tile)[:] = 255
    arena.pixels(requests[1], engine.info.tile)[:] = pictures(3)
    answered = {a.id: a for a in worker.run(engine, arena, requests)}
    assert "the model's logits are no numbers" in answered[10].error
    assert not answered[10].refused
    assert not answered[11].error
    assert answered[11].answer.generated_tokens


def test_a_choice_without_a_finite_logit_ends_the_answer(tiny: Path, read_tokens: Callable) -> None:
    """Wherever it comes: in a step, behind a guess, on the device; what is forbidden may be anything."""
    engine = Engine(EngineConfig(str(tiny), device="cpu"))
    prompt, g = engine.prompt_and_grammar(REQUEST)
    good = np.zeros((1, len(g.tokens)), np.float32)

    def begun() -> Decoding:
        made = Decoding(Job(prompt, g, pictures(0), Limits(50, 3)), 0, jump=False)
        row = good.copy()
        row[0, ~made.cursor.allowed()] = np.nan
        row[0, np.flatnonzero(made.cursor.allowed())[-1]] = 1.0
        made.take(row)
        assert made.sound
        assert not made.ended
        return made

    for bad in (np.nan, np.inf, -np.inf, float(FLOOR)):
        made = begun()
        made.take(np.full_like(good, bad))
        assert (made.sound, made.ended, made.truncated, len(made.columns)) == (False, True, False, 2)
        made = begun()
        made.guess = [int(np.flatnonzero(made.cursor.allowed())[0])] * 2
        logits = np.repeat(good, 3, 0)
        logits[0, made.guess[0]] = 1.0
        logits[1] = bad
        made.take(logits)
        assert (made.sound, made.ended, len(made.columns)) == (False, True, 3)
        made = begun()
        masked = np.where(made.cursor.allowed(), np.maximum(np.float32(bad), FLOOR), -np.inf)
        first = int(np.flatnonzero(made.cursor.allowed())[0])
        made.accept(np.array([[first], [first]]), np.stack([masked, masked]))
        assert (made.sound, made.ended, len(made.columns)) == (False, True, 2)


def test_some_infinite_logits_among_finite_ones_are_no_fault(tiny: Path) -> None:
    """Rounding to zero probability is what they mean."""
    engine = Engine(EngineConfig(str(tiny), device="cpu"))
    prompt, g = engine.prompt_and_grammar(REQUEST)
    made = Decoding(Job(prompt, g, pictures(0), Limits(50, 3)), 0, jump=False)
    logits = np.full((1, len(g.tokens)), -np.inf, np.float32)
    logits[0, np.flatnonzero(made.cursor.allowed())[-1]] = -5.0
    made.take(logits)
    assert made.sound
    assert not made.ended
