"""`argus profile`: where the time of one frame goes, and which recipe would save most of it.

A frame starts as the bytes of a camera's message and ends as the bytes of the answer's message. Stages do not
overlap; ``framework`` is the time between them. Messages are read and written with `rosbags`, so that no ROS
is needed; without `rosbags` these two stages are left out.
"""

from __future__ import annotations

import argparse
import html
import importlib.util
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from argus_ros.core import preparation, recipes
from argus_ros.core.image import ImageError
from argus_ros.core.resources import engine_threads
from argus_ros.tools import bench, bench_report, energy, machine

if TYPE_CHECKING:
    from argus_ros.tools.tracing import Patches, Trace
    from argus_ros.tools.workload import EngineRunner, Runner, StockRunner

#: In the order of a frame.
STAGES = (
    *("deserialise", "colour", "resize", "tile", "normalise", "tokenise", "copy"),
    *("vision", "project", "prefill", "decode", "framework", "parse", "publish"),
)
#: Stages that are the model's own work.
MODEL = ("vision", "project", "prefill", "decode")
#: Recipes that shorten a stage, the most effective first.
REMEDIES = {
    "deserialise": ("overlap",),
    "colour": ("direct_resize", "overlap"),
    "resize": ("direct_resize", "device_resize", "overlap"),
    "tile": ("direct_resize", "device_resize", "overlap"),
    "normalise": ("direct_resize", "uint8_transfer"),
    "tokenise": ("prompt_cache",),
    "copy": ("uint8_transfer", "pinned_async"),
    "vision": ("fixed_shapes", "compiled_step", "token_budget", "camera_batch"),
    "project": ("lean_modules", "compiled_step", "token_budget"),
    "prefill": ("prefix_kv", "lean_modules", "compiled_step", "token_budget"),
    "decode": ("lean_modules", "compiled_step", "device_loop", "jump_forward", "last_frame_draft"),
    "framework": ("lean_modules", "device_loop", "compiled_step"),
    "parse": ("overlap",),
    "publish": ("overlap",),
}
COLOURS = {
    "deserialise": "#b5651d",
    "colour": "#e08e45",
    "resize": "#d95f02",
    "tile": "#f2b134",
    "normalise": "#e6d72a",
    "tokenise": "#8f9779",
    "copy": "#c94c4c",
    "vision": "#1b6ca8",
    "project": "#3f8fc4",
    "prefill": "#74b3ce",
    "decode": "#9ed2c6",
    "framework": "#b8b8b8",
    "parse": "#7a5c99",
    "publish": "#4b3869",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bench.add_model_arguments(parser)
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument("--image", type=Path, help="a picture to use as the frame")
    picture.add_argument("--bag", type=Path, help="a bag whose first picture is the frame")
    parser.add_argument("--preset", default="stock,paper,realtime", help="one or several, comma-separated")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of the answer")
    parser.add_argument("--rounds", type=int, default=7, help="frames per preset; the median is shown")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with bars and timelines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")


def run(options: argparse.Namespace) -> int:
    from argus_ros.tools import workload

    if options.rounds < 1 or options.tokens < 2:
        raise ValueError("--rounds has to be at least 1 and --tokens at least 2")
    frame = picture(options)
    presets = list(dict.fromkeys(filter(None, options.preset.split(","))))
    if not presets:
        raise ValueError(f"--preset is empty; presets are {', '.join(recipes.PRESETS)}")
    with ExitStack() as stack:
        folder = bench.find(options, stack)
        threads = engine_threads(options.threads)
        setting = workload.Setting(folder, options.tokens, options.device, options.dtype, threads)
        runners = workload.runners(setting, presets)
        profiles = {
            name: profile(runner, frame, options.rounds, options.price_per_hour)
            for name, runner in runners.items()
        }
    size = f"{frame.shape[1]}x{frame.shape[0]}"
    measured = {
        **machine.describe(),
        "model": folder.name,
        "size": size,
        "tokens": options.tokens,
        "presets": profiles,
    }
    print(text(measured))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")
    if options.html:
        options.html.write_text(page(measured))
        print(f"\nwrote {options.html}")
    return 0


def picture(options: argparse.Namespace) -> np.ndarray:
    """The frame, (height, width, 3) uint8 BGR, as from a camera."""
    if options.image:
        found = cv2.imread(str(options.image), cv2.IMREAD_COLOR)
        if found is None:
            raise ValueError(f"{options.image} is not a picture that OpenCV can read")
        return found
    if options.bag:
        from argus_ros.core.image import decode
        from argus_ros.tools.bag import Bag

        with Bag(options.bag) as bag:
            for frame in bag.frames(bag.cameras()):
                return np.ascontiguousarray(decode(frame.image).rgb()[..., ::-1])
        raise ImageError(f"{options.bag} has no picture")
    from argus_ros.tools.pictures import photograph

    return np.ascontiguousarray(photograph(options.size)[..., ::-1])


# --- measuring --------------------------------------------------------------------------------------


def profile(runner: Runner, frame: np.ndarray, rounds: int, price: float = 0.0) -> dict[str, Any]:
    """The stages of the median round; the synchronisations of another round; and the cost."""
    from argus_ros.tools import workload
    from argus_ros.tools.tracing import counting

    message = _Message(frame)
    for _ in range(bench.WARM):
        passes = runner(cv2.cvtColor(message.read(), cv2.COLOR_BGR2RGB)).passes
        message.answer()
    traces = sorted((_trace(runner, message) for _ in range(rounds)), key=lambda trace: trace.total)
    middle = traces[len(traces) // 2]
    counted = _trace(runner, message, counting)
    host, device = middle.seconds(), middle.device_seconds()
    rgb, counters = np.ascontiguousarray(frame[..., ::-1]), energy.meters(runner.device)
    used = energy.joules(lambda: runner(rgb), counters) if counters else {}
    model = sum(host.get(stage, 0.0) for stage in MODEL)
    return {
        "recipes": list(runner.recipes.names),
        "total_ms": round(middle.total * 1e3, 3),
        "host_ms": {stage: round(host[stage] * 1e3, 3) for stage in STAGES if stage in host},
        "device_ms": {stage: round(device[stage] * 1e3, 3) for stage in STAGES if stage in device},
        "decode_steps_ms": _steps([s.own for s in middle.spans if s.stage == "decode"], passes),
        "outside_model_percent": round(100 * (1 - model / middle.total), 1),
        "synchronisations": {stage: counted.syncs[stage] for stage in STAGES if stage in counted.syncs},
        "peak_memory_mb": round(workload.peak_bytes(runner, rgb) / 2**20, 1),
        **energy.cost(middle.total * 1e3, used, price),
        "bottleneck": bottleneck(host, runner.recipes, workload.usable(runner)),
        **({"chosen": runner.chosen} if isinstance(runner, workload.EngineRunner) else {}),
        "timeline_ms": [[s.stage, round(s.start * 1e3, 3), round(s.end * 1e3, 3)] for s in middle.spans],
    }


def _steps(spans: list[float], passes: int) -> list[float]:
    """Milliseconds of each pass; every pass has the same number of spans (of layers and of the output)."""
    each = max(len(spans) // max(passes, 1), 1)
    return [round(sum(spans[i : i + each]) * 1e3, 3) for i in range(0, len(spans), each)]


def _trace(runner: Runner, message: _Message, also: Callable[[Trace], Any] | None = None) -> Trace:
    """Run one frame with spans around its stages."""
    from argus_ros.tools.tracing import Patches, Trace
    from argus_ros.tools.workload import EngineRunner, StockRunner

    trace = Trace(runner.device.type == "cuda")
    with Patches(trace) as patches, ExitStack() as stack:
        if isinstance(runner, StockRunner):
            _stock(patches, runner)
        elif isinstance(runner, EngineRunner):
            _engine(patches, runner)
        _prepared(patches)
        if also:
            stack.enter_context(also(trace))
        trace.began = time.perf_counter()
        with message.span(trace, "deserialise"):
            bgr = message.read()
        with trace.span("colour"):
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        runner(rgb)
        with message.span(trace, "publish"):
            message.answer()
        trace.finish()
    return trace


class _Message:
    """A camera's message and an answer's message as bytes."""

    def __init__(self, frame: np.ndarray) -> None:
        self._frame = frame
        self._store: Any = None
        if importlib.util.find_spec("rosbags"):
            from argus_ros.tools import bag

            try:
                self._store = bag.type_store()
            except OSError:  # without the message definitions
                return
            types, (height, width) = self._store.types, frame.shape[:2]
            header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "camera")
            image = types[bag.IMAGE](header, height, width, "bgr8", 0, 3 * width, frame.reshape(-1))
            self._bytes, self._kind = self._store.serialize_cdr(image, bag.IMAGE), bag.IMAGE
            box = types["argus_ros/msg/Detection"]("cone", "", 0.9, 1.0, 2.0, 3.0, 4.0, "")
            self._answer = types["argus_ros/msg/DetectionArray"](
                header, "camera", width, height, "model", "detect", "", 0, 0.0, 0.0, [box] * 5
            )

    def span(self, trace: Trace, stage: str) -> AbstractContextManager[None]:
        """A span around reading or writing, where these are measured."""
        return trace.span(stage) if self._store else nullcontext()

    def read(self) -> np.ndarray:
        if self._store is None:
            return self._frame
        image = self._store.deserialize_cdr(self._bytes, self._kind)
        return np.asarray(image.data).reshape(image.height, image.width, 3)

    def answer(self) -> None:
        if self._store is not None:
            self._store.serialize_cdr(self._answer, "argus_ros/msg/DetectionArray")


def _prepared(patches: Patches) -> None:
    """Spans in this package's preparation."""
    from argus_ros.tools import workload

    patches.around(cv2, "cvtColor", "colour")
    patches.around(preparation, "scale", "resize")
    patches.around(workload, "fill", "tile")


def _stock(patches: Patches, runner: StockRunner) -> None:
    """Spans in transformers' processor and model."""
    images, model = runner.processor.image_processor, runner.model
    for name, stage in {
        "process_image": "colour",
        "resize": "resize",
        "rescale": "normalise",
        "normalize": "normalise",
        "rescale_and_normalize": "normalise",
        "_preprocess": "tile",
        "preprocess": "tile",
    }.items():
        patches.around(images, name, stage)
    patches.put(runner.processor, "tokenizer", _Tokenizer(runner.processor.tokenizer, patches.trace))
    patches.around(runner.processor, "get_text_with_replacements", "tokenise")
    patches.around(runner, "encode", "tokenise")
    patches.around(type(runner.reference.normalisation), "apply", "normalise")
    patches.around(runner, "move", "copy")
    patches.around(runner.processor, "decode", "parse")
    steps: list[None] = []

    def step() -> str:
        steps.append(None)
        return "prefill" if len(steps) == 1 else "decode"

    inner = model.model
    for names, stage in (
        (("vision_model", "vision_tower"), "vision"),
        (("connector", "multi_modal_projector"), "project"),
    ):
        module = next(getattr(inner, name) for name in names if hasattr(inner, name))
        patches.hook(module, lambda stage=stage: stage)  # type: ignore[misc]
    patches.hook(getattr(inner, "text_model", None) or inner.language_model, step)
    patches.hook(model.lm_head, lambda: "prefill" if len(steps) <= 1 else "decode")


class _Tokenizer:
    """A tokenizer that records its calls as spans."""

    def __init__(self, tokenizer: Any, trace: Trace) -> None:
        self._tokenizer, self._trace = tokenizer, trace

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with self._trace.span("tokenise"):
            return self._tokenizer(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def _engine(patches: Patches, runner: EngineRunner) -> None:
    """Spans in the engine."""
    from argus_ros.vlm.decoding import loop
    from argus_ros.vlm.formats import answers

    model: Any = runner.model
    trace, vision = patches.trace, model.vision
    steps: list[None] = []

    def logits(head: Any, hidden: Any) -> Any:
        steps.append(None)
        if not trace.cuda:  # no copy to the host without a device
            trace.blocked()
        with trace.span("prefill" if len(steps) == 1 else "decode"):
            return call(head, hidden)

    patches.around(runner, "question", "tokenise")
    patches.around(model.upload, "cut", "resize")
    patches.put(model, "upload", trace.wrap("copy", model.upload))
    tower = vision.function  # its parts are invisible when a CUDA graph is replayed
    patches.put(model, "vision", trace.wrap("vision", vision))
    patches.put(tower, "parts", replace(tower.parts, project=trace.wrap("project", tower.parts.project)))
    patches.around(model, "prefill", "prefill")
    patches.around(model, "append", "decode")
    patches.around(loop.DeviceLoop, "launch", "decode")
    patches.around(loop.Download, "read", "decode")
    kind = type(model.head(runner.grammar))
    call = kind.__call__
    patches.put(kind, "__call__", logits)
    patches.around(answers, "detections", "parse")
    patches.around(answers, "text", "parse")


def bottleneck(host: dict[str, float], on: recipes.Recipes, usable: recipes.Recipes) -> str:
    """A sentence on the longest stage and the recipe that shortens it, among the usable recipes."""
    total = sum(host.values())
    stage = max(host, key=lambda name: host[name])
    share = f"{stage} takes {100 * host[stage] / total:.0f}% of a frame ({host[stage] * 1e3:.1f} ms)"
    missing = [name for name in REMEDIES[stage] if name in usable.names and name not in on.names]
    if missing:
        return f"{share}; recipe {missing[0]} shortens it: {recipes.doc(missing[0])}."
    return f"{share}; every recipe that shortens it and works here is on."


# --- showing ----------------------------------------------------------------------------------------


def text(measured: dict[str, Any]) -> str:
    profiles = measured["presets"]
    device = any(p["device_ms"] for p in profiles.values())
    header = ["ms of a frame", *profiles]
    rows = []
    for stage in STAGES:
        if any(stage in p["host_ms"] for p in profiles.values()):
            rows.append([stage, *(_cell(p, stage, device) for p in profiles.values())])
    rows.append(["total", *(f"{p['total_ms']:.2f}" for p in profiles.values())])
    rows.append(["outside the model", *(f"{p['outside_model_percent']:.0f}%" for p in profiles.values())])
    rows.append(["peak memory MB", *(f"{p['peak_memory_mb']:.0f}" for p in profiles.values())])
    rows += energy.rows(profiles)
    waits = [str(sum(p["synchronisations"].values())) for p in profiles.values()]
    gpu = measured["machine"]["gpu"]
    rows.append(["blocking synchronisations" if gpu else "would block on a GPU", *waits])
    where = gpu or f"{measured['machine']['processor']}, {measured['machine']['cores']} cores"
    lines = [f"{measured['model']}, {measured['size']}, {measured['tokens']} tokens, on {where}"]
    if device:
        lines.append("host / device")
    lines += ["", *bench_report.table(header, rows), ""]
    lines += [f"{name}: {p['bottleneck']}" for name, p in profiles.items()]
    return "\n".join(
        [*lines, *(f"{n}, by timing: {p['chosen']}" for n, p in profiles.items() if "chosen" in p)]
    )


def _cell(figures: dict[str, Any], stage: str, device: bool) -> str:
    if stage not in figures["host_ms"]:
        return ""
    cell = f"{figures['host_ms'][stage]:.2f}"
    steps = len(figures["decode_steps_ms"])
    if stage == "decode" and steps:
        cell = f"({steps} x {figures['host_ms'][stage] / steps:.2f}) {cell}"
    return f"{cell} / {figures['device_ms'].get(stage, 0.0):.2f}" if device else cell


PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>
body{{font:14px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}}
svg{{width:100%;display:block;margin:.3em 0 1.2em}}h2{{margin:1.5em 0 .2em}}
table{{border-collapse:collapse}}td,th{{padding:.15em .8em;text-align:right;border-bottom:1px solid #ddd}}
td:first-child,th:first-child{{text-align:left}}i{{display:inline-block;width:.9em;height:.9em;margin-right:.4em}}
</style><h1>{title}</h1><p>{facts}</p>
<h2>One frame by stage, to scale</h2>{bars}<table>{table}</table>
<h2>Timelines</h2>{timelines}"""


def page(measured: dict[str, Any]) -> str:
    """A self-contained page: a stacked bar for each preset, the figures and the timelines."""
    profiles = measured["presets"]
    longest = max(p["total_ms"] for p in profiles.values())
    bars, timelines = "", ""
    for name, p in profiles.items():
        at, parts = 0.0, []
        for stage in STAGES:
            width = p["host_ms"].get(stage, 0.0)
            parts.append((stage, at, at + width))
            at += width
        sentence = html.escape(p["bottleneck"])
        bars += f"<b>{html.escape(name)}</b>, {p['total_ms']:.1f} ms. {sentence}{_bar(parts, longest)}"
        timelines += (
            f"<b>{html.escape(name)}</b>, {p['total_ms']:.1f} ms{_bar(p['timeline_ms'], p['total_ms'])}"
        )
    head = "".join(f"<th>{html.escape(name)}" for name in ("ms", *profiles))
    body = ""
    for stage in STAGES:
        cells = "".join(
            f"<td>{p['host_ms'][stage]:.2f}" if stage in p["host_ms"] else "<td>" for p in profiles.values()
        )
        body += f"<tr><td><i style='background:{COLOURS[stage]}'></i>{stage}{cells}"
    where = measured["machine"]["gpu"] or measured["machine"]["processor"]
    facts = f"{where}; commit {measured['commit']}; {measured['date']}; " + ", ".join(
        f"{name} {version}" for name, version in measured["versions"].items()
    )
    title = html.escape(f"{measured['model']}, {measured['size']}, {measured['tokens']} tokens")
    return PAGE.format(
        title=title, facts=html.escape(facts), bars=bars, table=f"<tr>{head}{body}", timelines=timelines
    )


def _bar(parts: list[Any], length: float) -> str:
    """Spans (stage, start, end) as a bar; ``length`` is its whole width."""
    drawn = "".join(
        f'<rect x="{1000 * start / length:.2f}" width="{max(1000 * (end - start) / length, 0.2):.2f}" '
        f'height="34" fill="{COLOURS[stage]}"><title>{stage} {end - start:.2f} ms</title></rect>'
        for stage, start, end in parts
        if end > start
    )
    return f'<svg viewBox="0 0 1000 34" height="34" preserveAspectRatio="none">{drawn}</svg>'
