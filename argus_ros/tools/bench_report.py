"""Formats the figures of ``argus bench``: tables of plain text, and a picture with bars."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from argus_ros.tools import energy

METRICS = {"ttft": "ttft_ms", "total": "total_ms", "preprocess": "preprocess_ms"}


def text(measured: dict[str, Any]) -> str:
    """The figures as tables of plain text."""
    gpu, cores = measured["machine"]["gpu"], measured["machine"]["cores"]
    where = gpu or f"{measured['machine']['processor']}, {cores} cores"
    lines = [f"{measured['model']}, {measured['size']}, on {where}"]
    if "tokens" not in measured:
        lines[0] += f": {measured['tiles']} tiles, {measured['rounds']} frames"
        rows = [[name, *_cells(f, ["preprocess"])] for name, f in measured["presets"].items()]
        return "\n".join([*lines, "", *table(["", "preprocess ms p50/p95/max", "x stock"], rows)])
    lines[0] += f", {measured['dtype']}: {measured['tokens']} tokens, {measured['rounds']} frames"
    header = ["", "preprocess ms", "TTFT ms", "ms/token", "total ms", "x stock", "memory MB", "of floor"]
    sections = {
        "presets (p50/p95/max)": [(name, f) for name, f in measured["presets"].items()],
        "ladder: each added to those above": [(f"+ {f['adds']}", f) for f in measured["ladder"]],
        "ablation: each taken from realtime": [(f"- {f['removes']}", f) for f in measured["ablation"]],
    }
    for title, entries in sections.items():
        if entries:
            lines += ["", title, *table(header, [_row(name, f) for name, f in entries])]
    costs = {name: f for name, f in measured["presets"].items() if "frames_per_second" in f}
    if costs:
        lines += ["", *table(["cost, frames one after the other", *costs], energy.rows(costs))]
    if floor := measured["floor"]:
        lines += [
            "",
            f"floor: TTFT {floor['ttft_ms']:.2f} ms (vision {floor['vision_ms']:.2f}, "
            f"prefill {floor['prefill_ms']:.2f}), {floor['ms_per_token']:.3f} ms per token, "
            f"total {floor['total_ms']:.2f} ms; {floor['tiles']} tiles, {floor['prompt_tokens']} prompt "
            f"tokens, at {floor['gflops']:.0f} GFLOP/s and {floor['gbytes_per_second']:.1f} GB/s as measured",
        ]
    return "\n".join(lines)


def _row(name: str, figure: dict[str, Any]) -> list[str]:
    keys = ("preprocess_ms", "ttft_ms", "ms_per_token", "total_ms")
    cells = ["/".join(f"{figure[key][q]:.2f}" for q in ("p50", "p95", "max")) for key in keys]
    low, high = figure["ratio_spread"]["total"]
    ratio = f"{figure['ratio_to_stock']['total']:.2f} ({low:.2f}-{high:.2f})"
    reached = figure.get("percent_of_floor", {}).get("total_ms")
    return [
        name,
        *cells,
        ratio,
        f"{figure['peak_memory_mb']:.0f}",
        f"{reached:.0f}%" if reached is not None else "",
    ]


def _cells(figure: dict[str, Any], metrics: Sequence[str]) -> list[str]:
    cells = []
    for metric in metrics:
        low, high = figure["ratio_spread"][metric]
        cells.append("/".join(f"{figure[METRICS[metric]][q]:.2f}" for q in ("p50", "p95", "max")))
        cells.append(f"{figure['ratio_to_stock'][metric]:.2f} ({low:.2f}-{high:.2f})")
    return cells


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the columns aligned; the first to the left."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


#: Sizes in the picture: its width, a row's height, the left edge of bars and the longest bar.
WIDTH, ROW, LEFT, LONGEST = 900, 24, 190, 560


PARTS = {
    "preprocess": "#d95f02",
    "to the first token": "#1b6ca8",
    "the other tokens": "#74b3ce",
}


def draw(measured: dict[str, Any], path: Path) -> None:
    """A bar for each preset and step: preprocessing, the rest of the time to the first token, decoding."""
    entries = list(measured["presets"].items())
    entries += [(f"+ {f['adds']}", f) for f in measured.get("ladder", ())]
    entries += [(f"- {f['removes']}", f) for f in measured.get("ablation", ())]
    full = "tokens" in measured
    keys = ("preprocess_ms", "ttft_ms", "total_ms") if full else ("preprocess_ms",)
    ends = {name: [f[key]["p50"] for key in keys] for name, f in entries}
    scale = LONGEST / max(end[-1] for end in ends.values())
    where = measured["machine"]["gpu"] or measured["machine"]["processor"]
    drawn = [
        _text(LEFT, 18, f"{measured['model']}, {measured['size']}, {where}: ms a frame, medians", "bold")
    ]
    for place, (name, colour) in enumerate(list(PARTS.items())[: len(keys)]):
        drawn += [_box(LEFT + 150 * place, 28, 12, colour), _text(LEFT + 18 + 150 * place, 39, name)]
    for row, (name, f) in enumerate(entries):
        top, begin = 52 + ROW * row, 0.0
        drawn.append(_text(LEFT - 8, top + 15, name, anchor="end"))
        for end, colour in zip(ends[name], PARTS.values(), strict=False):
            drawn.append(_box(LEFT + scale * begin, top, scale * max(end - begin, 0), colour, ROW - 5))
            begin = max(begin, end)
        times = f["ratio_to_stock"]["total" if full else "preprocess"]
        drawn.append(_text(LEFT + scale * begin + 6, top + 15, f"{begin:.1f} ms, {times:.1f}x"))
    size = f'width="{WIDTH}" height="{60 + ROW * len(entries)}"'
    style = 'font-family="sans-serif" font-size="12"'
    body = "\n".join(drawn)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, weight: str = "normal", anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y}" font-weight="{weight}" text-anchor="{anchor}"'
    return f"<text {place}>{html.escape(text)}</text>"


def _box(x: float, y: float, width: float, colour: str, height: int = 12) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{colour}"/>'
