"""A plugin for vLLM, which makes its processors prepare pictures with ``fast_processor``.

Install it with ``pip install argus-ros`` in vLLM's environment: vLLM finds it by the entry point group
``vllm.general_plugins``. With ``ARGUS_VLLM_PLUGIN=0``, or without a fast version, vLLM keeps its own
processors.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
from typing import Any

#: Environment variable that turns the plugin off.
SWITCH = "ARGUS_VLLM_PLUGIN"
log = logging.getLogger("vllm.argus_ros")  # a child of vLLM's logger, so that vLLM shows it


def register() -> None:
    """Replace the processors that vLLM loads from now on by fast ones. Never raises."""
    if os.environ.get(SWITCH, "1").lower() in ("0", "off", "false", "no"):
        log.info("argus_ros: off by %s", SWITCH)
        return
    try:
        from argus_ros.vlm.processors import fast_processor

        place: Any = importlib.import_module("vllm.transformers_utils.processor")

        stock = place.get_processor
    except Exception as error:  # unknown versions of vLLM or transformers can raise anything
        log.warning("argus_ros: vLLM keeps its own processors (%s: %s)", type(error).__name__, error)
        return
    if hasattr(stock, "argus"):
        return

    told: set[str] = set()

    @functools.wraps(stock)
    def get_processor(*arguments: Any, **named: Any) -> Any:
        made = stock(*arguments, **named)
        try:
            fast = fast_processor(made)
        except Exception as error:
            fast, said = made, f"vLLM's own ({error})"
        else:
            said = "fast"
        if (name := type(made).__name__) not in told:
            told.add(name)
            log.info("argus_ros: image processor of %s: %s", name, said)
        return fast

    get_processor.argus = True  # type: ignore[attr-defined]
    place.get_processor = get_processor
    place.cached_get_processor = functools.lru_cache(get_processor)
