"""What tests ask about other processes."""

from __future__ import annotations

import os


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
