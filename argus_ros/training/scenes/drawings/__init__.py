"""The ten classes as drawings, each in several variants: a module for each class."""

from argus_ros.training.scenes.drawings import (
    ball,
    barrel,
    bottle,
    box,
    car,
    chair,
    cone,
    door,
    person,
    robot,
)
from argus_ros.training.scenes.drawings.kind import HELD_OUT, Kind

__all__ = ["CLASSES", "HELD_OUT", "KINDS", "Kind"]

KINDS: dict[str, Kind] = {
    "person": person.KIND,
    "cone": cone.KIND,
    "ball": ball.KIND,
    "box": box.KIND,
    "barrel": barrel.KIND,
    "chair": chair.KIND,
    "door": door.KIND,
    "bottle": bottle.KIND,
    "robot": robot.KIND,
    "car": car.KIND,
}
CLASSES = tuple(KINDS)
