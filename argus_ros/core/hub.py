"""Checkpoints of a model hub: where they lie on this machine, and fetching them where that is allowed.

Nothing is fetched unless a person says so: by ``argus models --download``, or with ``allow_download`` and a
whole commit behind the name, so that what runs tomorrow is what ran today.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from argus_ros.core.checkpoint import HUB_ID, cached, hub_cache
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.section import CheckpointError

log = logging.getLogger(__name__)

#: Files that say what a checkpoint is, and its weights: no pickles, no code.
DESCRIBING = ("*.json", "*.jinja", "*.txt", "*.model", "README.md", "LICENSE*")
WEIGHTS = ("*.safetensors",)
#: Seconds that the hub may take to answer.
ANSWER = 10.0
#: A revision that cannot change.
COMMIT = re.compile(r"[0-9a-f]{40}")


def download(name: str, *, weights: bool = True) -> Path:
    """Fetch ``ORG/NAME`` or ``ORG/NAME@REVISION`` into huggingface_hub's cache; its folder.

    Raises CheckpointError.
    """
    hub = HUB_ID.fullmatch(name)
    if not hub:
        raise CheckpointError(f"{name!r} is no hub id: ORG/NAME, with @REVISION behind it or not")
    import huggingface_hub

    patterns = [*DESCRIBING, *(WEIGHTS if weights else ())]
    try:
        # Without a network this ends at once, and what follows after many tries.
        huggingface_hub.HfApi().model_info(hub["repo"], revision=hub["revision"] or None, timeout=ANSWER)
        found = huggingface_hub.snapshot_download(
            hub["repo"], revision=hub["revision"] or None, allow_patterns=patterns
        )
    except Exception as error:  # the network can fail in any way
        raise CheckpointError(
            f"{name} cannot be fetched: {type(error).__name__}: {' '.join(str(error).split())[:300]}; "
            f"without a network put its folder into {hub_cache()}, or give the path of a folder"
        ) from None
    return Path(found)


def allow(config: EngineConfig, *, weights: bool) -> None:
    """Where a configuration allows it, fetch what is missing of its checkpoint. Raises CheckpointError."""
    hub = HUB_ID.fullmatch(config.checkpoint)
    if not config.allow_download or config.backend == "openai" or not hub:
        return
    if Path(config.checkpoint).expanduser().exists():  # a folder of that name
        return
    if not COMMIT.fullmatch(hub["revision"] or ""):
        raise CheckpointError(
            f"model is {config.checkpoint!r}: allow_download needs the whole commit behind it, as "
            f"{hub['repo']}@0123456789abcdef0123456789abcdef01234567, so that it stays what it is"
        )
    there = cached(hub["repo"], hub["revision"])
    if there and (any(there.glob("*.safetensors")) if weights else (there / "config.json").is_file()):
        return
    log.warning("fetching %s of %s", "the weights" if weights else "the description", config.checkpoint)
    download(config.checkpoint, weights=weights)
