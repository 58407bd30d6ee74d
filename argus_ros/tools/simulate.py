"""`argus simulate`: the frame scheduler with many cameras, compared with a FIFO and a round robin.

The scheduler is the one that the node runs; ``simulation.py`` simulates the rest.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from argus_ros.core.frame import CameraPolicy, Level
from argus_ros.core.section import MALFORMED
from argus_ros.tools.machine import describe
from argus_ros.tools.simulation import Scenario, Service, Source, Trace, quantiles, simulate

COST_CAMERAS = (1, 2, 4, 8, 16, 32, 64)  #: numbers of cameras at which ``--cost`` measures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cameras", type=int, default=8, metavar="N", help="1 to 64 cameras")
    add("--weights", default="1", help="of the cameras, such as 4:2:1; the last one repeats")
    add("--rate", type=float, default=30.0, help="images per second of each camera")
    add("--deadline", type=float, default=0.3, help="maximum age at publication, seconds")
    add("--rate-cap", type=float, default=0.0, help="maximum frames per second of each camera; 0: all")
    add("--load", type=float, help="engine time needed per second; 3 unless --latency is given")
    add("--latency", type=Path, metavar="FILE", help="measured seconds: {stage: {level: {batch: [seconds]}}}")
    add("--levels", default="1", help="relative cost of the budget levels, such as 0.4:0.7:1")
    add("--prepare", type=float, default=0.003, help="seconds to prepare a frame")
    add("--noise", type=float, default=0.05, help="relative spread of the stages' times")
    add("--arrivals", choices=("periodic", "poisson"), default="periodic")
    add("--jitter", type=float, default=0.0, help="standard deviation of arrivals, seconds")
    add("--burst", type=int, default=1, help="images that arrive together")
    add("--delay", type=float, default=0.0, help="age of an image on arrival, seconds")
    add("--slow", default="1:0:0", help="FACTOR:FROM:TO, the engine slows down between two seconds")
    add(
        "--ahead",
        type=int,
        default=1,
        help="frames prepared while the engine runs; 0: no overlap",
    )
    add("--max-batch", type=int, default=1, help="frames of several cameras in one run")
    add("--batch-cost", type=float, default=0.5, help="cost of each further frame in a batch")
    add("--seconds", type=float, default=60.0, help="simulated time")
    add("--seed", type=int, default=0)
    add("--json", type=Path, metavar="FILE", help="write the figures")
    add("--plot", type=Path, metavar="FILE", help="draw ages, shares and rates (PNG)")
    add("--cost", action="store_true", help="measure the time of a decision with 1 to 64 cameras instead")


def run(args: argparse.Namespace) -> int:
    """Simulate and show. Raises ValueError for invalid arguments."""
    scenario = scenario_from(args)
    costs, traces = {}, {}
    if args.cost:
        costs = _costs(args)
        report: dict[str, Any] = {"decision_us": costs}
        _print_costs(costs)
    else:
        traces = {name: simulate(scenario, policy) for name, policy in scenario.policies().items()}
        summaries = {name: trace.summary() for name, trace in traces.items()}
        report = summaries.pop("argus") | {"baselines": summaries}
        _print(scenario, {"argus": report, **summaries})
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        report |= describe()
        report["arguments"] = {k: v for k, v in vars(args).items() if isinstance(v, (int, float, str))}
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    if args.plot:
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        _plot_costs(costs, args.plot) if args.cost else _plot(traces, args.plot)
    return 0


def scenario_from(args: argparse.Namespace) -> Scenario:
    """The scenario of the command line. Raises ValueError for invalid arguments."""
    if not 1 <= args.cameras <= 64:
        raise ValueError(f"--cameras is {args.cameras}; it can be 1 to 64")
    if args.burst < 1 or min(args.rate, args.seconds, args.prepare) <= 0.0 or (args.load or 1.0) <= 0.0:
        raise ValueError("--rate, --seconds, --prepare, --load and --burst have to be above 0")
    weights = _numbers("--weights", args.weights)
    weights += [weights[-1]] * (args.cameras - len(weights))
    costs = _numbers("--levels", args.levels)
    slow = _numbers("--slow", args.slow)
    if len(slow) != 3:
        raise ValueError(f"--slow is {args.slow}; give FACTOR:FROM:TO, such as 20:10:20")
    names = [f"camera_{i}" for i in range(args.cameras)]
    prepare, engine = _samples(args, costs)
    levels = sorted({level for level, _ in engine})
    return Scenario(
        cameras={
            n: CameraPolicy(args.deadline, w, args.rate_cap) for n, w in zip(names, weights, strict=False)
        },
        sources=dict.fromkeys(
            names, Source(args.rate, args.arrivals == "poisson", args.jitter, args.burst, args.delay)
        ),
        prepare=Service(prepare, args.noise),
        engine=Service(engine, args.noise, (slow[0], slow[1], slow[2])),
        levels=tuple(Level(str(level)) for level in levels),
        seconds=args.seconds,
        ahead=max(args.ahead, args.max_batch) if args.ahead else 0,
        max_batch=args.max_batch,
        seed=args.seed,
    )


def _samples(args: argparse.Namespace, costs: Sequence[float]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Seconds of both stages per (level, batch), scaled to ``--load`` if given."""
    sizes = range(1, args.max_batch + 1)
    if args.latency:
        try:
            measured = json.loads(args.latency.read_text())
            prepare, engine = (
                {
                    (int(level), int(batch)): [_duration(s) for s in seconds]
                    for level, batches in measured[stage].items()
                    for batch, seconds in batches.items()
                }
                for stage in ("prepare", "run")
            )
        except OSError as error:
            raise ValueError(f"{args.latency} cannot be read: {error.strerror}") from None
        except MALFORMED:
            raise ValueError(
                f"{args.latency}: expected {{stage: {{level: {{batch: [seconds, …]}}}}}} with the stages "
                "'prepare' and 'run', levels from 0, and seconds above 0"
            ) from None
        levels = range(max(1, len(measured["run"])))
        missing = [(n, b) for n in levels for b in sizes if not engine.get((n, b))]
        missing += [(n, 1) for n in levels if not prepare.get((n, 1))]
        if missing:
            raise ValueError(f"{args.latency}: no seconds for (level, batch) {missing[0]}")
    else:
        engine = {
            (n, b): [cost * (1 + args.batch_cost * (b - 1))] for n, cost in enumerate(costs) for b in sizes
        }
        prepare = {(n, 1): [args.prepare] for n in range(len(costs))}
    if args.load or not args.latency:
        top = engine[max(level for level, _ in engine), 1]
        asked = args.cameras * min(args.rate, args.rate_cap or math.inf) * sum(top) / len(top)
        scale = (args.load or 3.0) / asked
        engine = {key: [s * scale for s in seconds] for key, seconds in engine.items()}
    return prepare, engine


def _duration(value: Any) -> float:
    seconds = float(value)
    if not 0.0 < seconds < math.inf:
        raise ValueError(f"{seconds} s")
    return seconds


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(":")]
    except ValueError:
        raise ValueError(f"{option} is {text!r}; give numbers with colons between, such as 4:2:1") from None


def _costs(args: argparse.Namespace) -> dict[int, dict[str, float]]:
    """Wall microseconds per decision for growing numbers of cameras, at the same load."""
    costs = {}
    for cameras in COST_CAMERAS:
        scenario = scenario_from(argparse.Namespace(**vars(args) | {"cameras": cameras}))
        costs[cameras] = quantiles(simulate(scenario, scenario.scheduler()).decision_us)
    return costs


# --- for people ---------------------------------------------------------------------------------


def _print(scenario: Scenario, summaries: Mapping[str, Mapping[str, Any]]) -> None:
    console = Console()
    cameras = Table(title="age of information (s): p50 / p99 / max, and share of engine time")
    cameras.add_column("camera")
    cameras.add_column("weight", justify="right")
    for name in summaries:
        cameras.add_column(name, justify="right")
    for camera, policy in scenario.cameras.items():
        cells = []
        for summary in summaries.values():
            ages = summary["age_s"][camera].values()
            figures = " / ".join("-" if age is None else f"{age:.3f}" for age in ages)
            cells.append(f"{figures}  {summary['share'][camera]:6.1%}")
        cameras.add_row(camera, f"{policy.weight:g}", *cells)
    console.print(cameras)
    totals = Table(title=f"{scenario.seconds:g} s, {len(scenario.cameras)} cameras")
    totals.add_column("")
    for name in summaries:
        totals.add_column(name, justify="right")
    for key in ("offered", "run", "published", "published_late", "withheld"):
        totals.add_row(key.replace("_", " "), *(str(s[key]) for s in summaries.values()))
    reasons = sorted({r for s in summaries.values() for r in s["dropped"]} - {"withheld"})
    for reason in reasons:
        label = f"dropped: {reason.replace('_', ' ')}"
        totals.add_row(label, *(str(s["dropped"].get(reason, 0)) for s in summaries.values()))
    totals.add_row("engine busy", *(f"{s['engine_busy']:.3f}" for s in summaries.values()))
    totals.add_row("share error", *(f"{s['share_error']:.1%}" for s in summaries.values()))
    totals.add_row("levels", *(_levels(s["levels"]) for s in summaries.values()))
    totals.add_row("µs per decision", *(f"{s['decision_us'].get('p50', 0):.1f}" for s in summaries.values()))
    console.print(totals)


def _levels(levels: Mapping[str, int]) -> str:
    total = sum(levels.values()) or 1
    return ", ".join(f"{name}: {count / total:.0%}" for name, count in sorted(levels.items()))


def _print_costs(costs: Mapping[int, Mapping[str, float]]) -> None:
    table = Table("cameras", "p50 µs", "p99 µs", title="wall time of one decision")
    for cameras, cost in costs.items():
        table.add_row(str(cameras), f"{cost['p50']:.1f}", f"{cost['p99']:.1f}")
    Console().print(table)


COLOURS = {"argus": "#0b6e4f", "round_robin": "#e09f3e", "fifo": "#9e2a2b"}


def _plot(traces: Mapping[str, Trace], file: Path) -> None:
    """Three panels: ages per camera, shares of engine time, answers in time per second."""
    from matplotlib.figure import Figure  # imported only for plots

    scenario = next(iter(traces.values())).scenario
    cameras = list(scenario.cameras)
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    ages, shares, rates = figure.subplots(1, 3)
    place = np.arange(len(cameras))
    for i, (name, trace) in enumerate(traces.items()):
        where = place + (i - 1) * 0.27
        label, colour = name.replace("_", " "), COLOURS[name]
        known = [trace.age(camera) for camera in cameras]
        p50, p99 = ([age[key] or np.nan for age in known] for key in ("p50", "p99"))
        ages.bar(where, p99, 0.25, color=colour, alpha=0.35)
        ages.bar(where, p50, 0.25, color=colour, label=label)
        had = np.array(list(trace.engine_seconds().values()))
        shares.bar(where, had / had.sum(), 0.25, color=colour, label=label)
        in_time = [now for now, frame in trace.published if now <= frame.deadline]
        counts, edges = np.histogram(in_time, np.arange(0.0, scenario.seconds + 1e-9, 0.5))
        rates.step(edges[:-1], counts / 0.5, where="post", color=colour, label=label)
    ages.set(title="age of information (p50, p99 pale)", ylabel="s", yscale="log")
    ages.axhline(next(iter(scenario.cameras.values())).deadline, color="black", lw=0.8, ls=":")
    fair = np.array(list(traces["argus"].fair_seconds().values()))
    shares.plot(place, fair / fair.sum(), "k_", ms=18, label="fair by weight")
    shares.set(title="share of engine time")
    rates.set(title="answers in time, per second", xlabel="s", ylim=(0, None))
    for axes in (ages, shares):
        axes.set_xticks(place[:: max(1, len(cameras) // 8)])
        axes.set_xlabel("camera")
    for axes in (ages, shares, rates):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*shares.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(file, dpi=90)


def _plot_costs(costs: Mapping[int, Mapping[str, float]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    cameras = np.array(list(costs))
    for key, style in (("p50", "o-"), ("p99", "o:")):
        axes.plot(cameras, [cost[key] for cost in costs.values()], style, color=COLOURS["argus"], label=key)
    known = cameras[cameras >= 8]
    if len(known):
        growth = known * np.log(known) * costs[int(known[0])]["p50"] / (known[0] * np.log(known[0]))
        axes.plot(known, growth, color="grey", lw=0.8, ls="--", label="n log n")
    axes.axhline(50.0, color="black", lw=0.8, ls=":")
    axes.set(xlabel="cameras", ylabel="µs", title="wall time of one decision", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=90)
