"""The messages of a run's processes on real topics."""

from __future__ import annotations

import io
import subprocess
import sys
import threading

from rich.console import Console

from argus_ros.tools import topics


def test_what_the_middleware_writes_between_is_no_message() -> None:
    """Fast DDS writes its errors to the standard output, coloured and in the middle of everything."""
    error, message = (
        "2026-11-27 [RTPS Error] Failed to create segment",
        '{"topic": "timing", "message": {"age": 1}}',
    )
    lines = [error, message, "7", "{}"]
    listener = subprocess.Popen(
        [sys.executable, "-c", f"print({chr(10).join(lines)!r})"], stdout=subprocess.PIPE, text=True
    )
    console = Console(file=io.StringIO(), width=200)
    heard = topics.listen(listener, console)
    assert heard.get(timeout=30) == ("timing", {"age": 1})
    for thread in threading.enumerate():
        if thread.name == "listener":
            thread.join(30)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Failed to create segment" in shown
    assert "timing" not in shown
