"""The loop goes on where it stopped, and writes what the engine and transformers load."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from operator import methodcaller
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from argus_ros.core import checkpoint
from argus_ros.core.matching import Truth
from argus_ros.core.protocol import EngineConfig, FrameRequest
from argus_ros.core.types import Task
from argus_ros.tools import evaluate
from argus_ros.tools.accuracy import Accuracy
from argus_ros.training import scenes
from argus_ros.training.examples import Examples
from argus_ros.training.learner import Batch, Learner
from argus_ros.training.lesson import Lesson
from argus_ros.training.loop import Diverged, train
from argus_ros.training.plan import Plan, learning_rate
from argus_ros.training.processes import sharing
from argus_ros.training.sources import SceneSource
from argus_ros.vlm.engine.native import Engine
from argus_ros.vlm.models.blank import TINY, Shape, write_checkpoint


def plan(out: Path, samples: int, **changes: object) -> Plan:
    settings = {"batch": 8, "vision_first": 16, "shape": TINY, "processes": 1, "lr": 1e-3} | changes
    return Plan(out, samples, **settings)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "state.pt", weights_only=True)["learner"]


@pytest.mark.slow
def test_a_run_stopped_and_resumed_is_the_run_that_was_not(tmp_path: Path) -> None:
    # Of one length, so that the learning rates agree; the second is cut short and goes on.
    train(plan(tmp_path / "whole", 48), lambda entry: None)
    train(plan(tmp_path / "halves", 48, stop_after=24), lambda entry: None)
    assert torch.load(tmp_path / "halves" / "state.pt", weights_only=True)["seen"] == 24
    train(plan(tmp_path / "halves", 48), lambda entry: None)
    whole, halves = weights(tmp_path / "whole"), weights(tmp_path / "halves")
    assert whole.keys() == halves.keys()
    for name in whole:
        torch.testing.assert_close(whole[name], halves[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    entries: list[dict[str, float]] = []
    whole = plan(tmp_path, 40, processes=2, report_steps=2)
    folder = train(whole, entries.append, measure=methodcaller("is_dir"))
    assert [entry["samples"] for entry in entries] == [16, 32, 40]
    assert [entry.get("f1") for entry in entries] == [None, None, True]  # of a checkpoint that is there
    assert entries == [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (folder / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("lr", "processes"), [(1e9, 1), (1e38, 1), pytest.param(1e38, 2, marks=pytest.mark.slow)]
)
def test_a_run_that_diverges_ends_in_a_sentence_and_keeps_what_was_saved(
    tmp_path: Path, lr: float, processes: int
) -> None:
    """Its weights become too large for a checkpoint, or no numbers at all."""
    train(plan(tmp_path, 32, stop_after=8), lambda entry: None)
    files = "state.pt", "log.jsonl", "checkpoint/model.safetensors"
    before = [(tmp_path / name).read_bytes() for name in files]
    wild = plan(tmp_path, 32, lr=lr, processes=processes, report_steps=2, save_seconds=0.0)
    with pytest.raises(Diverged, match=r"after (16|24) samples a weight is .* a lower --lr than 1e\+"):
        train(wild, lambda entry: None)
    assert [(tmp_path / name).read_bytes() for name in files] == before


def test_processes_share_a_batch_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for batch, processes in ((8, 3), (2, 4), (8, -1), (0, 0), (0, 1)):
        with pytest.raises(ValueError, match=f"a batch of {batch} cannot be shared"):
            train(plan(tmp_path, 16, batch=batch, processes=processes), lambda entry: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    for batch, processes in ((64, 4), (60, 6), (7, 1)):
        assert sharing(batch, 0) == processes


SHARE = """
import sys
import torch
from torch import distributed, nn
from argus_ros.training.processes import share_gradients

folder, rank = sys.argv[1], int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
layers = nn.ModuleList(nn.Linear(2, 1, bias=False) for _ in range(3))
for layer in layers[: rank + 1]:  # the first learns in both, the second in one, the third in none
    layer(torch.full((1, 2), rank + 1.0)).sum().backward()
share_gradients(layers, 2)
torch.save([layer.weight.grad for layer in layers], f"{folder}/{rank}")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_a_process_in_whose_pictures_a_part_learns_nothing_counts_as_zero(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", SHARE, str(tmp_path)]
    processes = [subprocess.Popen([*command, rank], env=environment) for rank in "01"]
    assert [process.wait() for process in processes] == [0, 0]
    for rank in "01":
        both, one, none = torch.load(tmp_path / rank, weights_only=True)
        assert (both.tolist(), one.tolist(), none) == ([[1.5, 1.5]], [[1.0, 1.0]], None)


@pytest.mark.slow
def test_processes_stay_in_step_where_pictures_have_no_box(tmp_path: Path) -> None:
    """Empty scenes and questions have none: nothing to learn for the head of whole boxes."""
    base = write_checkpoint(tmp_path / "base", classes=scenes.CLASSES, colours=tuple(scenes.COLOURS))
    entries: list[dict[str, float]] = []
    head = plan(tmp_path / "out", 64, base=str(base), batch=2, processes=2, report_steps=4)
    train(replace(head, whole_boxes=True, only_whole_boxes=True), entries.append)
    assert [entry["samples"] for entry in entries] == list(range(8, 65, 8))
    start = AutoModelForImageTextToText.from_pretrained(base).state_dict()
    learnt = weights(tmp_path / "out")
    assert all(torch.equal(learnt[f"model.{name}"].half(), value.half()) for name, value in start.items())


@pytest.mark.slow
def test_a_frozen_vision_encoder_stays_as_the_base_has_it(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", classes=scenes.CLASSES, colours=tuple(scenes.COLOURS))
    train(plan(tmp_path / "out", 16, base=str(base), freeze_vision=True), lambda entry: None)
    start = AutoModelForImageTextToText.from_pretrained(base).state_dict()
    learnt = weights(tmp_path / "out")
    same = {name: torch.equal(learnt[f"model.{name}"].half(), value.half()) for name, value in start.items()}
    assert all(kept for name, kept in same.items() if ".vision_model." in name)
    assert not any(kept for name, kept in same.items() if ".connector." in name)


@pytest.mark.slow
def test_a_random_head_does_not_disturb_the_vision_encoder_of_a_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_checkpoint(tmp_path / "base", classes=scenes.CLASSES, colours=tuple(scenes.COLOURS))
    teaches: list[bool] = []
    dense_loss = Learner.dense_loss

    def recording(self: Learner, features: torch.Tensor, batch: Batch) -> torch.Tensor:
        teaches.append(features.requires_grad)
        return dense_loss(self, features, batch)

    monkeypatch.setattr(Learner, "dense_loss", recording)
    train(plan(tmp_path / "out", 32, base=str(base), heads_first=16), lambda entry: None)
    assert teaches == [False, False, True, True]


def test_what_is_written_runs_in_the_engine_and_in_transformers(tmp_path: Path) -> None:
    folder = train(plan(tmp_path, 16), lambda entry: None)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert model.dtype == torch.float16
    engine = Engine(EngineConfig(checkpoint=str(folder), device="cpu"))
    tile = engine.info.tile
    request = FrameRequest(0, 0, 0, 0, 640, 480, Task("detect"))
    answer = engine.run([request], [np.zeros((1, tile, tile, 3), np.uint8)])[0]
    assert answer.generated_tokens > 0


@pytest.mark.slow
def test_a_run_starts_from_a_checkpoint_with_another_tile(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", classes=scenes.CLASSES, colours=tuple(scenes.COLOURS))
    folder = train(plan(tmp_path / "out", 8, base=str(base), tile=96), lambda entry: None)
    assert checkpoint.read(folder).tiling.tile == 96
    with pytest.raises(ValueError, match="multiple of 32"):
        train(plan(tmp_path / "other", 8, base=str(base), tile=100), lambda entry: None)


@pytest.mark.slow
@pytest.mark.timeout(600)  # a minute and a half where nothing else runs
def test_a_small_model_learns_sixteen_scenes_by_heart(tmp_path: Path) -> None:
    shape = Shape(64, 8, 2, 64, 2, 2, 64, 2, 2, 128)
    learn = plan(
        tmp_path, 12_800, shape=shape, repeat=16, batch=16, lr=1.5e-3, vision_first=0, precision="float32"
    )
    folder = train(learn, lambda entry: None)
    engine = Engine(EngineConfig(checkpoint=str(folder), device="cpu"))
    lesson = Lesson(learn)
    source = lesson.source(Examples(lesson.start()[1], lesson.vocabulary, 64, 16), 64)
    assert isinstance(source, SceneSource)
    accuracy = Accuracy(scenes.CLASSES)
    for number in range(16):
        scene = source.scene(number)
        found = evaluate.ask(engine, scene.image, Task("detect")).detections
        accuracy.add(found, [Truth(t.label, t.box) for t in scene.objects])
    assert accuracy.whole.hits > 10
    assert accuracy.whole.f1 == 1.0


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    whole = Plan(Path("unused"), samples=100_000, lr=1.0, batch=100)
    assert learning_rate(whole, 0) == pytest.approx(0.1 / 3)
    assert learning_rate(whole, 10_000) == learning_rate(whole, 69_000) == 1.0
    assert learning_rate(whole, 85_000) == pytest.approx(0.5)
    assert learning_rate(whole, 100_000) == 0.0
    slower = replace(whole, decay=0.8)
    assert [learning_rate(slower, n) for n in (20_000, 60_000)] == pytest.approx([1.0, 0.5])


PROGRAM = """
from pathlib import Path
from argus_ros.vlm.models.blank import TINY
from argus_ros.training.loop import train
from argus_ros.training.plan import Plan

if __name__ == "__main__":
    plan = Plan(Path("out/run"), 1_000_000, batch=2, shape=TINY, processes=2, report_steps=1)
    train(plan, lambda entry: print("on", flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_ends_in_all_its_processes(how: signal.Signals, tmp_path: Path) -> None:
    """Started with a relative path two folders deep, as the documents show it."""
    script = tmp_path / "program.py"  # spawned processes import it again
    script.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "on\n"
    run.send_signal(how)
    run.stdout.read()  # the pipe closes once the last process that holds it has ended
