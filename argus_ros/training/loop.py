"""The training loop: resumable at any step, on several CPU processes or one GPU.

``state.pt`` in the output folder holds weights, optimiser and the number of samples seen; samples are
numbered, so that the data go on where they stopped. The learning rate stays constant and falls
to zero over the last part of the samples, so that a longer run continues a shorter one.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import Idefics3ForConditionalGeneration

from argus_ros.training import attention
from argus_ros.training.examples import Example, Examples
from argus_ros.training.learner import Batch, Learner, collate
from argus_ros.training.lesson import Lesson
from argus_ros.training.optimiser import Optimiser, fast_bfloat16
from argus_ros.training.plan import Plan, learning_rate
from argus_ros.training.processes import end_with_parent, share_gradients, sharing
from argus_ros.training.sources import Source
from argus_ros.vlm.formats import prompts
from argus_ros.vlm.models import blank, boxes

log = logging.getLogger(__name__)

#: Measures the checkpoint in a folder.
Measure = Callable[[Path], float]
#: Seconds without a batch after which the loading processes count as broken.
LOADING = 120.0
#: Weight of the distance to a teacher's features beside the dense loss.
TEACHER = 2.0


class Diverged(ValueError):
    """Training made weights that are no numbers, or too large; says what to do."""


class _Numbered(Dataset):
    """The share of one process in the samples from ``first`` on."""

    def __init__(
        self, source: Source, first: int, last: int, rank: int, world: int, per_process: int
    ) -> None:
        steps = (last - first) // (per_process * world)
        blocks = first + np.arange(steps)[:, None] * per_process * world + rank * per_process
        self._indices = (blocks + np.arange(per_process)).ravel()
        self._source = source

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, i: int) -> Example:
        return self._source.example(int(self._indices[i]))


def train(
    plan: Plan,
    report: Callable[[dict[str, float]], None],
    measure: Measure | None = None,
) -> Path:
    """Train to ``plan.samples``, from where ``plan.out`` stopped; returns the checkpoint folder.

    ``report`` is called now and then with samples, loss, dense, answer, lr and samples per second, and where
    ``measure`` was called on the checkpoint, with the F1 that it gave. Raises ValueError for a base or data
    that cannot be had, and Diverged.
    """
    processes = sharing(plan.batch, plan.processes)
    lesson = Lesson(plan)
    lesson.start()  # what is wrong is said here, not in another process
    if left_out := lesson.left_out:
        log.warning("%d annotations are left out, the first: %s", len(left_out), left_out[0])
    plan.out.mkdir(parents=True, exist_ok=True)
    if processes == 1:
        _Worker(0, 1, lesson).run(report, measure)
    else:
        store = plan.out.resolve() / f".store-{os.getpid()}"  # in a file:// address a relative path is a host
        queue = mp.get_context("spawn").SimpleQueue()
        context = mp.spawn(_join, (processes, plan, str(store), queue, measure), processes, join=False)

        def tell() -> None:
            while not queue.empty():
                said = queue.get()
                if isinstance(said, Diverged):
                    raise said
                report(said)

        try:
            while not context.join(timeout=0.5):
                tell()
        except BaseException:  # Ctrl-C too, which a process that waits for another does not hear
            for process in context.processes:
                process.kill()
            raise
        finally:
            store.unlink(missing_ok=True)
        tell()
    return plan.out / "checkpoint"


def _join(
    rank: int,
    world: int,
    plan: Plan,
    store: str,
    queue: mp.SimpleQueue,
    measure: Measure | None,
) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        _Worker(rank, world, Lesson(plan)).run(queue.put, measure)
    except Diverged as error:
        queue.put(error)
        threading.Event().wait()  # for the parent, which ends all: the others wait for gradients
    dist.destroy_process_group()


class _Worker:
    """One process's part of the training; the first one reports and saves."""

    def __init__(self, rank: int, world: int, lesson: Lesson) -> None:
        self.plan = plan = lesson.plan
        self._rank, self._world, self._lesson = rank, world, lesson
        self._device = device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        state_file = plan.out / "state.pt"
        state = torch.load(state_file, map_location="cpu", weights_only=True) if state_file.exists() else None
        self.seen = state["seen"] if state else 0
        self.last = plan.stop_after or plan.samples
        workers = max(len(os.sched_getaffinity(0)) - 1, 1) if device.type == "cuda" else 0
        if workers:
            cv2.setNumThreads(1)  # a forked process hangs in OpenCV where this one has used its threads
        model, self._tokenizer = lesson.start()
        shape = model.config.vision_config
        self._grid = shape.image_size // shape.patch_size
        self._batches = iter(self._loader(model, workers))  # its processes start before this uses the GPU
        self._teacher = lesson.teacher.to(device) if lesson.teacher else None
        self._learner = self._make_learner(model)
        self._optimiser = make_optimiser(self._learner)
        if state:
            self._learner.load_state_dict(state["learner"])
            self._optimiser.load_state_dict(state["optimiser"])
        self._mixed = plan.precision == "bfloat16" or (plan.precision == "auto" and fast_bfloat16(device))
        if self._mixed and device.type == "cpu":
            attention.use(model)

    def _loader(self, model: Idefics3ForConditionalGeneration, workers: int) -> DataLoader:
        plan, lesson, tile = self.plan, self._lesson, model.config.vision_config.image_size
        image_tokens = (self._grid // model.config.scale_factor) ** 2
        make = Examples(self._tokenizer, lesson.vocabulary, tile, image_tokens, plan.presume_absent)
        source, per_process = lesson.source(make, tile), plan.batch // self._world
        pad, classes = model.config.text_config.pad_token_id, len(lesson.vocabulary.classes)
        return DataLoader(
            _Numbered(source, self.seen, self.last, self._rank, self._world, per_process),
            per_process,
            num_workers=workers,
            collate_fn=_Collate(pad, self._grid, classes),
            pin_memory=self._device.type == "cuda",
            timeout=LOADING if workers else 0,
            drop_last=True,
        )

    def _make_learner(self, model: Idefics3ForConditionalGeneration) -> Learner:
        plan, teacher = self.plan, self._teacher
        first_bin = self._tokenizer.convert_tokens_to_ids(prompts.location_token(0))
        learner = Learner(model, first_bin, plan.whole_boxes, teacher.channels if teacher else 0)
        learner = learner.to(self._device)
        if plan.only_whole_boxes:
            learner.requires_grad_(False)
            assert learner.whole_boxes is not None
            learner.whole_boxes.requires_grad_(True)
        if plan.freeze_vision:
            learner.freeze_vision()
        return learner

    def run(self, report: Callable[[dict[str, float]], None], measure: Measure | None) -> None:
        """Train to the plan's end."""
        journal = None if self._rank else _Journal(self, report, measure)
        for batch in self._batches:
            losses = self._step(batch.to(self._device))
            if journal:
                journal.take(losses)
        if journal:
            self.save()

    def _step(self, batch: Batch) -> Tensor:
        """Learn from a batch; returns the dense loss and the answers' loss, (2,)."""
        plan, learner = self.plan, self._learner
        vision_first = 0 if plan.base else plan.vision_first
        self._optimiser.zero_grad()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            with torch.set_grad_enabled(not (plan.only_whole_boxes or plan.freeze_vision)):
                features = learner.see(batch.images)
            seen_by_heads = features.detach() if plan.base and self.seen < plan.heads_first else features
            dense = features.new_zeros(()) if plan.freeze_vision else learner.dense_loss(seen_by_heads, batch)
            if teacher := self._teacher:
                taught = teacher(batch.images, self._grid)
                dense = dense + TEACHER * learner.teacher_loss(seen_by_heads, taught)
            early = self.seen < vision_first
            answer = dense.new_zeros(()) if early else learner.answer_loss(features, batch)
        loss = dense + 2 * answer
        if loss.requires_grad:  # else nothing that is learnt is in these pictures: not a box for its head
            loss.backward()
        share_gradients(learner, self._world)
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        self._optimiser.step(learning_rate(plan, self.seen))
        self.seen += plan.batch
        return torch.stack([dense.detach(), answer.detach()])

    def check(self) -> None:
        """Raise Diverged unless all weights are numbers that a checkpoint can hold."""
        plan = self.plan
        largest = torch.stack([p.detach().abs().max() for p in self._learner.parameters()]).max().item()
        if not largest < torch.finfo(torch.float16).max:  # NaN, too
            raise Diverged(
                f"the training has diverged: after {self.seen} samples a weight is {largest:g}. "
                f"What {plan.out} had before is kept; the same command with a lower --lr than {plan.lr:g} "
                "goes on from there"
            )

    def save(self) -> None:
        """Write the state and the checkpoint; a run that is killed meanwhile keeps the previous ones.

        Raises Diverged, and writes nothing then.
        """
        self.check()
        out, learner = self.plan.out, self._learner
        state = {
            "learner": learner.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "seen": self.seen,
        }
        partial = out / "state.pt.part"
        torch.save(state, partial)
        partial.replace(out / "state.pt")
        weights = {k: v.detach().clone() for k, v in learner.model.state_dict().items()}
        blank.save(learner.model, self._tokenizer, out / "checkpoint")
        if (head := learner.whole_boxes) is not None:
            boxes.write(out / "checkpoint", head.weight, head.bias)
        learner.model.load_state_dict(weights)  # saving rounds to fp16; training goes on with what it had


class _Journal:
    """Reports the losses, measures the checkpoint and saves, each now and then."""

    def __init__(
        self, worker: _Worker, report: Callable[[dict[str, float]], None], measure: Measure | None
    ) -> None:
        self._worker, self._report, self._measure = worker, report, measure
        self._saved = self._reported = time.monotonic()
        self._reported_at = worker.seen
        self._losses: list[Tensor] = []  # reading one waits for a GPU, so they are read at a report

    def take(self, losses: Tensor) -> None:
        """Take the losses of a step, (2,). Raises Diverged."""
        worker, plan = self._worker, self._worker.plan
        self._losses.append(losses)
        over = worker.seen + plan.batch > worker.last
        if len(self._losses) == plan.report_steps or over:
            worker.check()
            self._write(over)
        if time.monotonic() - self._saved > plan.save_seconds:
            worker.save()
            self._saved = time.monotonic()

    def _write(self, over: bool) -> None:
        worker, plan, now = self._worker, self._worker.plan, time.monotonic()
        dense, answer = torch.stack(self._losses).mean(0).tolist()
        entry = {
            "samples": worker.seen,
            "dense": dense,
            "answer": answer,
            "lr": learning_rate(plan, worker.seen),
            "samples_per_second": (worker.seen - self._reported_at) / (now - self._reported),
        }
        crossed = worker.seen // plan.measure_samples > self._reported_at // plan.measure_samples
        if self._measure and (over or crossed):
            worker.save()
            entry["f1"] = self._measure(plan.out / "checkpoint")
            self._saved = now = time.monotonic()
        with (plan.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
        self._report(entry)
        self._losses, self._reported, self._reported_at = [], now, worker.seen


@dataclass(frozen=True)
class _Collate:
    pad: int
    grid: int
    classes: int

    def __call__(self, examples: list[Example]) -> Batch:
        return collate(examples, self.pad, self.grid, self.classes)


def make_optimiser(learner: Learner) -> Optimiser:
    """Muon for the layers' matrices, AdamW for embeddings, norms, biases and heads."""
    matrices = {
        n: p for n, p in learner.named_parameters() if p.ndim == 2 and (".layers." in n or "connector" in n)
    }
    others = [p for n, p in learner.named_parameters() if n not in matrices]
    return Optimiser(matrices.values(), others)
