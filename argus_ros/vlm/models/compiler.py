"""Compiles a C file of this package for the processor it runs on, once, and loads it.

The result is kept in ``$XDG_CACHE_HOME/argus_ros``, under a name made from the source, the compiler, its
options and the processor. Compiling takes about two seconds.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

#: Sums may be computed in another order than written, so that they become vector instructions. NaN stays NaN.
OPTIONS = (
    *("-std=c99", "-O3", "-shared", "-fPIC", "-fassociative-math", "-fno-signed-zeros"),
    *("-fno-trapping-math", "-fno-math-errno"),
)
#: For the processor of this machine, with the widest vectors that it has.
NATIVE = {"x86_64": ("-march=native", "-mprefer-vector-width=512"), "aarch64": ("-mcpu=native",)}
#: Compilers that are tried where ``CC`` names none.
COMPILERS = "cc", "gcc", "clang"
#: Upper limit of the compiler's time, seconds.
PATIENCE = 60.0


class CompileError(RuntimeError):
    """There is no library; the message says why."""


def cache() -> Path | None:
    """The folder for what this package keeps; None without a home folder or an absolute path."""
    # Unlike pathlib, this leaves ~ unchanged where there is no home folder.
    base = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"))
    return base / "argus_ros" if base.is_absolute() else None


def load(source: Path) -> ctypes.CDLL:
    """The compiled ``source``. Raises CompileError."""
    compiler = _compiler()
    command = [*compiler, *OPTIONS, *NATIVE.get(platform.machine(), ())]
    try:
        code = source.read_bytes()
        version = subprocess.run([*compiler, "--version"], capture_output=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise CompileError(f"{shlex.join(compiler)} cannot be run: {error}") from None
    key = hashlib.sha256(b"\0".join([code, version.stdout, shlex.join(command).encode(), _processor()]))
    name = f"{source.stem}-{key.hexdigest()[:16]}.so"
    kept = cache()
    if kept and (found := _open(kept / name)):
        return found
    with tempfile.TemporaryDirectory(prefix="argus-") as folder:
        made = Path(folder) / name
        _run([*command, "-o", str(made), str(source)])
        library = _open(made)
        if library is None:
            raise CompileError(f"what {shlex.join(compiler)} made of {source.name} cannot be loaded")
        if kept:
            _keep(made, kept / name)
    return library


def _compiler() -> list[str]:
    if named := shlex.split(os.environ.get("CC", "")):
        return named
    for name in COMPILERS:
        if found := shutil.which(name):
            return [found]
    raise CompileError("there is no C compiler (apt install gcc)")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, errors="replace")
    except (OSError, subprocess.SubprocessError) as error:
        raise CompileError(f"the compiler cannot be run: {error}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise CompileError(f"{command[0]}: {lines[0]}")


def _open(file: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(file)) if file.exists() else None
    except OSError:  # cut off, or of another machine
        return None


def _keep(made: Path, file: Path) -> None:
    """Copy to the cache, whole or not at all; without a cache it is compiled at each start."""
    mine = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, mine)
        mine.replace(file)
    except OSError:
        mine.unlink(missing_ok=True) if file.parent.is_dir() else None


def _processor() -> bytes:
    """What ``native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    kinds = ("model name", "flags", "Features", "CPU part", "CPU implementer")
    return "\n".join(sorted({line for line in lines if line.startswith(kinds)})).encode()
