"""A scheduler for tests, and short ways through it."""

from argus_ros.core.frame import CameraPolicy, Level
from argus_ros.core.latency import LatencyModel
from argus_ros.core.scheduler import FrameScheduler

PREPARE, RUN = 0.005, 0.020


def scheduler(*cameras, prior=None, **options):
    """Cameras by name (default policy) or as (name, policy); the engine is up."""
    policies = dict(c if isinstance(c, tuple) else (c, CameraPolicy()) for c in cameras)
    prior = {("prepare", 0, 1): PREPARE, ("run", 0, 1): RUN} if prior is None else prior
    levels = options.pop("levels", [Level()])
    made = FrameScheduler(policies, levels, LatencyModel(prior), **options)
    made.engine_up()
    return made


def prepare(s, now, took=PREPARE):
    frame = s.next_prepare(now)
    s.prepared(frame, now + took)
    return frame


def ends(s):
    return [(e.frame.camera, e.outcome) for e in s.take_ended()]
