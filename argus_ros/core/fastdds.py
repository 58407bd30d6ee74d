"""The Fast DDS profile that lets camera images through (``config/fastdds_large_images.xml``)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from argus_ros.core.resources import share

#: Fast DDS 3 (Kilted and later) reads the first, Fast DDS 2 (Humble, Jazzy) the second.
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
#: Whoever sets one of these has chosen transports already.
_CHOSEN = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")


def with_large_images(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """A copy of ``environment`` (default: this process's) that names the profile, unless it names another.

    Fast DDS reads it when a process creates its first participant, and the shared memory is the
    sender's: give this to whoever publishes images as well as to whoever receives them.
    """
    result = dict(os.environ if environment is None else environment)
    if not any(result.get(name) for name in _CHOSEN):
        profile = str(share("config", "fastdds_large_images.xml"))
        result |= dict.fromkeys(PROFILE_VARIABLES, profile)
    return result
