"""`argus bench` and `argus profile` end to end, on a checkpoint of 0.1 M parameters."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import layouts
import numpy as np
import pytest
import torch
from rosbags.rosbag2 import StoragePlugin, Writer
from served import fault_server

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core import preparation
from argus_ros.core.checkpoint import CheckpointError
from argus_ros.core.recipes import PRESETS, Recipes
from argus_ros.tools import bag, bench, bench_report, floor, profile, workload
from argus_ros.tools.main import main
from argus_ros.tools.pictures import photograph, pictures_for
from argus_ros.vlm.models import blank, configurations
from argus_ros.vlm.models.architecture import TextShape, VisionShape
from argus_ros.vlm.models.vision import Normalisation
from argus_ros.vlm.processors import stock_processor

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--rounds", "2", "--tokens", "7", "--size", "96x64", "--device", "cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blank.write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="module")
def results(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands write, each run once."""
    folder = tmp_path_factory.mktemp("results")
    model = ["--checkpoint", str(tiny), *QUICK]
    for name, command in {
        "whole": ["bench", *model, "--ladder", "--ablation"],
        "preprocess": ["bench", *model, "--only", "preprocess"],
    }.items():
        written = ["--json", str(folder / f"{name}.json"), "--picture", str(folder / f"{name}.svg")]
        assert main([*command, *written]) == 0
    image = folder / "frame.png"
    cv2.imwrite(str(image), np.full((48, 64, 3), 90, np.uint8))
    written = ["--json", str(folder / "profile.json"), "--html", str(folder / "profile.html")]
    assert main(["profile", *model, "--image", str(image), "--price-per-hour", "2", *written]) == 0
    return folder


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


@pytest.mark.slow
def test_bench(results: Path) -> None:
    measured = read(results / "whole.json")
    assert list(measured["presets"]) == ["stock", "paper", "realtime"]
    for figures in measured["presets"].values():
        for key in ("ttft_ms", "ms_per_token", "total_ms", "preprocess_ms"):
            assert 0 < figures[key]["p50"] <= figures[key]["p95"] <= figures[key]["max"]
        assert set(figures["ratio_to_stock"]) == {"ttft", "total", "preprocess"}
        assert figures["percent_of_floor"]["total_ms"] > 0
        assert figures["frames_per_second"] * figures["total_ms"]["p50"] == pytest.approx(1e3, rel=0.01)
    assert measured["presets"]["stock"]["ratio_to_stock"]["total"] == 1
    assert measured["presets"]["stock"]["recipes"] == []
    adds = [step["adds"] for step in measured["ladder"]]
    assert adds[:4] == ["stock", "direct_resize", "prompt_cache", "lean_modules"]
    assert [step["removes"] for step in measured["ablation"]] == adds[1:]
    for step, added in zip(measured["ladder"][1:], adds[1:], strict=True):
        assert added in step["recipes"]
    for step in measured["ablation"]:
        assert step["removes"] not in step["recipes"]
    drawn = ElementTree.parse(results / "whole.svg").getroot()
    assert len(drawn.findall("{*}rect")) == 1 + 3 + 3 * (3 + len(adds) + len(adds) - 1)
    said = bench_report.text(measured)
    assert "ladder" in said
    assert "ablation" in said
    assert "floor: TTFT" in said
    assert "hours for a million frames" in said
    assert "price" not in said


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models of the other architectures: several tiles, and InternVL's."""
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = {**small, "num_key_value_heads": 1}
    folder = tmp_path_factory.mktemp("families")
    siglip = {**configurations.SIGLIP, **small, "image_size": 64}
    vit = {**configurations.INTERN_VIT, **small, "image_size": 56}
    made = {
        "smolvlm": configurations.smolvlm(sizes, siglip, longest_edge=192, tokens=600),
        "internvl": configurations.internvl({**configurations.QWEN, **sizes}, vit, tokens=600),
    }
    for name, parts in made.items():
        configurations.save(parts, folder / name, torch.float32)
    return {name: folder / name for name in made}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smolvlm", "internvl"])
def test_presets_of_other_families_take_the_same_frame_to_as_many_tokens(
    name: str, families: dict[str, Path]
) -> None:
    setting = workload.Setting(families[name], tokens=5, device="cpu")
    runners = workload.runners(setting, ["stock", "stock+prompt_cache", "stock+direct_resize", "realtime"])
    frame = photograph((96, 64))
    for runner in runners.values():
        assert runner(frame).tokens == 5
    lengths = {r.inputs(frame)["input_ids"].shape[1] for n, r in runners.items() if n != "realtime"}
    assert lengths == {runners["realtime"].work(frame)[1]}


@pytest.mark.slow
def test_a_model_in_transformers_modules_is_measured_beside_plain_generate(tmp_path: Path) -> None:
    folder = layouts.GENERIC["Qwen2.5-VL"](tmp_path / "qwen")
    assert main(["bench", "--checkpoint", str(folder), *QUICK, "--json", str(tmp_path / "x.json")]) == 0
    presets = read(tmp_path / "x.json")["presets"]
    assert presets["stock"]["recipes"] == []
    assert presets["realtime"]["recipes"] == [
        "direct_resize",
        "uint8_transfer",
        "prompt_cache",
        "lean_modules",
    ]
    assert all(0 < p["preprocess_ms"]["p50"] < p["ttft_ms"]["p50"] for p in presets.values())
    assert (
        main(["bench", "--checkpoint", str(folder), *QUICK, "--ladder", "--json", str(tmp_path / "y.json")])
        == 0
    )
    assert [s["adds"] for s in read(tmp_path / "y.json")["ladder"]] == [
        "stock",
        "direct_resize",
        "prompt_cache",
        "lean_modules",
        "uint8_transfer",
    ]


@pytest.mark.slow
def test_bench_of_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with fault_server() as server:
        url = server.url
        assert main(["bench", "--server", url, *QUICK, "--json", str(tmp_path / "x.json")]) == 0
    figures = read(tmp_path / "x.json")["presets"]["server"]
    assert 0 < figures["preprocess_ms"]["p50"] < figures["ttft_ms"]["p50"] <= figures["total_ms"]["p50"]
    assert "some-model, 96x64" in capsys.readouterr().out
    assert main(["bench", "--server", url, *QUICK]) == 2
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_of_preprocessing_alone(results: Path) -> None:
    presets = read(results / "preprocess.json")["presets"]
    assert list(presets) == ["stock", "paper", "fast_processor", "realtime"]
    for figures in presets.values():
        assert figures["ratio_to_stock"]["preprocess"] > 0


def test_profile(results: Path) -> None:
    presets = read(results / "profile.json")["presets"]
    assert list(presets) == ["stock", "paper", "realtime"]
    for name, figures in presets.items():
        assert sum(figures["host_ms"].values()) == pytest.approx(figures["total_ms"], rel=0.01, abs=0.1)
        assert {"vision", "project", "prefill", "decode", "framework"} <= set(figures["host_ms"])
        assert len(figures["decode_steps_ms"]) == 6, name
        assert figures["bottleneck"].endswith(".")
        assert figures["hours_per_million"] == pytest.approx(figures["total_ms"] / 3.6, rel=0.01)
        assert figures["price_per_million"] == pytest.approx(2 * figures["hours_per_million"], rel=0.01)
    assert ["chosen" in figures for figures in presets.values()] == [False, False, True]
    assert "a pass of one token plain" in presets["realtime"]["chosen"]
    waits = {name: sum(figures["synchronisations"].values()) for name, figures in presets.items()}
    assert waits["realtime"] == 7  # once a token, to read the logits
    assert waits["stock"] > waits["realtime"]
    assert presets["stock"]["host_ms"].keys() >= {"resize", "normalise", "tokenise", "colour"}
    written = (results / "profile.html").read_text()
    assert written.count("<svg") == 6
    assert "http" not in written


def test_the_page_of_recipes_is_written_from_the_results(results: Path, tmp_path: Path) -> None:
    quality = {"f1": 0.5, "to_stock": -0.001, "to_stock_95": [-0.002, 0.001], "mean_difference_of_255": 0.5}
    pixels = {"checkpoint": "tiny", "scenes": 9, "split": "val", "pixels": {}}
    pixels["pixels"] = {"stock": quality, "direct_resize": quality}
    folder, page = tmp_path / "results", tmp_path / "recipes.md"
    shutil.copytree(results, folder)
    (folder / "pixels.json").write_text(json.dumps(pixels))
    shutil.copy(ROOT / "docs" / "recipes.md", page)
    tables = [
        sys.executable,
        str(ROOT / "bench" / "tables.py"),
        "--results",
        str(folder),
        "--page",
        str(page),
    ]
    subprocess.run(tables, check=True)
    written = page.read_text()
    of = {part.split("\n")[0]: part for part in written.split("\n## ")}
    for recipe in ("direct_resize", "prompt_cache", "lean_modules", "prefix_kv"):
        assert re.search(r"Measured:\n\n- tiny on .*added\s+in\s+turn", of[recipe], re.S), recipe
    assert "difference -0.0010" in " ".join(of["direct_resize"].split())
    assert "Measured: not yet: no such machine was available." in of["pinned_async"]
    assert of["Figures"].count("| realtime |") == 2
    assert "outside the model's own work: stock" in of["Figures"]
    subprocess.run(tables, check=True)
    assert page.read_text() == written


def test_without_direct_resize_the_tiles_are_the_stock_ones(tiny: Path) -> None:
    checkpoint, frame = checkpoints.read(tiny), photograph((96, 64))
    stock = workload.stock_tiles(stock_processor(checkpoint).image_processor, frame)
    prepared, tiles = workload.Preparation(checkpoint, Recipes())(frame)
    np.testing.assert_array_equal(tiles, stock)
    assert prepared.tiles == len(stock)
    assert np.any(workload.Preparation(checkpoint, Recipes(direct_resize=True))(frame)[1] != stock)


def test_the_frame_of_a_bag_is_profiled(tmp_path: Path) -> None:
    store = bag.type_store()
    header = store.types["std_msgs/msg/Header"](store.types["builtin_interfaces/msg/Time"](1, 0), "camera")
    rgb = photograph((32, 24))
    image = store.types[bag.IMAGE](header, 24, 32, "rgb8", 0, 96, rgb.reshape(-1))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/camera/image_raw", bag.IMAGE, typestore=store)
        writer.write(topic, 0, store.serialize_cdr(image, bag.IMAGE))
    options = argparse.Namespace(image=None, bag=tmp_path / "bag")
    np.testing.assert_array_equal(profile.picture(options), rgb[..., ::-1])


@pytest.mark.slow
def test_nothing_stays_around_what_was_profiled(tiny: Path) -> None:
    before = cv2.cvtColor, preparation.scale, Normalisation.apply
    main(["profile", "--checkpoint", str(tiny), *QUICK, "--preset", "realtime"])
    assert (cv2.cvtColor, preparation.scale, Normalisation.apply) == before


def test_every_recipe_that_is_named_as_a_remedy_is_one() -> None:
    named = {name for remedies in profile.REMEDIES.values() for name in remedies}
    assert named <= set(PRESETS["edge"].names)
    assert set(bench.ORDER) <= set(PRESETS["realtime"].names)
    assert set(profile.REMEDIES) == set(profile.STAGES) == set(profile.COLOURS)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["bench", "--config", "gpt-5"], "unknown configuration 'gpt-5'.*smolvlm-256m"),
        (["bench", "--checkpoint", "nowhere"], "no checkpoint 'nowhere'"),
        (["bench", "--tokens", "1"], "--tokens"),
        (["profile", "--image", "/dev/null"], "not a picture"),
        (["profile", "--preset", ","], "is empty"),
    ],
)
def test_mistakes_are_named(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert re.search(reason, capsys.readouterr().err)


@pytest.mark.parametrize("size", ["640", "0x480", "axb", "640x480x3"])
def test_a_size_that_is_none_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--size", size])
    assert "is not a size such as 640x480" in capsys.readouterr().err


def test_the_floor_counts_what_a_model_has_to_do() -> None:
    vision = VisionShape(768, 12, 12, 3072, 512, 16, 4, 1e-6)
    text = TextShape(576, 30, 9, 3, 64, 1536, 49280, 8192, 1e-5, 1e5)
    least = floor.compute(vision, text, 13, 870, 32, 49280, 2, floor.Rates(800e12, 2.5e12))
    # 85 M parameters see 1024 patches of 13 tiles, 106 M read 870 tokens: 2.3 and 0.18 Tflop and attention
    assert 2.6e12 < least.vision * 800e12 < 3.2e12
    assert 0.18e12 < least.prefill * 800e12 < 0.24e12
    assert least.step == pytest.approx((106e6 + 28e6) * 2 / 2.5e12, rel=0.2)
    assert least.total == pytest.approx(least.ttft + 31 * least.step)


def test_rates_are_measured() -> None:
    rates = floor.measure(torch.device("cpu"), torch.float32, 1 << 20)
    assert rates.operations > 1e8
    assert rates.bandwidth > 1e7


def test_an_unknown_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="internvl3-2b"):
        configurations.write("smolvlm", tmp_path)


def test_a_made_up_tokenizer_has_the_size_and_says_what_it_reads() -> None:
    tokenizer = configurations.make_tokenizer(2000, ["<pad>", "<image>"], pad_token="<pad>")
    assert len(tokenizer) == 2000
    ids = tokenizer("the red cone<image>")["input_ids"]
    assert tokenizer.convert_tokens_to_ids("<image>") == ids[-1] == 1999
    assert tokenizer.decode(ids[:-1]) == "the red cone"
    assert len(ids) < 10


@pytest.mark.parametrize("rounds", [1, 3])
def test_no_round_counts_before_everything_is_warm(rounds: int) -> None:
    """A GPU's graphs are recorded the second time that a shape is seen."""
    order = list[str]()

    def runner(name: str) -> Any:
        def run(_: np.ndarray) -> int:
            order.append(name)
            return order.count(name)

        return run

    samples = bench.interleave({"a": runner("a"), "b": runner("b")}, [np.zeros(1)], rounds)
    counted = [bench.WARM + 1 + turn for turn in range(rounds)]
    assert samples == {"a": counted, "b": counted}
    assert order[: 2 * bench.WARM] == ["a"] * bench.WARM + ["b"] * bench.WARM


def test_a_model_that_knows_the_scenes_is_measured_on_them() -> None:
    known, other = checkpoints.read("argus-nano"), checkpoints.read("argus-nano-drive")
    scenes = pictures_for(known, (160, 120), 2)
    assert [picture.shape for picture in scenes] == [(120, 160, 3)] * 2
    assert not np.array_equal(scenes[0], photograph((160, 120)))
    np.testing.assert_array_equal(pictures_for(other, (160, 120), 1)[0], photograph((160, 120)))
