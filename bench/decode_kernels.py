"""The kernels of a decode step: their list, a compile check, and their times.

python3 bench/decode_kernels.py    # writes the tables of docs/kernels.md
python3 bench/decode_kernels.py --compile argus-256m --cards 87,90    # for GPUs that need not be present
python3 bench/decode_kernels.py --measure argus-256m --json bench/results/gpu_kernels.json    # on a GPU
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from argus_ros.core import checkpoint as checkpoints
from argus_ros.tools import machine
from argus_ros.vlm.decoding import choosing
from argus_ros.vlm.models import architecture, configurations, fused
from argus_ros.vlm.models.architecture import TextShape
from argus_ros.vlm.models.decoder import Decoder
from argus_ros.vlm.models.fused import Launch, Tuning
from argus_ros.vlm.models.weights import Weights

ROOT = Path(__file__).resolve().parent.parent
PAGE, RESULTS = ROOT / "docs" / "kernels.md", ROOT / "bench" / "results" / "gpu_kernels.json"
#: Models, those of the table by name first; positions that a step attends to, and output rows of a task.
TABLED = "argus-256m", "smolvlm-256m", "internvl3-2b"
MODELS = {
    "argus-nano": (256, 180),
    "argus-256m": (256, 1033),
    "argus-500m": (256, 1033),
    "smolvlm-256m": (1024, 49_000),
    "internvl3-2b": (3584, 151_000),
}
#: Tokens of the prompt in the table of long rows.
PROMPT = 96
#: Numbers of tokens for which a step is measured.
TOKENS = 1, 2, 4, 8, 16
DTYPE = torch.bfloat16
FLOATS = {"acc_ptr", "peak_ptr", "sum_ptr", "part_ptr", "logit_ptr"}
LONGS = {"place_ptr", "token_ptr", "count_ptr", "register_ptr", "next_ptr", "chain_ptr", "length_ptr"}
LONGS |= {"after_ptr", "to_register_ptr", "to_column_ptr"}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--compile", nargs="+", metavar="CONFIG", default=[])
    parser.add_argument("--cards", default="80,87,90", help="compute capabilities to compile for")
    parser.add_argument("--measure", nargs="+", metavar="CONFIG", default=[])
    parser.add_argument(
        "--rows", nargs="+", metavar="CONFIG", default=[], help="measure kernels for long rows"
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS, help="tokens of the measured steps")
    parser.add_argument("--each", action="store_true", help="also measure each kernel by itself")
    parser.add_argument("--device", default="cuda", help="cpu works with TRITON_INTERPRET=1, as a test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, after each measurement")
    given = parser.parse_args()
    if given.compile:
        for name in given.compile:
            for card in map(int, given.cards.split(",")):
                print(f"{name}, sm_{card}: {compiled(name, card)}", flush=True)
                print(f"{name}, sm_{card}: {compiled_rows(name, card)}", flush=True)
    elif given.rows:
        for name in given.rows:
            print(f"{name}: {measured_rows(name, torch.device(given.device))}", flush=True)
    elif given.measure:
        device = torch.device(given.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise SystemExit("this machine has no CUDA device")
        made: dict[str, Any] = {**machine.describe(), "kernels": {}}
        if device.type == "cuda":
            compile_ahead(given.measure, device, given.tokens, given.each)
        for name in given.measure:
            for found in measured(name, device, given.tokens, given.each):
                made["kernels"][name] = found
                if given.json:
                    given.json.write_text(json.dumps(made, indent=1) + "\n")
    else:
        marks = r"(<!-- kernels -->\n).*?(<!-- /kernels -->)"
        text = "\n\n".join(table(name) for name in TABLED)
        PAGE.write_text(
            re.sub(
                r"(<!-- rows -->\n).*?(<!-- /rows -->)",
                lambda found: f"{found[1]}{row_table(TABLED)}\n{found[2]}",
                PAGE.read_text(),
                flags=re.S,
            )
        )
        page = re.sub(marks, lambda found: f"{found[1]}{text}\n{found[2]}", PAGE.read_text(), flags=re.S)
        marks, text = marks.replace("kernels", "steps"), steps(json.loads(RESULTS.read_text()))
        page = re.sub(marks, lambda found: f"{found[1]}{text}\n{found[2]}", page, flags=re.S)
        PAGE.write_text(page)
    return 0


def steps(result: dict[str, Any]) -> str:
    """The results of ``--measure``."""
    where, versions = result["machine"], result["versions"]
    lines = [
        f"{where['gpu']}, driver {where['driver']}, torch {versions['torch']}, "
        f"triton {versions['triton']}; bfloat16, medians of steps in a CUDA graph; {result['date']}, commit "
        f"{result['commit']} ([command and all figures](../bench/results/{RESULTS.stem}.txt)):",
        "",
        "| | tokens | plain ms | fused ms | tuning | fused ms, each kernel with its best tuning |",
        "|---|---|---|---|---|---|",
    ]
    for model, counts in result["kernels"].items():
        for count, times in counts.items():
            each = times.get("kernels", {}).values()
            layers = shape_of(model).layers
            best = f"{sum(min(tried.values()) for tried in each) * layers / 1e3:.2f}" if each else ""
            way = min(
                (way for way, took in times.items() if isinstance(took, float) and way != "plain"),
                key=times.__getitem__,
            )
            lines.append(f"| {model} | {count} | {times['plain']:.2f} | {times[way]:.2f} | {way} | {best} |")
    return "\n".join(lines)


def shape_of(name: str) -> TextShape:
    with configurations.temporary(name, weights=False) as folder:
        return architecture.read(checkpoints.read(folder))[1]


def step(name: str, rows: int, count: int, tuning: Tuning) -> tuple[TextShape, list[tuple[str, Launch]]]:
    """All launches of one step in bfloat16, with one layer."""
    shape, (reach, columns) = shape_of(name), MODELS[name]
    found = list(fused.layer(shape, rows, count, reach, tuning, 2).items())
    found += [("logits", fused.head(shape, rows, columns, tuning, 2))]
    return shape, [*found, ("choose", fused.choice(rows, columns, 8))]


def table(name: str) -> str:
    """Launches and memory reads of a step of one token."""
    shape, launches = step(name, 1, 1, Tuning())
    lines = [
        f"**{name}**, {shape.layers} layers, a token that attends to {MODELS[name][0]} positions, bfloat16:",
        "",
        "| kernel | launches per step | blocks | read per launch | read per step |",
        "|---|---|---|---|---|",
    ]
    total = times_all = 0
    for kernel, launch in launches:
        times = 1 if kernel in ("logits", "choose") else shape.layers
        read = 2 * launch.numbers
        total, times_all = total + times * read, times_all + times
        lines.append(
            f"| {kernel} | {times} | {launch.blocks} | {read / 1e6:.2f} MB | {times * read / 1e6:.1f} MB |"
        )
    lines.append(f"| total | {times_all} | | | {total / 1e6:.0f} MB |")
    return "\n".join(lines)


def row_table(names: tuple[str, ...]) -> str:
    """Kernels and bytes between the products of a prompt and of a tile, in torch and in our kernels.

    Each operation reads its inputs and writes its outputs once; the plain sum and norm of a prompt are those
    of torch's fused operations.
    """
    lines = [
        "| | tokens | kernels, plain | MB, plain | kernels, ours | MB, ours |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        with configurations.temporary(name, weights=False) as folder:
            vision, text = architecture.read(checkpoints.read(folder))
        sides, heads = text.heads + 2 * text.kv_heads, text.heads
        turned = (text.heads + text.kv_heads) * text.head_dim
        new = text.kv_heads * text.head_dim
        # RoPE: cos, roll, addcmul; two writes to the cache; the order of the queries. Numbers per token.
        rope = 2 * turned + 2 * turned + 3 * turned + 4 * new + 2 * heads * text.head_dim
        plain = 4 * text.width + rope + 5 * text.mlp
        ours = 4 * text.width + 2 * sides * text.head_dim + 3 * text.mlp
        for what, count, layers, numbers, kernels in (
            ("prompt", PROMPT, text.layers, (plain, ours), (2 + 6 + 2, 2 + 1 + 1)),
            (
                "tile",
                vision.side**2,
                vision.layers,
                (2 * (3 + 2) * vision.width + 2 * vision.mlp, 2 * 4 * vision.width + 2 * vision.mlp),
                (2 * 2 + 1, 2 + 1),
            ),
        ):
            sizes = [f"{2e-6 * n * count * layers:.0f}" for n in numbers]
            launches = [n * layers for n in kernels]
            lines.append(
                f"| {name}, {what} | {count} | {launches[0]} | {sizes[0]} | {launches[1]} | {sizes[1]} |"
            )
    return "\n".join(lines)


@torch.inference_mode()
def measured_rows(name: str, device: torch.device) -> str:
    """Milliseconds of a prompt in torch's operations and with kernels for long rows."""
    from argus_ros.vlm.models.elementwise import TORCH, Kernels

    shape = shape_of(name)
    decoder = drawn(shape if device.type == "cuda" else replace(shape, layers=1), 256, device)
    x = torch.randn(1, PROMPT, shape.width, device=device, dtype=DTYPE)
    places = torch.arange(PROMPT, device=device)[None]
    timer, took = choosing.timer_of(device), []
    for ops in (TORCH, Kernels()):
        took.append(timer(lambda: decoder.plain(x, places, PROMPT, 0, 0, ops)))  # noqa: B023
    return f"a prompt of {PROMPT} tokens, plain {took[0]:.3f} ms, with kernels {took[1]:.3f} ms"


def compiled_rows(name: str, card: int) -> str:
    """Compile the kernels for long rows for a GPU, in bfloat16."""
    from argus_ros.vlm.models import elementwise, row_kernels

    with configurations.temporary(name, weights=False) as folder:
        vision, text = architecture.read(checkpoints.read(folder))
    count = 0
    for kernel, constants in elementwise.sizes(text, vision):
        compile_one(Launch(kernel, (1,), constants, 0, 4), card, row_kernels)
        count += 1
    return f"{count} kernels for long rows compiled"


def compiled(name: str, card: int) -> str:
    """Compile all kernels of steps of 1, 8 and 128 tokens for a GPU; returns the largest resource use."""
    import triton

    if triton.knobs.runtime.interpret:
        raise SystemExit("unset TRITON_INTERPRET: it disables compilation")
    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    most, spilt, memory, count = 0, 0, 0, 0
    for rows, tokens in ((1, 1), (1, 8), (8, 16)):
        for _, launch in step(name, rows, tokens, Tuning(launch_early=card >= 90))[1]:
            made = compile_one(launch, card)
            with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
                file.write(made.asm["ptx"])
                file.flush()
                target = re.findall(r"\.target (\w+)", made.asm["ptx"])[0]
                command = [str(assembler), "-v", f"-arch={target}", file.name, "-o", os.devnull]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
            most = max(most, *map(int, re.findall(r"Used (\d+) registers", said)))
            spilt = max(spilt, *map(int, re.findall(r"(\d+) bytes spill stores", said)))
            memory, count = max(memory, made.metadata.shared), count + 1
    return f"{count} kernels compiled; at most {most} registers, {spilt} bytes spilt, {memory} bytes shared"


def compile_one(launch: Launch, card: int, module: Any = None) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from argus_ros.vlm.models import kernels

    function = getattr(module or kernels, launch.kernel)
    early = card >= 90 and "PDL" in function.arg_names
    constants = {**launch.constants, **({"PDL": early} if "PDL" in function.arg_names else {})}
    kinds = {}
    for name in function.arg_names:
        if name in constants:
            kinds[name] = "constexpr"
        elif name.endswith("_ptr"):
            special = {"arrived_ptr": "*i32", "allowed_ptr": "*u8"} | dict.fromkeys(LONGS, "*i64")
            floats = FLOATS | ({"out_ptr"} if launch.kernel == "logits" else set())
            kinds[name] = "*fp32" if name in floats else special.get(name, "*bf16")
        else:
            kinds[name] = "fp32" if name in ("eps", "scale", "floor") else "i32"
    aligned = {
        (function.arg_names.index(name),): [["tt.divisibility", 16]]
        for name in kinds
        if name.endswith("_ptr") or name == "capacity"
    }
    options = {"num_warps": launch.warps, "num_stages": 2, "launch_pdl": early}
    source = ASTSource(function, kinds, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", card, 32), options=options)


class Drawn(Weights):
    """Weights that are drawn at random when they are requested, without files."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __contains__(self, name: str) -> bool:
        return name == "model.text_model.norm.weight"

    def take(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        scale = shape[-1] ** -0.5 if len(shape) > 1 else 1.0
        return torch.randn(shape, device=self._device, dtype=dtype or DTYPE) * scale


def drawn(shape: TextShape, reach: int, device: torch.device) -> Decoder:
    """A decoder with room for one answer."""
    decoder = Decoder(Drawn(device), replace(shape, vocabulary=64))
    decoder.reserve(1, reach)
    return decoder


def tunings(device: torch.device, each: bool) -> list[Tuning]:
    """The settings to measure for whole steps; with ``each`` for single kernels."""
    tried = Tuning.tried(device)
    if not each or device.type == "cpu":
        return tried
    blocks, early = tried[0].blocks, any(tuning.launch_early for tuning in tried)
    splits = {1: 64, 2: 128, 4: 256, 8: 512}
    return [
        Tuning(times * blocks, warps, splits[warps], early) for times in (1, 2, 4) for warps in (1, 2, 4, 8)
    ]


def inputs(count: int, width: int, reach: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens (1, count, width) and their positions, near the end of the cache."""
    x = torch.randn(1, count, width, device=device, dtype=DTYPE)
    return x, torch.arange(reach - 20, reach - 20 + count, device=device)[None]


@torch.inference_mode()
def warm(shape: TextShape, reach: int, device: torch.device, count: int, tuning: Tuning) -> str:
    """Compile the kernels of one measurement; returns an error or ""."""
    kernels = fused.Fused(drawn(replace(shape, layers=1), reach, device), tuning, tuning)
    kernels(*inputs(count, shape.width, reach, device), reach)
    return f"{count} tokens: {tuning} does not run" if kernels.one is None else ""


def compile_ahead(names: list[str], device: torch.device, tokens: list[int], each: bool) -> None:
    """Compile into Triton's cache on all cores in parallel: one after the other takes minutes."""
    started, ways = time.monotonic(), tunings(device, each=False)
    if each:
        ways += [way for way in tunings(device, each=True) if way not in ways]
    shapes = {name: shape_of(name) for name in names}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        jobs = [
            pool.submit(warm, shapes[name], MODELS[name][0], device, count, way)
            for name in names
            for count in tokens
            for way in ways
        ]
        for said in {str(job.exception() or job.result()) for job in jobs} - {""}:
            print(said, flush=True)
    print(f"compiled for {len(jobs)} passes in {time.monotonic() - started:.0f} s", flush=True)


@torch.inference_mode()
def measured(name: str, device: torch.device, tokens: list[int], each: bool) -> Iterator[dict[str, Any]]:
    """Milliseconds of a step by tokens, replayed with CUDA graphs; yields after each measurement."""
    shape, reach = shape_of(name), MODELS[name][0]
    decoder = drawn(shape if device.type == "cuda" else replace(shape, layers=1), reach, device)
    found: dict[str, Any] = {}
    timer = choosing.timer_of(device)
    for count in tokens:
        x, places = inputs(count, shape.width, reach, device)
        decoder.fused = None
        wanted = decoder(x, places, reach).float()
        times: dict[str, Any] = {"plain": timer(lambda: decoder(x, places, reach))}  # noqa: B023
        print(f"{name}, {count} tokens: plain {times['plain']:.4f} ms", flush=True)
        for tuning in Tuning.tried(device):
            kernels = fused.Fused(decoder, tuning, tuning)
            made = kernels(x, places, reach)
            if made is None:
                times[str(tuning)] = None
                continue
            off = float((made.float() - wanted).norm() / wanted.norm())
            times[str(tuning)] = timer(lambda: kernels(x, places, reach))  # noqa: B023
            print(
                f"{name}, {count} tokens: {tuning} {times[str(tuning)]:.4f} ms, off by {off:.1e}",
                flush=True,
            )
        found[str(count)] = times
        yield found
        if each:
            times["kernels"] = singly(decoder, x, places, reach, device)
            yield found


def singly(
    decoder: Decoder, x: Tensor, places: Tensor, reach: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Microseconds of each kernel by itself, averaged over the layers, by setting."""
    found: dict[str, dict[str, float]] = {}
    timer = choosing.timer_of(device)
    for tuning in tunings(device, each=True):
        kernels = fused.Fused(decoder, tuning, tuning)
        if kernels(x, places, reach) is None:
            continue
        planned = list(kernels.launches(x.clone(), places, reach))
        for name in dict.fromkeys(name for name, _ in planned):

            def run() -> None:
                for one, kernel in planned:  # noqa: B023
                    if one == name:  # noqa: B023
                        kernel()

            took = timer(run) * 1e3 / len(decoder.layers)
            found.setdefault(name, {})[str(tuning)] = round(took, 3)
    read = fused.layer(decoder.shape, 1, x.shape[1], reach, Tuning(), 2)
    for name, times in found.items():
        order = sorted(times, key=lambda tuning: times[tuning])
        rate = 2e-3 * read[name].numbers / times[order[0]] if name in read else 0
        shown = "; ".join(f"{times[tuning]:.2f} with {tuning}" for tuning in (*order[:3], order[-1]))
        print(f"  {name}: us {shown} ({rate:.0f} GB/s)", flush=True)
    best = sum(min(times.values()) for times in found.values()) * len(decoder.layers) / 1e3
    print(f"  together, each with its best: {best:.4f} ms", flush=True)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
