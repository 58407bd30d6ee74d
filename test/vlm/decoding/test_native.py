"""The parts of the native backend, each against the plain way of doing the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.recipes import PRESETS, Recipes
from argus_ros.core.types import Task
from argus_ros.vlm.decoding.generation import Limits
from argus_ros.vlm.decoding.native import NativeModel
from argus_ros.vlm.formats import grammar
from argus_ros.vlm.formats.tokens import Tokens
from argus_ros.vlm.models import decoder as decoders
from argus_ros.vlm.models.decoder import Decoder
from argus_ros.vlm.models.elementwise import Elementwise, gelu
from argus_ros.vlm.models.host import NumpySteps

CPU = torch.device("cpu")
#: With device_loop, and so with steps of static shapes, as on a GPU; the kernels have a test of their own.
ALL = PRESETS["realtime"].without(["fused_kernels"])
ON_CPU = ALL.without(["device_loop"])


def model(path: Path, recipes: Recipes = ON_CPU) -> NativeModel:
    return NativeModel(checkpoints.read(path), recipes, CPU, torch.float32)


def test_gelu_is_torchs() -> None:
    x = torch.cat([torch.linspace(-12, 12, 10001), torch.tensor([1e4, -1e4, 3e12, -3e12, 0.0, torch.nan])])
    for kind in ("tanh", "none"):
        expected = torch.nn.functional.gelu(x, approximate=kind)
        torch.testing.assert_close(gelu(x, kind), expected, atol=1e-6, rtol=1e-6, equal_nan=True)
        for dtype in (torch.bfloat16, torch.float16):  # bit for bit: each operation of ours would round
            half = x.to(dtype)
            expected = torch.nn.functional.gelu(half, approximate=kind)
            torch.testing.assert_close(gelu(half, kind), expected, atol=0, rtol=0, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("recipes", [ALL, ON_CPU], ids=["device", "numpy"])
@pytest.mark.parametrize(
    "off", ["uint8_transfer", "prefix_kv", "compiled_step", "jump_forward", "device_loop"]
)
def test_no_recipe_changes_the_tokens(tiled: Path, recipes: Recipes, off: str) -> None:
    with_all, without = model(tiled, recipes), model(tiled, recipes.without([off]))
    checkpoint = checkpoints.read(tiled)
    tokens = Tokens(checkpoint, checkpoint.config["text_config"]["vocab_size"])
    passes = [0, 0]
    for seed in range(4):
        tiles = np.random.default_rng(seed).integers(0, 256, (3, 8, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        for task in (
            Task("detect", ("traffic light",)),
            Task("dense_caption"),
            Task("ask", prompt="how many"),
        ):
            prompt, g = tokens.prompt(task, 1, 2, 4), grammar.build(task, tokens)
            limits = Limits(g.longest() or 20)
            a, b = (m.generate(prompt, g, tiles, limits) for m in (with_all, without))
            assert a.columns == b.columns
            choice = np.isfinite(b.logits).sum(1) > 1
            np.testing.assert_allclose(a.logits[choice], b.logits[choice], atol=1e-3)
            passes[0] += a.passes
            passes[1] += b.passes
    assert passes[0] < passes[1] if off == "jump_forward" else passes[0] >= passes[1]


def run(decoder: Decoder, ids: torch.Tensor, start: int, row: int = 0) -> torch.Tensor:
    """Hidden states (n, width) of tokens of one row."""
    places = torch.arange(start, start + len(ids))[None]
    return decoder(decoder.embed(ids[None]), places, start + len(ids), row)[0]


@pytest.fixture
def grouped(tiled: Path) -> NativeModel:
    """Grouped-query attention."""
    return model(tiled)


@torch.inference_mode()
def test_steps_equal_one_pass_and_can_be_taken_back(grouped: NativeModel) -> None:
    decoder = grouped.decoder
    ids = torch.arange(40, 60)
    at_once = run(decoder, ids, 0)
    parts = torch.arange(20)[7:].split([1, 5, 2, 1, 4])
    again = torch.cat([run(decoder, ids[part], int(part[0])) for part in parts])
    torch.testing.assert_close(again, at_once[7:], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("first", [0, 1])
def test_attention_as_plain_products(
    grouped: NativeModel, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """As on a GPU, with rows from the middle of the buffers."""
    decoder, ids = grouped.decoder, torch.arange(40, 58).view(2, 9)
    decoder.reserve(3, 256)
    places = torch.tensor([[0], [4]]) + torch.arange(9)
    expected = decoder(decoder.embed(ids), places, 64, first)
    monkeypatch.setattr(decoders, "attend", decoders.attend_few)
    torch.testing.assert_close(decoder(decoder.embed(ids), places, 64, first), expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(("first", "start"), [(0, 0), (1, 0), (1, 7), (0, 40)])
def test_a_prompt_needs_no_mask(grouped: NativeModel, first: int, start: int) -> None:
    """Where all rows are known to begin at one place: behind a prefix, and in the middle of the buffers."""
    decoder, ids = grouped.decoder, torch.arange(20, 100).view(2, 40)
    decoder.reserve(3, 256)
    for kept in (decoder.keys, decoder.values):
        kept.copy_(torch.randn(kept.shape, generator=torch.Generator().manual_seed(1)))
    places = torch.arange(start, start + 40).expand(2, -1)
    expected = decoder(decoder.embed(ids), places, 128, first)
    for kept in (decoder.keys, decoder.values):
        kept[..., start + 40 :, :] = torch.nan  # is not looked at
    made = decoder(decoder.embed(ids), places, start + 40, first, start=start)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("recipes", [ALL, ON_CPU], ids=["device", "numpy"])
def test_prompts_are_run_without_a_mask(
    tiled: Path, recipes: Recipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, starts = model(tiled, recipes), list[int]()
    plain = made.decoder.plain

    def spy(
        x: torch.Tensor, places: torch.Tensor, reach: int, first: int = 0, start: int = -1, *ops: Elementwise
    ) -> torch.Tensor:
        if x.shape[1] > decoders.FEW:
            starts.append(start)
        return plain(x, places, reach, first, start, *ops)

    monkeypatch.setattr(made.decoder, "plain", spy)
    checkpoint = checkpoints.read(tiled)
    tokens = Tokens(checkpoint, checkpoint.config["text_config"]["vocab_size"])
    task = Task("detect", ("traffic light",))
    prompt, g = tokens.prompt(task, 2, 3, 4), grammar.build(task, tokens)
    made.generate(prompt, g, np.full((7, 64, 64, 3), 90, np.uint8), Limits(4))
    assert starts == [len(prompt.prefix)]


@pytest.mark.parametrize(
    ("device", "dtype", "card", "grouped", "expected"),
    [
        ("cpu", torch.float32, (0, 0), True, True),
        ("cuda", torch.bfloat16, (8, 0), True, True),
        ("cuda", torch.float16, (9, 0), True, True),
        ("cuda", torch.float32, (9, 0), True, False),
        ("cuda", torch.float16, (7, 5), True, False),
        ("cuda", torch.float32, (7, 5), False, True),
    ],
)
def test_where_no_mask_is_needed(
    device: str,
    dtype: torch.dtype,
    card: tuple[int, int],
    grouped: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: card)
    assert decoders.spares_scores(torch.device(device), dtype, grouped) == expected


@torch.inference_mode()
def test_with_a_mask_where_there_is_no_kernel_without(
    grouped: NativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, ids, places = grouped.decoder, torch.arange(20, 60)[None], torch.arange(40)[None]
    decoder.reserve(1, 64)
    expected = decoder(decoder.embed(ids), places, 40, start=0)
    monkeypatch.setattr(decoder, "maskless", False)
    monkeypatch.delattr(decoders, "attend_all")
    torch.testing.assert_close(
        decoder(decoder.embed(ids), places, 40, start=0), expected, atol=1e-5, rtol=1e-5
    )


@torch.inference_mode()
def test_rows_are_sequences_of_their_own(grouped: NativeModel) -> None:
    """Of different lengths, in one pass, filled up behind their ends; and with places to spare."""
    decoder = grouped.decoder
    ids = torch.arange(40, 70).view(3, 10)
    starts, counts = [0, 4, 9], [10, 6, 1]
    alone = [run(decoder, row, 0)[start:] for row, start in zip(ids, starts, strict=True)]
    decoder.reserve(3, 300)
    for row, start in enumerate(starts[1:], 1):
        run(decoder, ids[row, :start], 0, row)
    padded = torch.zeros(3, 10, dtype=torch.long)
    for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
        padded[row, :count] = ids[row, start:]
    places = torch.tensor(starts)[:, None] + torch.arange(10)
    together = decoder(decoder.embed(padded), places, 256)
    for row, (count, expected) in enumerate(zip(counts, alone, strict=True)):
        torch.testing.assert_close(together[row, :count], expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_numpy_steps_are_the_torch_steps(grouped: NativeModel) -> None:
    decoder, ids = grouped.decoder, torch.arange(40, 60)
    expected = run(decoder, ids, 0)
    steps = NumpySteps(decoder)
    found = np.concatenate([steps([(0, place, ids[place : place + 1].numpy())]) for place in range(10, 20)])
    np.testing.assert_allclose(found, expected[10:].numpy(), atol=1e-4)
    decoder.reserve(2, 256)
    other = ids.flip(0)
    for row, tokens in enumerate((ids, other)):
        run(decoder, tokens[:10], 0, row)
    found = steps([(1, 10, other[10:13].numpy()), (0, 10, ids[10:].numpy())])
    np.testing.assert_allclose(found[:3], run(decoder, other, 0)[10:13].numpy(), atol=1e-4)
    np.testing.assert_allclose(found[3:], expected[10:].numpy(), atol=1e-4)


@torch.inference_mode()
def test_buffers_grow(grouped: NativeModel) -> None:
    decoder = grouped.decoder
    before = run(decoder, torch.arange(40, 60), 0)
    assert not decoder.reserve(1, decoder.capacity)
    assert decoder.reserve(2, decoder.capacity + 1)
    assert decoder.capacity > 300
    torch.testing.assert_close(run(decoder, torch.arange(40, 60), 0, 1), before)


@torch.inference_mode()
def test_folded_normalisation(tiny: Path) -> None:
    """Grey, where normalised pixels are zero, and extremes; against normalising first."""
    tiles = np.stack([np.full((64, 64, 3), v, np.uint8) for v in (0, 127, 128, 255)])
    folded, plain = model(tiny), model(tiny, ON_CPU.without(["uint8_transfer"]))
    a, b = (m.vision(m.upload(tiles)) for m in (folded, plain))
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
