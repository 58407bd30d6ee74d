"""Importing this first sets up a process that will run a model, before numpy and torch are loaded.

What the user has set in the environment stays.
"""

from __future__ import annotations

import ctypes
import os

# numpy multiplies a few rows at a time here, beside which threads of its own would only spin.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# torch's threads sleep while they wait for one another: on a busy machine a thread that spins takes the core
# from the thread that it waits for.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

#: Of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Bytes of freed memory that the process keeps, and the size from which an array is mapped by itself.
KEPT, LARGE = 1 << 26, 1 << 25

# A frame's arrays have a megabyte or two: by default the system maps and clears each of them anew.
if hasattr(libc := ctypes.CDLL(None), "mallopt"):
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    for name, parameter, size in (
        ("trim_threshold", _M_TRIM_THRESHOLD, KEPT),
        ("mmap_threshold", _M_MMAP_THRESHOLD, LARGE),
    ):
        if f"MALLOC_{name.upper()}_" not in os.environ and f"glibc.malloc.{name}=" not in tunables:
            libc.mallopt(parameter, size)
