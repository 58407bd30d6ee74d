"""Moved to ``argus_ros.vlm.blank``."""

from argus_ros.vlm.blank import *  # noqa: F403
