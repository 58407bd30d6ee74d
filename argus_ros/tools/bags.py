"""Replay several bags: one after the other in this process, or side by side in Ray.

Every bag has an engine of its own and, with ``--out``, a folder of its own, so that its results do not depend
on where and beside what it is played. A bag that fails leaves the others alone.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from argus_ros.core.resources import engine_threads
from argus_ros.tools import machine, page
from argus_ros.tools.replay import TROUBLE, Asked, Played, Progressed, Run, play
from argus_ros.tools.results import PUBLISHED

#: Most seconds to connect to a cluster.
CONNECT = 5.0
#: A cluster on this machine. Ray takes 127.0.0.1 for "any address of this machine"; this one stays loopback.
LOCAL = {"include_dashboard": False, "_node_ip_address": "127.0.0.2"}


@dataclass(frozen=True)
class Job:
    """One bag, and where its results go."""

    name: str
    bag: Path
    out: Path | None
    options: argparse.Namespace


def run(options: argparse.Namespace, console: Console) -> int:
    """Replay the bags and write what they add up to; the exit status. Raises ValueError."""
    jobs = _jobs(options)
    if options.out and (options.out / "detections.jsonl").exists():
        raise ValueError(f"{options.out} holds the results of one bag; name another folder for several")
    steps = in_ray(jobs, options) if options.ray else in_turn(jobs)
    played: dict[str, Played] = {}
    name = TextColumn("{task.description}", markup=False)
    columns = name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        bars = {job.name: progress.add_task(job.name, total=None) for job in jobs}
        for job, step in steps:
            if isinstance(step, Played):
                played[job.name] = step
                if step.trouble:
                    progress.console.print(f"{job.name}: {step.trouble}", markup=False, soft_wrap=True)
            else:
                progress.update(bars[job.name], completed=step.done, total=step.count)
    rows = [_row(job, played[job.name]) for job in jobs]
    table = Table("bag", "images", "answered", "latency p50 / p95", "trouble")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)
    if options.out:
        _write(options, jobs, played, rows)
        console.print(f"results in {options.out}: report.html, summary.json and a folder for each bag")
    return TROUBLE if any(each.trouble for each in played.values()) else 0


def _jobs(options: argparse.Namespace) -> list[Job]:
    """One a bag, with names that differ."""
    jobs: dict[str, Job] = {}
    for path in options.bag:
        bag = path.resolve()
        names = (bag.name if n == 1 else f"{bag.name}-{n}" for n in count(1))
        name = next(name for name in names if name not in jobs)
        out = options.out.resolve() / name if options.out else None
        jobs[name] = Job(name, bag, out, options)
    return list(jobs.values())


def steps_of(job: Job) -> Iterator[Progressed | Played]:
    """Play a bag: how far it is after each image, and in the end what came of it, whatever goes wrong."""
    try:
        for step in play(job.bag, job.out, Asked.of(job.options), Console(quiet=True)):
            if isinstance(step, Played):
                step.run.lines.clear()  # they are many, and in the folder
            yield step
    except (ValueError, OSError) as error:
        yield Played(Run(), trouble=str(error))


def in_turn(jobs: Sequence[Job]) -> Iterator[tuple[Job, Progressed | Played]]:
    """The bags one after the other, in this process."""
    for job in jobs:
        yield from ((job, step) for step in steps_of(job))


def in_ray(jobs: Sequence[Job], options: argparse.Namespace) -> Iterator[tuple[Job, Progressed | Played]]:
    """The bags side by side: as many at a time as the cluster has GPUs, or ``--threads`` cores.

    Its machines need this package, and the bags, the checkpoint and the folder under the same paths. Raises
    ValueError where Ray is missing or its cluster is not there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError:
        raise ValueError("--ray needs Ray, which is not installed: pip install 'argus-ros[ray]'") from None
    if options.device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"Ray gives each engine its GPU: leave --device {options.device} out")
    where = LOCAL if options.ray == "local" else {"address": options.ray}
    try:
        _knock(options.ray)
        ray.init(**where, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"no Ray at {options.ray}: {error}; give local, auto, or the address that `ray start` said"
        ) from None
    try:
        resources = _resources(ray, options)
        task = ray.remote(num_returns="streaming", max_retries=0, **resources)(steps_of)
        running = {task.remote(job): job for job in jobs}
        while running:
            (stream, *_), _ = ray.wait(list(running), num_returns=1)
            try:
                step = ray.get(next(stream))
            except StopIteration:
                del running[stream]
                continue
            except ray.exceptions.RayError as error:  # its process or its machine is gone
                step = Played(Run(), trouble=f"Ray: {' '.join(str(error).split())[:500]}")
                yield running.pop(stream), step
                continue
            yield running[stream], step
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()


def _resources(ray: Any, options: argparse.Namespace) -> dict[str, Any]:
    """What Ray reserves for an engine: a GPU, or as many cores as it has threads."""
    if options.device != "cpu" and ray.cluster_resources().get("GPU"):
        return {"num_cpus": 1, "num_gpus": 1}
    return {"num_cpus": engine_threads(options.threads)}


# --- what they add up to ------------------------------------------------------------------------------


def _row(job: Job, played: Played) -> tuple[str, int, int, str, str]:
    """Of the table: bag, images, answered, latency, trouble."""
    figures = played.run.figures()
    latency = " / ".join(f"{1e3 * figures['latency'][name]:.0f} ms" for name in ("p50", "p95"))
    return (
        job.name,
        figures["frames"],
        played.run.outcomes[PUBLISHED],
        latency,
        played.trouble,
    )


def _write(
    options: argparse.Namespace, jobs: Sequence[Job], played: dict[str, Played], rows: Sequence[Sequence[Any]]
) -> None:
    """The merged report and figures."""
    total = Run()
    for each in played.values():
        total.latencies += each.run.latencies
        total.outcomes += each.run.outcomes
        total.labels += each.run.labels
    facts = {name: str(value) for name, value in Asked.of(options).facts().items()}
    bags = {
        job.name: {
            "bag": str(job.bag),
            "trouble": played[job.name].trouble,
            **played[job.name].run.figures(),
        }
        for job in jobs
    }
    summary = facts | total.figures() | {"bags": bags} | machine.describe()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    figures = total.figures()
    latency = " / ".join(f"{1e3 * value:.1f} ms" for value in figures["latency"].values())
    counts = {"bags": len(jobs), "frames": figures["frames"], "latency p50 / p95 / max": latency}
    sections = [
        page.section("The run", page.table([*facts.items(), *counts.items()])),
        page.section(
            "Bags", page.table([("bag", "images", "answered", "latency p50 / p95", "trouble"), *rows])
        ),
        page.section("Detections", page.table(figures["detections"].items())),
    ]
    (options.out / "report.html").write_text(page.whole("argus replay", sections), encoding="utf-8")
