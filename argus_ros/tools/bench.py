"""`argus bench`: the gain of the recipes, with presets side by side on the same weights and frames.

Ratios are computed within a round, in which every preset answers the same frame, so that other load on the
machine affects all of them.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.resources import engine_threads
from argus_ros.tools import energy, machine
from argus_ros.tools.bench_report import METRICS, draw, text

if TYPE_CHECKING:
    from argus_ros.tools.workload import EngineRunner, Runner, Sample, Setting

PRESETS = ("stock", "paper", "realtime")
#: The order in which the ladder adds recipes; those of the paper come first. Left out are fixed_shapes, which
#: is part of lean_modules, and recipes that need several frames: last_frame_draft, overlap, camera_batch.
ORDER = (
    "direct_resize",
    "prompt_cache",
    "pinned_async",
    "lean_modules",
    "uint8_transfer",
    "device_resize",
    "prefix_kv",
    "device_loop",
    "compiled_step",
    "fused_kernels",
    "jump_forward",
    "box_draft",
)
#: Frames before the measurement of each preset, at most as many as are measured.
WARM = 3
#: Number of different pictures.
PICTURES = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument(
        "--server", metavar="URL", help="measure an OpenAI-compatible server, http://HOST:PORT/v1[#MODEL]"
    )
    parser.add_argument("--presets", default=",".join(PRESETS), help="presets to compare with stock")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of every answer")
    parser.add_argument("--rounds", type=int, default=15, help="frames that each preset answers")
    parser.add_argument("--ladder", action="store_true", help="also add the recipes one after the other")
    parser.add_argument("--ablation", action="store_true", help="also take each away from realtime")
    parser.add_argument("--only", choices=["preprocess"], help="measure only this, without a model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the figures (.svg)")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments for the model and the device; shared with ``argus profile``."""
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--checkpoint", help="a shipped checkpoint's name, or a folder")
    model.add_argument(
        "--config",
        help="random weights of real sizes: smolvlm-256m, smolvlm-500m, smolvlm-2b, internvl3-2b, "
        "argus-256m, argus-500m, argus-2b or argus-nano (the default)",
    )
    parser.add_argument(
        "--size", type=_size, default="640x480", metavar="WxH", help="size of the camera's pictures"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all cores but one")
    parser.add_argument(
        "--price-per-hour",
        type=_price,
        default=0.0,
        metavar="P",
        help="of the machine, to price a million frames",
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 640x480")
    return int(match[1]), int(match[2])


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 < price < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a price per hour, such as 2.5")
    return price


def run(options: argparse.Namespace) -> int:
    if options.rounds < 1 or options.tokens < 2:
        raise ValueError("--rounds has to be at least 1 and --tokens at least 2")
    if options.server:
        try:
            measured = server(options)
        except OSError as error:  # ServerError and TimeoutError describe the failure
            raise ValueError(str(error)) from None
        print(text(measured))
        if options.json:
            options.json.write_text(json.dumps(measured, indent=1) + "\n")
        return 0
    with ExitStack() as stack:
        folder = find(options, stack, weights=not options.only)
        measured = preprocessing(options, folder) if options.only else everything(options, folder)
    print(text(measured))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")
    if options.picture:
        draw(measured, options.picture)
    return 0


def find(options: argparse.Namespace, stack: ExitStack, weights: bool = True) -> Path:
    """The checkpoint's folder; a generated one is removed with ``stack``."""
    if options.checkpoint:
        return checkpoints.find(options.checkpoint)
    from argus_ros.vlm.models import configurations

    return stack.enter_context(configurations.temporary(options.config or "argus-nano", weights))


# --- measuring --------------------------------------------------------------------------------------


def everything(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All presets, and the ladder and ablation if requested."""
    from argus_ros.tools import workload
    from argus_ros.tools.pictures import pictures_for
    from argus_ros.tools.workload import EngineRunner, GenericRunner, Setting, StockRunner

    presets = list(dict.fromkeys(["stock", *filter(None, options.presets.split(","))]))
    threads = engine_threads(options.threads)
    setting = Setting(folder, options.tokens, options.device, options.dtype, threads)
    everyone = workload.runners(setting, presets)
    stock = everyone["stock"]
    ladder, ablation = [], []
    if options.ladder or options.ablation:
        ours = [r for r in everyone.values() if isinstance(r, (EngineRunner, GenericRunner))]
        best = max(ours, key=lambda runner: len(runner.recipes.names), default=None)
        usable = in_force(best if best and best.recipes.names else EngineRunner(setting, "realtime"))
        ladder = steps(usable) if options.ladder else []
        ablation = [f"realtime-{name}" for name in usable] if options.ablation else []
        missing = [name for name in (*ladder, *ablation) if name not in everyone]
        everyone |= workload.runners(setting, missing)
    pictures = pictures_for(stock.checkpoint, options.size, PICTURES)
    samples = interleave(everyone, pictures, options.rounds)
    memory = {name: workload.peak_bytes(runner, pictures[0]) for name, runner in everyone.items()}
    figures = {
        name: {
            "recipes": list(everyone[name].recipes.names),
            **statistics(samples[name], samples["stock"]),
            "peak_memory_mb": round(memory[name] / 2**20, 1),
        }
        for name in everyone
    }
    counters = energy.meters(stock.device)
    for name in presets:
        frames = cycle(pictures)
        run = everyone[name]
        used = energy.joules(lambda: run(next(frames)), counters) if counters else {}  # noqa: B023
        figures[name] |= energy.cost(figures[name]["total_ms"]["p50"], used, options.price_per_hour)
    engine = next((r for r in everyone.values() if isinstance(r, EngineRunner)), None)
    floor = bottom(engine, setting, pictures[0], figures) if engine else {}
    return {
        **description(options, folder),
        "tokens": options.tokens,
        "rounds": options.rounds,
        "device": str(stock.device),
        "dtype": stock.dtype,
        "stock_processor": stock.processor_name if isinstance(stock, (StockRunner, GenericRunner)) else "",
        "presets": {name: figures[name] for name in presets},
        "ladder": [{"adds": name.rpartition("+")[2] or "stock", **figures[name]} for name in ladder],
        "ablation": [{"removes": name.rpartition("-")[2], **figures[name]} for name in ablation],
        "floor": floor,
    }


def server(options: argparse.Namespace) -> dict[str, Any]:
    """A server over HTTP: frames one after the other, all different, so that its caches have no effect."""
    from argus_ros.tools.pictures import photograph
    from argus_ros.tools.workload import Sample
    from argus_ros.vlm.engine.http_client import Client
    from argus_ros.vlm.engine.server import WARMING, encoded

    url, _, model = options.server.partition("#")
    client, samples = Client(url), []
    model = model or next(iter(client.models()), "")
    if not model:
        raise ValueError(f"{url}/models lists no models: add its name, as {url}#MODEL")
    for turn in range(-WARM, options.rounds):
        frame = photograph(options.size, turn + WARM)
        started = time.perf_counter()
        sent, _ = encoded(frame, 1 << 30)
        ready = time.perf_counter() - started
        content = [
            {"type": "image_url", "image_url": {"url": sent}},
            {"type": "text", "text": "Describe this image briefly."},
        ]
        body = {"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0}
        body |= {"max_tokens": options.tokens, "ignore_eos": True, "stream": True}
        body |= {"stream_options": {"include_usage": True}}
        reply = client.ask(body, time.monotonic() + WARMING)
        sample = Sample(ready, ready + reply.first, ready + reply.seconds, reply.tokens, reply.tokens - 1)
        samples += [sample] if turn >= 0 else []
    counts = sorted({sample.tokens for sample in samples})
    return {
        **machine.describe(),
        "model": model,
        "size": "{}x{}".format(*options.size),
        "server": url,
        "tokens": counts[-1],
        "rounds": options.rounds,
        "dtype": "over HTTP" if len(counts) == 1 else f"over HTTP, {counts[0]} to",
        "presets": {"server": {**statistics(samples, samples), "peak_memory_mb": 0.0}},
        "ladder": [],
        "ablation": [],
        "floor": {},
    }


def preprocessing(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Pixels to tiles only: the stock image processor, its fast version, and the engine's own preparation."""
    import cv2
    import torch

    from argus_ros.core.recipes import Recipes
    from argus_ros.tools import workload
    from argus_ros.tools.pictures import photograph
    from argus_ros.vlm.models.vision import Normalisation
    from argus_ros.vlm.processors import fast_processor, stock_processor

    threads = engine_threads(options.threads)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    checkpoint = checkpoints.read(folder)
    stock = stock_processor(checkpoint).image_processor
    fast, prepare = fast_processor(stock), workload.Preparation(checkpoint, Recipes(direct_resize=True))
    normalisation, asked = Normalisation.read(checkpoint), workload.picture_options(checkpoint)
    ways: dict[str, Callable[[np.ndarray], object]] = {
        "stock": lambda frame: stock([frame], return_tensors="pt", **asked),
        "paper": lambda frame: normalisation.apply(torch.from_numpy(prepare(frame)[1])),
        "fast_processor": lambda frame: fast([frame], return_tensors="pt", **asked),
        "realtime": prepare,
    }
    pictures = [photograph(options.size, seed) for seed in range(PICTURES)]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-WARM, options.rounds):
        for name in rotated(ways, turn):
            started = time.perf_counter()
            ways[name](pictures[turn % PICTURES])
            if turn >= 0:
                seconds[name].append(time.perf_counter() - started)
    figures = {}
    for name, values in seconds.items():
        ratio = ratios(values, seconds["stock"])
        figures[name] = {
            "preprocess_ms": spread(values),
            "ratio_to_stock": {"preprocess": ratio["p50"]},
            "ratio_spread": {"preprocess": [ratio["p10"], ratio["p90"]]},
        }
    tiles = len(prepare(pictures[0])[1])
    return {
        **description(options, folder),
        "stock_processor": type(stock).__name__,
        "rounds": options.rounds,
        "tiles": tiles,
        "presets": figures,
    }


def description(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    return {**machine.describe(), "model": folder.name, "size": "{}x{}".format(*options.size)}


def rotated(names: Mapping[str, object], turn: int) -> list[str]:
    """The names in rotated order, so that the order changes in each turn."""
    order = list(names)
    return order[turn % len(order) :] + order[: turn % len(order)]


def interleave(
    runners: Mapping[str, Runner], pictures: Sequence[np.ndarray], rounds: int
) -> dict[str, list[Sample]]:
    """Samples of every runner, one of each per round."""
    for runner in runners.values():
        for turn in range(WARM):
            runner(pictures[turn % len(pictures)])
    samples: dict[str, list[Sample]] = {name: [] for name in runners}
    for turn in range(rounds):
        for name in rotated(runners, turn):
            samples[name].append(runners[name](pictures[turn % len(pictures)]))
    return samples


def in_force(best: Runner) -> list[str]:
    """Recipes that this device and model support, in the ladder's order."""
    return [name for name in ORDER if name in best.recipes.names]


def steps(usable: Sequence[str]) -> list[str]:
    """The presets of the ladder: stock, then one more recipe each."""
    return ["+".join(["stock", *usable[:count]]) for count in range(len(usable) + 1)]


# --- figures ----------------------------------------------------------------------------------------


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and max in milliseconds."""
    values = np.asarray(seconds) * 1e3
    quantiles = {"p50": np.median(values), "p95": np.quantile(values, 0.95), "max": values.max()}
    return {name: round(float(value), 3) for name, value in quantiles.items()}


def ratios(seconds: Sequence[float], stock: Sequence[float]) -> dict[str, float]:
    """Speed-up over stock in each round: median, 10th and 90th percentile."""
    values = np.asarray(stock) / np.asarray(seconds)
    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (10, 50, 90)}


def statistics(samples: Sequence[Sample], stock: Sequence[Sample]) -> dict[str, Any]:
    """Figures of one preset, for the JSON file."""
    figures: dict[str, Any] = {}
    ratio, between = {}, {}
    for metric, key in METRICS.items():
        ours, theirs = ([getattr(s, metric) for s in each] for each in (samples, stock))
        figures[key] = spread(ours)
        against = ratios(ours, theirs)
        ratio[metric], between[metric] = against["p50"], [against["p10"], against["p90"]]
    figures["ms_per_token"] = spread([s.per_token for s in samples])
    figures["decode_passes"] = samples[0].passes
    return {**figures, "ratio_to_stock": ratio, "ratio_spread": between}


def bottom(
    engine: EngineRunner, setting: Setting, picture: np.ndarray, figures: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The floor; adds to every figure the percentage of this limit that it reaches."""
    import torch

    from argus_ros.tools import floor
    from argus_ros.vlm.models import architecture

    vision, shape = architecture.read(engine.engine.checkpoint)
    tiles, prompt, head = engine.work(picture)
    dtype = getattr(torch, engine.engine.info.dtype)
    step_bytes = floor.decoder_operations(shape)[0] // floor.MAC * dtype.itemsize
    rates = floor.measure(engine.device, dtype, step_bytes)
    least = floor.compute(vision, shape, tiles, prompt, setting.tokens, head, dtype.itemsize, rates)
    limits = {"ttft_ms": least.ttft, "ms_per_token": least.step, "total_ms": least.total}
    for figure in figures.values():
        figure["percent_of_floor"] = {
            key: round(100 * 1e3 * seconds / figure[key]["p50"], 3) for key, seconds in limits.items()
        }
    return {
        "gflops": round(rates.operations / 1e9, 1),
        "gbytes_per_second": round(rates.bandwidth / 1e9, 2),
        "tiles": tiles,
        "prompt_tokens": prompt,
        "vision_ms": round(least.vision * 1e3, 4),
        "prefill_ms": round(least.prefill * 1e3, 4),
        **{key: round(seconds * 1e3, 4) for key, seconds in limits.items()},
    }
