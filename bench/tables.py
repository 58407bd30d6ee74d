"""Writes the figures of bench/results/ into docs/recipes.md: `python3 bench/tables.py`.

The tables replace the text between the marks of that page, and each recipe's gains its list ``Measured:``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE, RESULTS = ROOT / "docs" / "recipes.md", ROOT / "bench" / "results"
LINK = "../bench/results/"
#: Of arXiv 2603.16987, vLLM on one H100, ms: TTFT before and after, and a token after.
PAPER = {"smolvlm-256m": (344.7, 22.8, 1000 / 533.3), "internvl3-2b": (124.0, 57.7, 1000 / 292.7)}
NOT_YET = "not yet: no such machine was available."

Results = dict[str, dict[str, Any]]  #: by file name


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE")
    given = parser.parse_args()
    results = {path.stem: json.loads(path.read_text()) for path in sorted(given.results.glob("*.json"))}
    page, parts = (
        given.page.read_text(),
        [
            *(table(name, r) for name, r in results.items() if is_bench(r)),
            *(profiled(r) for r in results.values() if "presets" in r and not is_bench(r)),
            *beside_the_paper(results),
            *costs(results),
        ],
    )
    if parts:
        text = "\n\n".join(parts)
        figures = r"(<!-- figures -->\n).*?(<!-- /figures -->)"
        page = re.sub(figures, lambda found: f"{found[1]}{text}\n{found[2]}", page, flags=re.S)
    else:
        print(f"no tables in {given.results}; run bench/cpu_suite.sh or bench/gpu_suite.sh", file=sys.stderr)
    sections = re.split(r"^(?=## )", page, flags=re.M)
    given.page.write_text("".join(with_gain(section, results) for section in sections))
    return 0


def is_bench(result: dict[str, Any]) -> bool:
    return "presets" in result and "rounds" in result


def with_gain(section: str, results: Results) -> str:
    """A recipe's section with its measured gain; other sections unchanged."""
    title = re.match(r"## (\w+)\n", section)
    if not title:
        return section
    said = [sentence for source in SOURCES for sentence in source(title[1], results)]
    items = [textwrap.fill(f"- {sentence}", 128, subsequent_indent="  ") for sentence in said]
    text = "Measured:\n\n" + "\n".join(items) if items else f"Measured: {NOT_YET}"
    return re.sub(r"^Measured:.*?(?=\n\n(?!- )|\n*\Z)", lambda _: text, section, flags=re.M | re.S)


# --- tables -----------------------------------------------------------------------------------------


def place(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores"


def table(name: str, result: dict[str, Any]) -> str:
    """Medians of one run's presets, and of its ladder if there is one."""
    full = "tokens" in result
    keys = ["preprocess_ms", "ttft_ms", "ms_per_token", "total_ms"] if full else ["preprocess_ms"]
    heads = ["preprocess ms", "TTFT ms", "ms per token", "total ms"][: len(keys)]
    metric = "total" if full else "preprocess"
    versions = result["versions"]
    about = f"{result['tokens']} tokens, {result['dtype']}" if full else "preprocessing only"
    driver = result["machine"].get("driver")
    parts = [f"driver {driver}"] if driver else []
    parts += [f"{name} {versions[name]}" for name in ("torch", "triton", "transformers") if name in versions]
    made = f"{', '.join(parts)}; {result['date']}, commit {result['commit']}"
    links = f"[command and all figures]({LINK}{name}.txt), [picture]({LINK}{name}.svg)"
    lines = [
        f"**{result['model']}**, {result['size']}, {about}, medians of {result['rounds']} frames. "
        f"{place(result)}; {made} ({links}).",
        "",
        f"| | {' | '.join(heads)} | times stock | 10-90% |",
        "|" + "---|" * (len(keys) + 3),
    ]
    rows = list(result["presets"].items())
    rows += [(f"+ {f['adds']}", f) for f in result.get("ladder", [])[1:]]
    rows += [(f"realtime without {f['removes']}", f) for f in result.get("ablation", [])]
    for title, f in rows:
        low, high = f["ratio_spread"][metric]
        cells = [f"{f[key]['p50']:.2f}" for key in keys]
        lines.append(
            f"| {title} | {' | '.join(cells)} | {f['ratio_to_stock'][metric]:.2f} | {low:.2f}-{high:.2f} |"
        )
    if floor := result.get("floor"):
        lines.append(f"| floor | | {' | '.join(f'{floor[key]:.2f}' for key in keys[1:])} | | |")
        best = list(result["presets"].values())[-1]["percent_of_floor"]["total_ms"]
        lines += [
            "",
            f"The floor is the time that the model's operations and bytes take at the measured speed of this "
            f"device ({floor['gflops']:.0f} GFLOP/s and {floor['gbytes_per_second']:.0f} GB/s), for "
            f"{floor['tiles']} tile{'s' * (floor['tiles'] != 1)} and {floor['prompt_tokens']} prompt tokens. "
            f"{list(result['presets'])[-1]} reaches {best:.0f}% of that speed.",
        ]
    return "\n".join(lines)


def costs(results: Results) -> Iterator[str]:
    """The cost of frames with the presets, for every completely measured model."""
    names, rows = ("stock", "paper", "realtime"), []
    for result in results.values():
        presets = result.get("presets", {})
        if not is_bench(result) or "tokens" not in result or not presets.keys() >= set(names):
            continue
        totals = [presets[name]["total_ms"]["p50"] for name in names]
        used = [
            "+".join(f"{x:.3g} {meter}" for meter, x in presets[name].get("joules_per_frame", {}).items())
            for name in names
        ]
        columns = (
            [f"{1e3 / total:.1f}" for total in totals],
            [f"{total / 3.6:.1f}" for total in totals],
            [f"{presets[name]['peak_memory_mb']:.0f}" for name in names],
            used if any(used) else ["not read"],
        )
        title = f"{result['model']}, {result['tokens']} tokens, {place(result)}"
        rows.append(f"| {title} | {' | '.join(' / '.join(cells) for cells in columns)} |")
    if rows:
        head = [
            "**Cost of frames** that run one after the other, with stock / paper / realtime. For the price "
            "of a million frames, multiply the hours by the price of one hour of the machine:",
            "",
            "| | frames per second | hours for a million frames | peak MB | joules per frame |",
            "|---|---|---|---|---|",
        ]
        yield "\n".join([*head, *rows])


def profiled(result: dict[str, Any]) -> str:
    """The share of time outside the model, and the bottleneck, from a profile."""
    shares = ", ".join(f"{name} {p['outside_model_percent']:.0f}%" for name, p in result["presets"].items())
    name, last = list(result["presets"].items())[-1]
    return (
        f"Part of a frame's time that is outside the model's own work: {shares} ({result['model']}, "
        f"{result['size']}, {result['tokens']} tokens, {place(result)}). With {name}, {last['bottleneck']}"
    )


def beside_the_paper(results: Results) -> Iterator[str]:
    """One table of the paper's models on the paper's GPU."""
    on_one = [r for r in results.values() if is_bench(r) and "H100" in r["machine"]["gpu"]]
    measured = [r for model in PAPER for r in on_one if r["model"] == model]
    if not measured:
        return
    lines = [
        "The paper's figures (vLLM, COCO captions), and those of argus_ros (640x480 frames, 32 tokens):",
        "",
        "| one H100, ms | TTFT, stock | TTFT, best | ms per token, best |",
        "|---|---|---|---|",
    ]
    for result in measured:
        first, last, token = PAPER[result["model"]]
        stock, best = result["presets"]["stock"], result["presets"]["realtime"]
        lines += [
            f"| {result['model']}, the paper | {first:.1f} | {last:.1f} | {token:.2f} |",
            f"| {result['model']}, argus_ros at {result['commit']} | {stock['ttft_ms']['p50']:.1f} "
            f"| {best['ttft_ms']['p50']:.1f} | {best['ms_per_token']['p50']:.2f} |",
        ]
    yield "\n".join(lines)


# --- gains ------------------------------------------------------------------------------------------


def by_bench(recipe: str, results: Results) -> Iterator[str]:
    """The gain of adding a recipe to those above it, and the loss of removing it from realtime."""
    for name, result in results.items():
        if not is_bench(result):
            continue
        said = []
        for before, after in pairwise(result.get("ladder", [])):
            if after["adds"] == recipe:
                a, b = (f["total_ms"]["p50"] for f in (before, after))
                said.append(f"added in turn, {a:.1f} to {b:.1f} ms per frame")
        for figure in result.get("ablation", []):
            if figure["removes"] == recipe:
                a, b = result["presets"]["realtime"]["total_ms"]["p50"], figure["total_ms"]["p50"]
                said.append(f"realtime without it, {b:.1f} instead of {a:.1f} ms")
        if recipe == "direct_resize" and "tokens" not in result:
            a, b = (result["presets"][p]["preprocess_ms"]["p50"] for p in ("stock", "realtime"))
            times = result["presets"]["realtime"]["ratio_to_stock"]["preprocess"]
            said.append(
                f"{a:.1f} to {b:.1f} ms ({times:.1f}x) for {result['tiles']} tiles of {result['size']}"
            )
        if said:
            yield f"{result['model']} on {place(result)}: {'; '.join(said)} (`bench/results/{name}.txt`)"


def by_pixels(recipe: str, results: Results) -> Iterator[str]:
    """The F1 of the recipe's pixels."""
    for name, result in results.items():
        if recipe in result.get("pixels", {}):
            stock, ours = result["pixels"]["stock"], result["pixels"][recipe]
            low, high = ours["to_stock_95"]
            yield (
                f"F1 of {result['checkpoint']} on {result['scenes']} scenes ({result['split']}): "
                f"{ours['f1']:.4f}; with the stock processor's pixels {stock['f1']:.4f} (difference "
                f"{ours['to_stock']:+.4f}, 95% {low:+.4f} to {high:+.4f}); the pixels differ by "
                f"{ours['mean_difference_of_255']:.2f}/255 on average (`bench/pixel_quality.py`, "
                f"`bench/results/{name}.json`)"
            )


def by_films(recipe: str, results: Results) -> Iterator[str]:
    """The gain of a draft from the last frame."""
    for name, result in results.items():
        if recipe == "last_frame_draft" and "films" in result:
            films = "; ".join(
                f"{film} camera {f['fewer_passes']:.2f}x fewer passes, {f['faster']:.2f}x as fast"
                for film, f in result["films"].items()
            )
            drafts = ", with the drafts of a GPU" if result["gpu_drafts"] else ""
            yield (
                f"{result['model']} on {place(result)}{drafts}: {films} "
                f"(`bench/last_frame_draft.py`, `bench/results/{name}.json`)"
            )


def by_cameras(recipe: str, results: Results) -> Iterator[str]:
    """The gain of one pass for frames of several cameras."""
    for name, result in results.items():
        if recipe == "camera_batch" and "cameras" in result:
            gains = ", ".join(f"{n} cameras {f['ratio']:.2f}x" for n, f in result["cameras"].items())
            yield (
                f"{result['model']} on {place(result)}, one pass compared with one by one: {gains} "
                f"(`bench/camera_batch.py`, `bench/results/{name}.json`)"
            )


def by_kernels(recipe: str, results: Results) -> Iterator[str]:
    """The time of a step with fused kernels, the fastest of those tried."""
    for name, result in results.items():
        if recipe == "fused_kernels" and "kernels" in result:
            steps = [
                f"{model}, {count} token{'s' * (count != '1')}, {times['plain']:.2f} to "
                f"{min(t for way, t in times.items() if way not in ('plain', 'kernels') and t):.2f} ms"
                for model, counts in result["kernels"].items()
                for count, times in counts.items()
            ]
            yield (
                f"a decode step on {place(result)}, plain and with the fastest kernels: "
                f"{'; '.join(steps)} (`bench/results/{name}.txt`, [how](kernels.md#figures))"
            )


def by_heads(recipe: str, results: Results) -> Iterator[str]:
    """The gain of a head for whole boxes, with verification."""
    for name, result in results.items():
        ways = result.get("ways", {})
        if recipe == "box_draft" and "whole boxes, checked" in ways:
            passes = (ways[way]["passes_per_frame"] for way in ("place by place", "whole boxes, checked"))
            yield (
                "a head trained for argus-nano: {:.1f} to {:.1f} passes per frame; ".format(*passes)
                + f"{result['checked_alike']} of {result['scenes']} answers have the same tokens "
                f"(`bench/whole_boxes.py`, `bench/results/{name}.json`)"
            )


SOURCES: tuple[Callable[[str, Results], Iterator[str]], ...] = (
    by_bench,
    by_pixels,
    by_films,
    by_cameras,
    by_kernels,
    by_heads,
)


if __name__ == "__main__":
    raise SystemExit(main())
