"""What a plan teaches: its data, its vocabulary, and the model that it begins with."""

from __future__ import annotations

from dataclasses import replace

from transformers import Idefics3ForConditionalGeneration, PreTrainedTokenizerFast

from argus_ros.core import checkpoint as checkpoints
from argus_ros.training import coco
from argus_ros.training.coco import CocoSource
from argus_ros.training.distillation import FeatureTeacher
from argus_ros.training.examples import Examples
from argus_ros.training.growth import grow
from argus_ros.training.plan import Plan
from argus_ros.training.scenes import sprites
from argus_ros.training.sources import MixedSource, SceneSource, Source, joined, scene_vocabulary
from argus_ros.vlm.models import blank

#: Share of the objects in a scene that are taken from a bank, where there is one.
LIT = 0.3


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
