"""`argus simulate`, and what the scheduler reaches in simulated time."""

import json
import random
import subprocess
import sys

import pytest

from argus_ros.core.frame import CameraPolicy, Level
from argus_ros.core.types import Outcome
from argus_ros.tools.main import main
from argus_ros.tools.simulation import Scenario, Service, Source, simulate


def command(*words):
    return main(["simulate", *(str(word) for word in words)])


def many(count, weights, rate, run_seconds, *, deadline, noise=0.0, **options):
    names = [f"c{i}" for i in range(count)]
    return Scenario(
        cameras={n: CameraPolicy(deadline, w) for n, w in zip(names, weights, strict=True)},
        sources=dict.fromkeys(names, Source(rate)),
        prepare=Service({(0, 1): [0.003]}, noise),
        engine=Service({(0, 1): [run_seconds]}, noise, options.pop("slow", (1.0, 0.0, 0.0))),
        **options,
    )


# --- to reach -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "ahead"), [(0.0, 1), (0.1, 2)])
def test_eight_cameras_on_a_third_of_the_engine_they_need(noise, ahead):
    weights = (4, 2, 1, 1, 1, 1, 1, 1)
    scenario = many(8, weights, 30.0, 3.0 / 240, deadline=0.3, noise=noise, ahead=ahead, seconds=20.0)
    policies = scenario.policies()
    trace = simulate(scenario, policies["argus"])
    had = trace.engine_seconds()
    for camera, weight in zip(had, weights, strict=True):
        assert had[camera] / sum(had.values()) == pytest.approx(weight / 12, rel=0.05)
    assert trace.share_error() <= 0.05
    assert all(now <= frame.deadline for now, frame in trace.published)
    assert trace.summary()["withheld"] <= 0.01 * len(trace.runs)
    assert trace.busy() >= 0.97
    for camera in had:
        gap = trace.gaps(camera)
        assert gap["max"] <= gap["bound"] - ahead * max(run.end - run.start for run in trace.runs)
    fifo = simulate(scenario, policies["fifo"])
    late = sum(now > frame.deadline for now, frame in fifo.published)
    assert late > 0.9 * len(fifo.published), "what a queue of ten does to the same cameras"
    assert all(trace.age(c)["p50"] < fifo.age(c)["p50"] for c in had)
    robin = simulate(scenario, policies["round_robin"])
    assert robin.share_error() > 0.5


@pytest.mark.parametrize(
    ("count", "rate", "seconds", "deadline"),
    [(1, 30.0, 0.02, 0.1), (4, 10.0, 0.015, 0.2), (8, 10.0, 0.01, 0.15), (8, 30.0, 0.0125, 0.3)],
)
def test_full_rate_two_seconds_after_the_engine_recovers(count, rate, seconds, deadline):
    scenario = many(
        count,
        [1.0] * count,
        rate,
        seconds,
        deadline=deadline,
        noise=0.05,
        slow=(20.0, 10.0, 20.0),
        seconds=30.0,
    )
    scheduler = scenario.scheduler()
    trace = simulate(scenario, scheduler)

    def published(start, end):
        return sum(start <= now < end for now, _ in trace.published) / (end - start)

    before, during, after = published(5.0, 10.0), published(12.0, 20.0), published(22.0, 30.0)
    assert during < 0.1 * before, "or the slow-down would be none"
    assert after == pytest.approx(before, rel=0.03)
    for camera in scenario.cameras:  # while it is slow, work is spent on probes only
        starts = [r.start for r in trace.runs if r.frames[0].camera == camera and 12.0 <= r.start < 20.0]
        assert len(starts) <= 9
    assert all(now <= frame.deadline for now, frame in trace.published)
    assert sum(counts[Outcome.WITHHELD] for counts in scheduler.counts.values()) < 14 * count


def test_a_ladder_keeps_cameras_going_through_a_slow_down():
    names = ["a", "b", "c"]
    scenario = Scenario(
        cameras=dict.fromkeys(names, CameraPolicy(0.1)),
        sources=dict.fromkeys(names, Source(30.0)),
        prepare=Service({(n, 1): [0.002] for n in range(3)}, 0.05),
        engine=Service({(n, 1): [s] for n, s in enumerate((0.0016, 0.004, 0.008))}, 0.05, (2.0, 10.0, 20.0)),
        levels=(Level("low"), Level("mid"), Level("high")),
        seconds=30.0,
    )
    trace = simulate(scenario, scenario.scheduler())

    def levels(start, end):
        return {frame.level for now, frame in trace.published if start <= now < end}

    assert (levels(4, 10), levels(11, 20), levels(23, 30)) == ({2}, {1}, {2})
    assert len(trace.published) >= 0.99 * trace.offered


@pytest.mark.slow
def test_batches_raise_what_an_overloaded_engine_gets_done():
    names = [f"c{i}" for i in range(6)]
    engine = {(0, b): [0.012 * (0.6 + 0.4 * b)] for b in (1, 2, 3, 4)}
    traces = []
    for max_batch in (1, 4):
        scenario = Scenario(
            cameras=dict.fromkeys(names, CameraPolicy(0.2)),
            sources=dict.fromkeys(names, Source(30.0)),
            prepare=Service({(0, 1): [0.002]}),
            engine=Service(engine),
            ahead=max_batch,
            max_batch=max_batch,
            seconds=20.0,
        )
        traces.append(simulate(scenario, scenario.scheduler()))
    single, batched = traces
    assert len(batched.published) > 1.3 * len(single.published)
    assert all(now <= frame.deadline for now, frame in batched.published)


def test_overlap_is_worth_what_preparation_costs():
    done = {}
    for ahead in (0, 1):
        scenario = many(4, [1.0] * 4, 30.0, 0.012, deadline=0.3, ahead=ahead, seconds=20.0)
        done[ahead] = len(simulate(scenario, scenario.scheduler()).published)
    assert done[1] / done[0] == pytest.approx((0.012 + 0.003) / 0.012, rel=0.02)


# --- the simulation itself ------------------------------------------------------------------------------


def test_arrivals_keep_their_rate():
    for source in (
        Source(20.0),
        Source(20.0, poisson=True),
        Source(20.0, jitter=0.005),
        Source(20.0, burst=5),
        Source(20.0, poisson=True, burst=3),
    ):
        times = list(source.arrivals(500.0, random.Random(3)))
        assert len(times) == pytest.approx(10_000, rel=0.05)
        assert min(times) >= 0.0


def test_age_of_information_of_a_regular_camera():
    scenario = many(1, [1.0], 10.0, 0.02, deadline=0.3)
    age = simulate(scenario, scenario.scheduler()).age("c0")
    assert age["max"] == pytest.approx(0.123, abs=1e-6), "a period and the two stages"
    assert age["p50"] == pytest.approx(0.073, abs=1e-3)


def test_fair_shares_give_no_camera_more_than_it_asks_for():
    names = ["slow", "fast"]
    scenario = Scenario(
        cameras={"slow": CameraPolicy(1.0, 8.0), "fast": CameraPolicy(1.0, 1.0)},
        sources={"slow": Source(5.0), "fast": Source(60.0)},
        prepare=Service({(0, 1): [0.001]}),
        engine=Service({(0, 1): [0.04]}),
        seconds=30.0,
    )
    trace = simulate(scenario, scenario.scheduler())
    had = trace.engine_seconds()
    assert had["slow"] == pytest.approx(30 * 5 * 0.04, rel=0.03)
    assert sum(had[n] for n in names) == pytest.approx(30, rel=0.02)
    assert trace.share_error() < 0.05


# --- the command ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_prints_and_writes_what_it_promises(tmp_path, capsys):
    file, plot = tmp_path / "sim.json", tmp_path / "sim.png"
    words = (
        "--cameras",
        3,
        "--weights",
        "4:2:1",
        "--load",
        2,
        "--seconds",
        5,
        "--json",
        file,
        "--plot",
        plot,
    )
    assert command(*words) == 0
    report = json.loads(file.read_text())
    for figures in (report, report["baselines"]["fifo"], report["baselines"]["round_robin"]):
        assert {
            "share_error",
            "published_late",
            "withheld",
            "decision_us",
            "dropped",
            "levels",
        } <= figures.keys()
        assert set(figures["age_s"]) == {"camera_0", "camera_1", "camera_2"}
        assert set(figures["age_s"]["camera_0"]) == {"p50", "p99", "max"}
    assert report["published_late"] == 0
    printed = capsys.readouterr().out
    assert "round_robin" in printed
    assert "superseded" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_measured_latencies_are_used_as_they_are(tmp_path):
    file, out = tmp_path / "latency.json", tmp_path / "sim.json"
    file.write_text(json.dumps({"prepare": {"0": {"1": [0.001]}}, "run": {"0": {"1": [0.010, 0.030]}}}))
    options = ("--cameras", 1, "--rate", 10, "--noise", 0, "--seconds", 60, "--latency", file, "--json", out)
    assert command(*options) == 0
    report = json.loads(out.read_text())
    assert report["engine_busy"] == pytest.approx(10 * 0.02, rel=0.1)
    assert report["published"] >= report["run"] - 1, "all but the one that runs at the end"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cameras", 65), "1 to 64"),
        (("--weights", "4:x"), "--weights"),
        (("--slow", "20"), "FACTOR:FROM:TO"),
        (("--load", -1), "above 0"),
        (("--deadline", 0.001), "the shortest that works"),
        (("--latency", "/nowhere.json"), "/nowhere.json"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(words, message, capsys):
    assert command(*words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"prepare": {}, "run": {}}', '{"prepare": 1, "run": 2}', "{"]
)
def test_a_latency_file_of_another_shape_is_refused(content, tmp_path, capsys):
    file = tmp_path / "latency.json"
    file.write_text(content)
    assert command("--latency", file) == 2
    assert "latency.json" in capsys.readouterr().err


@pytest.mark.slow
def test_the_cost_of_a_decision_is_measured_for_1_to_64_cameras(tmp_path):
    file, plot = tmp_path / "cost.json", tmp_path / "cost.png"
    assert command("--cost", "--seconds", 0.2, "--json", file, "--plot", plot) == 0
    costs = json.loads(file.read_text())["decision_us"]
    assert list(costs) == ["1", "2", "4", "8", "16", "32", "64"]
    assert all(cost["p50"] > 0.0 for cost in costs.values())
    assert plot.exists()


@pytest.mark.slow
def test_matplotlib_is_loaded_only_to_plot():
    code = "import sys, argus_ros.tools.simulate; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
