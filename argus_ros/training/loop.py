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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import Idefics3ForConditionalGeneration, PreTrainedTokenizerFast

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import Vocabulary
from argus_ros.training import attention, coco, scenes
from argus_ros.training.coco import CocoSource
from argus_ros.training.distillation import FeatureTeacher
from argus_ros.training.examples import Example, Examples, draw_task
from argus_ros.training.growth import grow
from argus_ros.training.learner import Batch, Learner, collate
from argus_ros.training.optimiser import Optimiser, fast_bfloat16
from argus_ros.training.processes import end_with_parent, share_gradients, sharing
from argus_ros.training.scenes import Scene, sprites
from argus_ros.training.scenes.backgrounds import load_photographs
from argus_ros.training.scenes.sprites import Bank as SpriteBank
from argus_ros.vlm import blank, boxes, prompts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What to train, for how long, and where it goes."""

    out: Path
    samples: int = 200_000
    batch: int = 64  #: per step, over all processes
    lr: float = 2e-3
    decay: float = 0.3  #: share of the samples, at the end, over which the rate falls to zero
    vision_first: int = 20_000  #: samples on which only the dense loss is trained, without a base
    seed: int = 0
    processes: int = 0  #: that share a batch; 0: one on a GPU, else up to one per core
    shape: blank.Shape = blank.NANO  #: of a model that starts from nothing
    base: str = ""  #: a checkpoint to start from, by name or folder
    tile: int = 0  #: side of the input in pixels; 0: the base's, or the shape's
    bins: int = 0  #: location bins; 0: the base's, or 128
    vision_layers: int = 0  #: of the vision encoder; 0: the base's, or the shape's
    most_objects: int = 0  #: in an answer, learning from ``data``; 0: as many as its fullest picture has
    data: tuple[coco.Files, ...] = ()  #: COCO data to train on
    classes: tuple[str, ...] = ()  #: of ``data``: the categories to learn; none: all
    scenes: float = 0.0  #: weight of synthetic scenes beside ``data``; without ``data`` there is nothing else
    holdout: str = ""  #: pictures whose file name this regular expression is found in are not trained on
    min_side: float = 0.0  #: of ``data``: smaller objects are not taught, in pixels of a whole picture
    freeze_vision: bool = False  #: the vision encoder stays as the base has it; no dense loss
    presume_absent: bool = False  #: in an answer, an object without a box is absent, complete or not
    teacher: Path | None = None  #: an ONNX detector whose feature maps the vision encoder is taught
    teacher_layers: tuple[str, ...] = ()  #: the names of these maps
    lit: Path | None = None  #: bank of sprites that some things of the scenes are taken from
    repeat: int = 0  #: only so many synthetic scenes, again and again, to see that a model can learn them
    precision: str = "auto"  #: of the passes: float32, bfloat16, or auto: bfloat16 where that is faster
    save_seconds: float = 120.0
    report_steps: int = 50  #: steps between two entries of the log
    measure_samples: int = 10_000  #: between two measurements of the checkpoint
    whole_boxes: bool = False  #: also learn a head that guesses a box's places at once
    only_whole_boxes: bool = False  #: learn nothing else: the rest stays as the base has it
    stop_after: int = 0  #: end early at this many samples, to be resumed; 0: go on to the end


#: Objects in a scene and in an answer.
MOST = 8
#: Share of the things in a scene that are taken from a bank, where there is one.
LIT = 0.3
#: After so many seconds without a batch something is wrong with the processes that load.
LOADING = 120.0
#: Weight of the distance to a teacher's features beside the dense loss.
TEACHER = 2.0


class Diverged(ValueError):
    """Training made weights that are no numbers, or too large; says what to do."""


class Source(Protocol):
    """Numbered training examples."""

    def example(self, index: int) -> Example: ...


class SceneSource:
    """Synthetic scenes; for a ``novice`` the most objects grows from two with the sample's number."""

    def __init__(
        self,
        make: Examples,
        vocabulary: Vocabulary,
        seed: int,
        tile: int,
        novice: bool = True,
        repeat: int = 0,
        bank: SpriteBank | None = None,
    ) -> None:
        self._make = make
        self._vocabulary = vocabulary
        self._first = seed * 100_000_000
        self._tile = tile
        self._novice = novice
        self._repeat = repeat
        self._bank = bank
        self._kept: dict[int, Scene] = {}  # of scenes that are repeated
        self._photographs = load_photographs()

    def example(self, index: int) -> Example:
        scene = self.scene(index)
        rng = np.random.default_rng((self._first, index))
        return self._make.make(scene, draw_task(rng, self._vocabulary, scene))

    def scene(self, index: int) -> Scene:
        """What sample ``index`` shows."""
        if not self._repeat:
            return self._render(index)
        index %= self._repeat
        if index not in self._kept:
            self._kept[index] = self._render(index)
        return self._kept[index]

    def _render(self, index: int) -> Scene:
        rng = np.random.default_rng((self._first, index, 1))
        sizes = ((1.5, 1.125), (1.6, 0.9), (1.25, 1.25), (1.125, 1.5))
        width, height = sizes[int(rng.choice(4, p=(0.5, 0.25, 0.15, 0.1)))]
        most = min(MOST, 2 + index // 12_000) if self._novice else MOST
        size = (round(width * self._tile), round(height * self._tile))
        number = self._first + index
        return scenes.render(number, "train", size, (0, most), self._photographs, self._bank)


class MixedSource:
    """Training examples of several sources, each as often as its weight says."""

    def __init__(self, sources: Sequence[tuple[float, Source]], seed: int) -> None:
        total = np.cumsum([weight for weight, _ in sources])
        self._chances = total / total[-1]
        self._sources = [source for _, source in sources]
        self._seed = seed

    def example(self, index: int) -> Example:
        rng = np.random.default_rng((self._seed, 11, index))
        return self._sources[int(np.searchsorted(self._chances, rng.random()))].example(index)


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


def learning_rate(plan: Plan, seen: int) -> float:
    """Warm-up over one sample in a hundred, at least 3,000; constant, then linear to zero."""
    decay = min(1.0, (plan.samples - seen) / (plan.decay * plan.samples))
    return plan.lr * min(1.0, (seen + plan.batch) / max(3000, 0.01 * plan.samples)) * max(decay, 0.0)


def scene_vocabulary() -> Vocabulary:
    """What a model trained on the synthetic scenes can say."""
    tasks = ("detect", "dense_caption", "ask")
    return Vocabulary(
        tasks, bins=128, classes=scenes.CLASSES, colours=tuple(scenes.COLOURS), max_objects=MOST
    )


def joined(one: Vocabulary, other: Vocabulary) -> Vocabulary:
    """What a model can say that learns both; colours are of those things whose colour is known."""
    return replace(
        one,
        tasks=tuple(dict.fromkeys((*one.tasks, *other.tasks))),
        classes=tuple(dict.fromkeys((*one.classes, *other.classes))),
        colours=tuple(dict.fromkeys((*one.colours, *other.colours))),
        max_objects=max(one.max_objects, other.max_objects),
    )


def train(
    plan: Plan,
    report: Callable[[dict[str, float]], None],
    measure: Callable[[Path], float] | None = None,
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
        _work(0, 1, lesson, report, measure)
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
    measure: Callable[[Path], float] | None,
) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        _work(rank, world, Lesson(plan), queue.put, measure)
    except Diverged as error:
        queue.put(error)
        threading.Event().wait()  # for the parent, which ends all: the others wait for gradients
    dist.destroy_process_group()


class Lesson:
    """What a plan teaches, and the model it begins with."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        known = checkpoints.read(plan.base).vocabulary if plan.base else None
        bins = plan.bins or (known.bins if known else 128)
        if not 2 <= bins <= 1000:
            raise ValueError(f"{bins} location bins; take 2 to 1000")
        if plan.data and plan.lit and not plan.scenes:
            raise ValueError("a bank of sprites goes into synthetic scenes, of which none are shown")
        self._data = [
            coco.read(f.instances, f.images, leave_out=plan.holdout, classes=plan.classes) for f in plan.data
        ]
        #: What is wrong with the data, and is left out.
        self.left_out = [line for data in self._data for line in data.left_out]
        #: Whose feature maps the vision encoder is taught, or None.
        self.teacher = FeatureTeacher(plan.teacher, plan.teacher_layers) if plan.teacher else None
        self._bank = sprites.load(plan.lit, LIT) if plan.lit else None
        if self._bank and self._bank.split != "train":
            raise ValueError(f"{plan.lit} is for measuring ({self._bank.split}); train on one of train")
        self.vocabulary = replace(scene_vocabulary(), bins=bins)
        if self._data:
            seen = coco.vocabulary(self._data, bins, plan.min_side, plan.most_objects)
            self.vocabulary = joined(seen, self.vocabulary) if plan.scenes else seen

    def start(self) -> tuple[Idefics3ForConditionalGeneration, PreTrainedTokenizerFast]:
        plan, vocabulary = self.plan, self.vocabulary
        if plan.base:
            return grow(plan.base, vocabulary, plan.tile, plan.seed, plan.vision_layers)
        tokenizer = blank.make_tokenizer(vocabulary)
        shape = replace(
            plan.shape,
            tile=plan.tile or plan.shape.tile,
            vision_layers=plan.vision_layers or plan.shape.vision_layers,
        )
        return blank.make_model(blank.make_config(shape, vocabulary, tokenizer), plan.seed), tokenizer

    def source(self, make: Examples, tile: int) -> Source:
        plan = self.plan
        sources: list[tuple[float, Source]] = [
            (
                files.weight,
                CocoSource(make, self.vocabulary, data, plan.seed, plan.min_side),
            )
            for files, data in zip(plan.data, self._data, strict=True)
        ]
        if plan.scenes or not sources:
            novice = not plan.base and not sources
            drawn = SceneSource(make, self.vocabulary, plan.seed, tile, novice, plan.repeat, self._bank)
            sources.append((plan.scenes or 1.0, drawn))
        return sources[0][1] if len(sources) == 1 else MixedSource(sources, plan.seed)


def _work(
    rank: int,
    world: int,
    lesson: Lesson,
    report: Callable[[dict[str, float]], None],
    measure: Callable[[Path], float] | None,
) -> None:
    """One process's part of the training."""
    plan = lesson.plan
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state_file = plan.out / "state.pt"
    state = torch.load(state_file, map_location="cpu", weights_only=True) if state_file.exists() else None
    seen = state["seen"] if state else 0
    workers = max(len(os.sched_getaffinity(0)) - 1, 1) if device.type == "cuda" else 0
    if workers:
        cv2.setNumThreads(1)  # a forked process hangs in OpenCV where this one has used its threads
    vocabulary = lesson.vocabulary
    model, tokenizer = lesson.start()
    shape = model.config.vision_config
    grid = shape.image_size // shape.patch_size
    image_tokens = (grid // model.config.scale_factor) ** 2
    make = Examples(tokenizer, vocabulary, shape.image_size, image_tokens, plan.presume_absent)
    per_process = plan.batch // world
    last = plan.stop_after or plan.samples
    loader = DataLoader(
        _Numbered(lesson.source(make, shape.image_size), seen, last, rank, world, per_process),
        per_process,
        num_workers=workers,
        collate_fn=_Collate(model.config.text_config.pad_token_id, grid, len(vocabulary.classes)),
        pin_memory=device.type == "cuda",
        timeout=LOADING if workers else 0,
        drop_last=True,
    )
    batches = iter(loader)  # its processes start here, before this one uses the GPU
    first_bin = tokenizer.convert_tokens_to_ids(prompts.location_token(0))
    teacher = lesson.teacher.to(device) if lesson.teacher else None
    learner = Learner(model, first_bin, plan.whole_boxes, teacher.channels if teacher else 0).to(device)
    if plan.only_whole_boxes:
        learner.requires_grad_(False)
        assert learner.whole_boxes is not None
        learner.whole_boxes.requires_grad_(True)
    if plan.freeze_vision:
        learner.freeze_vision()
    optimiser = make_optimiser(learner)
    if state:
        learner.load_state_dict(state["learner"])
        optimiser.load_state_dict(state["optimiser"])
    mixed = plan.precision == "bfloat16" or (plan.precision == "auto" and fast_bfloat16(device))
    if mixed and device.type == "cpu":
        attention.use(model)
    vision_first = 0 if plan.base else plan.vision_first
    saved = told = time.monotonic()
    window: list[Tensor] = []  # of losses; reading one waits for a GPU, so they are read at a report
    told_at = seen
    for batch in _on(device, batches):
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            with torch.set_grad_enabled(not (plan.only_whole_boxes or plan.freeze_vision)):
                features = learner.see(batch.images)
            dense = features.new_zeros(()) if plan.freeze_vision else learner.dense_loss(features, batch)
            if teacher:
                dense = dense + TEACHER * learner.teacher_loss(features, teacher(batch.images, grid))
            answer = learner.answer_loss(features, batch) if seen >= vision_first else dense.new_zeros(())
        loss = dense + 2 * answer
        if loss.requires_grad:  # else nothing that is learnt is in these pictures: not a box for its head
            loss.backward()
        share_gradients(learner, world)
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step(learning_rate(plan, seen))
        seen += plan.batch
        if rank:
            continue
        window.append(torch.stack([dense.detach(), answer.detach()]))
        now = time.monotonic()
        over = seen + plan.batch > last
        if len(window) == plan.report_steps or over:
            _check(plan, learner, seen)
            dense_mean, answer_mean = torch.stack(window).mean(0).tolist()
            entry = {
                "samples": seen,
                "dense": dense_mean,
                "answer": answer_mean,
                "lr": learning_rate(plan, seen),
                "samples_per_second": (seen - told_at) / (now - told),
            }
            if measure and (over or seen // plan.measure_samples > told_at // plan.measure_samples):
                _save(plan, learner, optimiser, tokenizer, seen)
                entry["f1"] = measure(plan.out / "checkpoint")
                saved = now = time.monotonic()
            with (plan.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")
            report(entry)
            window, told, told_at = [], now, seen
        if now - saved > plan.save_seconds:
            _save(plan, learner, optimiser, tokenizer, seen)
            saved = time.monotonic()
    if not rank:
        _save(plan, learner, optimiser, tokenizer, seen)


@dataclass(frozen=True)
class _Collate:
    pad: int
    grid: int
    classes: int

    def __call__(self, examples: list[Example]) -> Batch:
        return collate(examples, self.pad, self.grid, self.classes)


def _on(device: torch.device, batches: Iterator[Batch]) -> Iterator[Batch]:
    for batch in batches:
        yield batch.to(device)


def make_optimiser(learner: Learner) -> Optimiser:
    """Muon for the layers' matrices, AdamW for embeddings, norms, biases and heads."""
    matrices = {
        n: p for n, p in learner.named_parameters() if p.ndim == 2 and (".layers." in n or "connector" in n)
    }
    others = [p for n, p in learner.named_parameters() if n not in matrices]
    return Optimiser(matrices.values(), others)


def _check(plan: Plan, learner: Learner, seen: int) -> None:
    """Raise Diverged unless all weights are numbers that a checkpoint can hold."""
    largest = torch.stack([p.detach().abs().max() for p in learner.parameters()]).max().item()
    if not largest < torch.finfo(torch.float16).max:  # NaN, too
        raise Diverged(
            f"the training has diverged: after {seen} samples a weight is {largest:g}. What {plan.out} had "
            f"before is kept; the same command with a lower --lr than {plan.lr:g} goes on from there"
        )


def _save(
    plan: Plan, learner: Learner, optimiser: Optimiser, tokenizer: PreTrainedTokenizerFast, seen: int
) -> None:
    """Write the state and the checkpoint; a run that is killed meanwhile keeps the previous ones.

    Raises Diverged, and writes nothing then.
    """
    _check(plan, learner, seen)
    partial = plan.out / "state.pt.part"
    torch.save({"learner": learner.state_dict(), "optimiser": optimiser.state_dict(), "seen": seen}, partial)
    partial.replace(plan.out / "state.pt")
    weights = {k: v.detach().clone() for k, v in learner.model.state_dict().items()}
    blank.save(learner.model, tokenizer, plan.out / "checkpoint")
    if (head := learner.whole_boxes) is not None:
        boxes.write(plan.out / "checkpoint", head.weight, head.bias)
    learner.model.load_state_dict(weights)  # saving rounds to fp16; training goes on with what it had
