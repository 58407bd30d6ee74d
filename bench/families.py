"""Measures the recipes for models in transformers' own modules, as a table: `python3 bench/families.py`.

All times are of the CPU, of one thread, so that other work on the machine does not count.
Each family's image processor has its published sizes; the model is as small as those of the tests, so that
what is compared is the host's part. Beside PIL stands torchvision, where it is installed; of a wheel whose
compiled operators do not load, as PyPI's beside a torch for the CPU, its transforms are used, which are plain
torch.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:1] = [str(ROOT), str(ROOT / "test")]


#: The recipes without those that are about how pixels reach the model: as floats, through a convolution.
BEFORE = "realtime-uint8_transfer-lean_modules"


@contextmanager
def operators_declared() -> Iterator[None]:
    """Load torchvision without its compiled operators, which image processors do not use."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        yield
    except RuntimeError:  # "operator torchvision::nms does not exist"
        import torch

        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        yield
        del library
    else:
        yield


def milliseconds(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Medians of CPU time, the ways in turn within each round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-2, rounds):
        for name, way in ways.items():
            started = time.thread_time()
            way()
            if turn >= 0:
                seconds[name].append(time.thread_time() - started)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def image_processors(found: Any) -> dict[str, Any]:
    """A checkpoint's image processors: transformers' with PIL, with torchvision if installed, and ours."""
    from argus_ros.vlm import fast_processor

    name = type(found).__name__.removesuffix("Pil")
    place, _, module = type(found).__module__.rpartition(".")
    module = module.replace("_pil_", "_")
    settings = json.loads(found.to_json_string())
    pil = importlib.import_module(f"{place}.{module.replace('processing_', 'processing_pil_')}")
    made = {"PIL": getattr(pil, f"{name}Pil").from_dict(settings)}
    made["ours"] = fast_processor(made["PIL"])
    if importlib.util.find_spec("torchvision"):
        made["torchvision"] = getattr(importlib.import_module(f"{place}.{module}"), name).from_dict(settings)
    return made


def tiling(frame: Any, rounds: int) -> Iterator[tuple[str, dict[str, float]]]:
    """The image processors of the native families, which cut pictures into tiles, by themselves."""
    import PIL.Image

    from argus_ros.core import checkpoint as checkpoints
    from argus_ros.vlm.models import configurations
    from argus_ros.vlm.processors import stock_processor

    for name in ("smolvlm-256m", "internvl3-2b"):
        with configurations.temporary(name, weights=False) as folder:
            checkpoint = checkpoints.read(folder)
            made, asked = (
                image_processors(stock_processor(checkpoint).image_processor),
                checkpoint.native.asked,
            )
        picture = PIL.Image.fromarray(frame)
        ways = {way: partial(p, picture, return_tensors="pt", **asked) for way, p in made.items()}
        yield name, milliseconds(ways, rounds)


def frames(folder: Path, frame: Any, rounds: int) -> dict[str, dict[str, float]]:
    """CPU milliseconds of a frame until the model can begin and to the first token, by preset."""
    import PIL.Image
    import torch

    from argus_ros.core.protocol import EngineConfig
    from argus_ros.core.types import Task
    from argus_ros.vlm.engine.generic import GenericEngine

    engines = {
        preset: GenericEngine(
            EngineConfig(str(folder), "transformers", device="cpu", dtype="float32", preset=preset, threads=1)
        )
        for preset in ("stock", BEFORE, "realtime")
    }
    seconds: dict[str, list[tuple[float, float]]] = {preset: [] for preset in engines}
    for turn in range(-2, rounds):
        for preset, engine in engines.items():
            question = engine.format.questions(Task("caption"))[0]
            started = time.thread_time()
            with torch.inference_mode():
                given = engine.to_device(engine.inputs(question, PIL.Image.fromarray(frame)))
                ready = time.thread_time()
                engine.model.generate(**given, do_sample=False, num_beams=1, max_new_tokens=1)
            if turn >= 0:
                seconds[preset].append((ready - started, time.thread_time() - started))
    return {
        preset: {
            part: 1e3 * statistics.median(values)
            for part, values in zip(("preprocess", "ttft"), zip(*each, strict=True), strict=True)
        }
        for preset, each in seconds.items()
    }


def row(name: str, alone: dict[str, float], whole: dict[str, dict[str, float]] | None) -> str:
    vision = alone.get("torchvision")
    cells = [
        name,
        f"{alone['PIL']:.1f}",
        f"{vision:.1f}" if vision else "-",
        f"{alone['ours']:.1f}",
        f"{alone['PIL'] / alone['ours']:.1f}",
        f"{vision / alone['ours']:.1f}" if vision else "-",
    ]
    for part in ("preprocess", "ttft") if whole else ():
        assert whole
        stock, before, ours = (whole[preset][part] for preset in ("stock", BEFORE, "realtime"))
        cells += [f"{stock:.1f}", f"{ours:.1f}", f"{stock / ours:.2f}", f"{before / ours:.2f}"]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="1280x720", metavar="WxH")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", help="a family's name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    layouts: Any = importlib.import_module("layouts")  # of the tests
    with operators_declared():
        import cv2
        import PIL.Image
        import torch
        from transformers.utils import logging

        from argus_ros.core import checkpoint as checkpoints
        from argus_ros.tools import machine
        from argus_ros.tools.pictures import photograph
        from argus_ros.vlm.engine.generic_loading import processor_of

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        frame, figures = photograph((width, height)), {}
        heads = ["PIL ms", "torchvision ms", "ours ms", "x PIL", "x torchvision"]
        for part in ("host", "TTFT"):
            heads += [f"{part} stock ms", "ours ms", "x", "x by levels and products"]
        print(f"| {options.size} | {' | '.join(heads)} |\n|{'---|' * (1 + len(heads))}")
        for name, write in layouts.PUBLISHED.items():
            if options.only not in (None, name):
                continue
            with tempfile.TemporaryDirectory() as temporary:
                folder = write(Path(temporary) / name)
                found = processor_of(checkpoints.read(folder, "transformers")).image_processor
                picture, made = PIL.Image.fromarray(frame), image_processors(found)
                ways = {way: partial(p, picture, return_tensors="pt") for way, p in made.items()}
                alone = milliseconds(ways, options.rounds)
                whole = frames(folder, frame, options.rounds)
            figures[name] = {"processor_ms": alone, "frame_ms": whole}
            print(row(name, alone, whole), flush=True)
        for name, alone in tiling(frame, options.rounds):
            if options.only in (None, name):
                figures[name] = {"processor_ms": alone}
                print(row(name, alone, None), flush=True)
    if options.json:
        measured = {**machine.describe(), "size": options.size, "families": figures}
        options.json.write_text(json.dumps(measured, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
