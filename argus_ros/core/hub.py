"""Checkpoints of a model hub: their local folders, and downloads where these are allowed.

Downloads need a user's consent: ``argus models --download``, or ``allow_download`` and a full commit behind
the name, so that the same model runs each time.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from argus_ros.core.checkpoint import HUB_ID, cached, hub_cache
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.section import CheckpointError

log = logging.getLogger(__name__)

#: JSON files of a checkpoint, and its weights: no pickles, no code.
DESCRIBING = ("*.json", "*.jinja", "*.txt", "*.model", "README.md", "LICENSE*")
WEIGHTS = ("*.safetensors",)
#: Timeout for the hub's response, seconds.
ANSWER = 10.0
#: A revision that cannot change.
COMMIT = re.compile(r"[0-9a-f]{40}")


def download(name: str, *, weights: bool = True) -> Path:
    """Download ``ORG/NAME`` or ``ORG/NAME@REVISION`` into huggingface_hub's cache; returns its folder.

    Raises CheckpointError.
    """
    hub = HUB_ID.fullmatch(name)
    if not hub:
        raise CheckpointError(f"{name!r} is not a hub id; give ORG/NAME or ORG/NAME@REVISION")
    import huggingface_hub

    patterns = [*DESCRIBING, *(WEIGHTS if weights else ())]
    try:
        # Without a network this fails at once; the calls below retry many times.
        huggingface_hub.HfApi().model_info(hub["repo"], revision=hub["revision"] or None, timeout=ANSWER)
        found = huggingface_hub.snapshot_download(
            hub["repo"], revision=hub["revision"] or None, allow_patterns=patterns
        )
    except Exception as error:  # the network can fail in any way
        raise CheckpointError(
            f"{name} cannot be downloaded: {type(error).__name__}: {' '.join(str(error).split())[:300]}; "
            f"without a network put its folder into {hub_cache()}, or give the path of a folder"
        ) from None
    return Path(found)


def allow(config: EngineConfig, *, weights: bool) -> None:
    """Download a checkpoint's missing files, where its configuration allows it. Raises CheckpointError."""
    hub = HUB_ID.fullmatch(config.checkpoint)
    if not config.allow_download or config.backend == "openai" or not hub:
        return
    if Path(config.checkpoint).expanduser().exists():  # a folder of that name
        return
    if not COMMIT.fullmatch(hub["revision"] or ""):
        raise CheckpointError(
            f"model is {config.checkpoint!r}: allow_download needs the full commit behind it, such as "
            f"{hub['repo']}@0123456789abcdef0123456789abcdef01234567, so that the same model runs each time"
        )
    there = cached(hub["repo"], hub["revision"])
    if there and (any(there.glob("*.safetensors")) if weights else (there / "config.json").is_file()):
        return
    log.warning("fetching %s of %s", "the weights" if weights else "the description", config.checkpoint)
    download(config.checkpoint, weights=weights)
