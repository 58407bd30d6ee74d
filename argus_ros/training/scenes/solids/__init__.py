"""The ten classes as solids: simple shapes put together, in proportions that differ every time.

Metres, z up, the floor at 0. Fronts point to -y, those of cars to x. Nothing here needs MuJoCo; ``renderer``
does.
"""

from __future__ import annotations

import numpy as np

from argus_ros.training.scenes.palette import RGB
from argus_ros.training.scenes.solids import ball, barrel, bottle, box, car, chair, cone, door, person, robot
from argus_ros.training.scenes.solids.kit import Family, Kit, Model, Part

FAMILIES: dict[str, Family] = {
    "person": person.FAMILY,
    "cone": cone.FAMILY,
    "ball": ball.FAMILY,
    "box": box.FAMILY,
    "barrel": barrel.FAMILY,
    "chair": chair.FAMILY,
    "door": door.FAMILY,
    "bottle": bottle.FAMILY,
    "robot": robot.FAMILY,
    "car": car.FAMILY,
}


def models_of(label: str, split: str) -> tuple[Model, ...]:
    """The models that a split of the scenes may show: ``heldout`` the last one, the others all but it."""
    models = FAMILIES[label].models
    return models[-1:] if split == "heldout" else models[:-1]


def build(model: Model, colour: RGB, rng: np.random.Generator) -> list[Part]:
    """One object in a colour, with proportions of its own."""
    kit = Kit(colour, rng)
    model(kit)
    return kit.parts


def name_of(model: Model) -> str:
    return model.__name__.strip("_").replace("_", " ")
