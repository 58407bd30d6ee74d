"""The kernels of a decode step: which there are, whether they compile, and how long they take.

python3 bench/kernels.py                             # writes the table of docs/kernels.md
python3 bench/kernels.py --compile argus-256m --cards 87,90    # for cards that need not be here
python3 bench/kernels.py --measure argus-256m smolvlm-256m --json bench/results/gpu_kernels.json   # on a GPU
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from argus_ros.core import checkpoint as checkpoints
from argus_ros.tools import machine
from argus_ros.vlm import architecture, configurations, fused
from argus_ros.vlm.architecture import TextShape
from argus_ros.vlm.fused import Launch, Tuning

PAGE = Path(__file__).resolve().parent.parent / "docs" / "kernels.md"
#: Models of the table, places that a step of theirs sees, and output rows of a task.
MODELS = {"argus-256m": (256, 1033), "smolvlm-256m": (1024, 49_000), "internvl3-2b": (3584, 151_000)}
#: Tokens that a step is measured with.
TOKENS = 1, 2, 4, 8, 16
RUNS = 30
FLOATS = {"acc_ptr", "peak_ptr", "sum_ptr", "part_ptr", "logit_ptr"}
LONGS = {"place_ptr", "token_ptr", "count_ptr", "register_ptr", "next_ptr", "chain_ptr", "length_ptr"}
LONGS |= {"after_ptr", "to_register_ptr", "to_column_ptr"}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--compile", nargs="+", metavar="CONFIG", default=[])
    parser.add_argument("--cards", default="80,87,90", help="compute capabilities to compile for")
    parser.add_argument("--measure", nargs="+", metavar="CONFIG", default=[])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    given = parser.parse_args()
    if given.compile:
        for name in given.compile:
            for card in map(int, given.cards.split(",")):
                print(f"{name}, sm_{card}: {compiled(name, card)}", flush=True)
    elif given.measure:
        made = {**machine.describe(), "kernels": {name: measured(name) for name in given.measure}}
        if given.json:
            given.json.write_text(json.dumps(made, indent=1) + "\n")
    else:
        marks = r"(<!-- kernels -->\n).*?(<!-- /kernels -->)"
        text = "\n\n".join(table(name) for name in MODELS)
        page = re.sub(marks, lambda found: f"{found[1]}{text}\n{found[2]}", PAGE.read_text(), flags=re.S)
        PAGE.write_text(page)
    return 0


def shape_of(name: str) -> TextShape:
    with configurations.temporary(name, weights=False) as folder:
        return architecture.read(checkpoints.read(folder))[1]


def step(name: str, rows: int, count: int, tuning: Tuning) -> tuple[TextShape, list[tuple[str, Launch]]]:
    """All launches of one step in bfloat16, those of a layer once."""
    shape, (reach, columns) = shape_of(name), MODELS[name]
    found = list(fused.layer(shape, rows, count, reach, tuning, 2).items())
    found += [("logits", fused.head(shape, rows, count, columns, tuning, 2))]
    return shape, [*found, ("choose", fused.choice(rows, columns, 8))]


def table(name: str) -> str:
    """What a step of one token launches and reads."""
    shape, launches = step(name, 1, 1, Tuning())
    lines = [
        f"**{name}**, {shape.layers} layers, a token that sees {MODELS[name][0]} places, bfloat16:",
        "",
        "| kernel | times | blocks | read each time | read a step |",
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
    lines.append(f"| together | {times_all} | | | {total / 1e6:.0f} MB |")
    return "\n".join(lines)


def compiled(name: str, card: int) -> str:
    """Compile all kernels of steps of 1, 8 and 128 tokens for a card; what the largest of them takes."""
    import triton

    if triton.knobs.runtime.interpret:
        raise SystemExit("unset TRITON_INTERPRET: nothing is compiled with it")
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


def compile_one(launch: Launch, card: int) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from argus_ros.vlm import kernels

    function = getattr(kernels, launch.kernel)
    constants = {**launch.constants, "PDL": card >= 90}
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
    options = {"num_warps": 4, "num_stages": 2, "launch_pdl": card >= 90}
    source = ASTSource(function, kinds, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", card, 32), options=options)


@torch.inference_mode()
def measured(name: str) -> dict[str, Any]:
    """Milliseconds of a step in a CUDA graph, by tokens: plain, and fused by tuning."""
    from argus_ros.core.recipes import preset
    from argus_ros.vlm.native import NativeModel

    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here")
    device, reach, found = torch.device("cuda"), MODELS[name][0], {}
    with configurations.temporary(name) as folder:
        recipes = preset("realtime").without(["fused_kernels"])
        decoder = NativeModel(checkpoints.read(folder), recipes, device, torch.bfloat16).decoder
    decoder.reserve(1, reach)
    for count in TOKENS:
        x = torch.randn(1, count, decoder.shape.width, device=device, dtype=torch.bfloat16)
        places = torch.arange(reach - 20, reach - 20 + count, device=device)[None]
        decoder.fused = None
        wanted = decoder(x, places, reach).float()
        times: dict[str, Any] = {"plain": graphed(lambda: decoder(x, places, reach))}  # noqa: B023
        for tuning in Tuning.tried(device):
            decoder.fused = fused.Fused(decoder, tuning)
            label = f"{tuning.blocks} blocks, {tuning.warps} warps, {tuning.split} places"
            label += ", launched early" if tuning.launch_early else ""
            made = decoder(x, places, reach).float()
            if decoder.fused.broken:
                times[label] = None
                continue
            off = float((made - wanted).norm() / wanted.norm())
            times[label] = graphed(lambda: decoder(x, places, reach))  # noqa: B023
            print(f"{name}, {count} tokens: {label} {times[label]:.4f} ms, off by {off:.1e}", flush=True)
        print(f"{name}, {count} tokens: plain {times['plain']:.4f} ms", flush=True)
        found[str(count)] = times
    return found


def graphed(run: Callable[[], object]) -> float:
    """Median milliseconds of what is replayed from a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times = []
    for _ in range(RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


if __name__ == "__main__":
    raise SystemExit(main())
