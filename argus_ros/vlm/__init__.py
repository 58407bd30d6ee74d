"""The model, on torch: checkpoints, prompts, grammar, the engine and its worker process. No rclpy."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argus_ros.vlm.processors import fast_processor

__all__ = ["fast_processor"]


def __getattr__(name: str) -> Any:
    """Import exported names on first use: transformers takes seconds to import."""
    if name == "fast_processor":
        from argus_ros.vlm.processors import fast_processor

        return fast_processor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
