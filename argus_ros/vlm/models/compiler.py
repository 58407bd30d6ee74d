"""Compiles a C file of this package for the processor it runs on, once, and loads it.

The result is kept in ``$XDG_CACHE_HOME/argus_ros``, under a name made from the source, the compiler, its
options and the processor. Compiling takes about two seconds.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
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
#: Bytes of the digest behind a kept library.
DIGEST = 32

log = logging.getLogger(__name__)


class CompileError(RuntimeError):
    """There is no library; the message says why."""


def cache() -> Path | None:
    """The folder for what this package keeps; None without a home folder or an absolute path."""
    # Unlike pathlib, this leaves ~ unchanged where there is no home folder.
    base = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"))
    return base / "argus_ros" if base.is_absolute() else None


def load(source: Path) -> ctypes.CDLL:
    """The compiled ``source``. Raises CompileError."""
    compiler = find()
    command = [*compiler, *OPTIONS, *NATIVE.get(platform.machine(), ())]
    try:
        code = source.read_bytes()
        version = subprocess.run([*compiler, "--version"], capture_output=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise CompileError(f"{shlex.join(compiler)} cannot be run: {error}") from None
    key = hashlib.sha256(b"\0".join([code, version.stdout, shlex.join(command).encode(), _processor()]))
    name = f"{source.stem}-{key.hexdigest()[:16]}.so"
    kept = cache()
    if kept and _is_whole(kept / name) and (found := _open(kept / name)):
        return found
    try:
        with tempfile.TemporaryDirectory(prefix="argus-") as folder:
            made = Path(folder) / name
            _run([*command, "-o", str(made), str(source)])
            if (library := _open(made)) is None:
                raise CompileError(f"what {shlex.join(compiler)} made of {source.name} cannot be loaded")
            if kept:
                _keep(made.read_bytes(), kept / name)
    except OSError as error:  # of the temporary folder
        raise CompileError(f"no place to compile: {error}") from None
    return library


def find() -> list[str]:
    """The command of the C compiler: ``CC``, else the first that there is. Raises CompileError."""
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
    except OSError:  # of another machine
        return None


def _is_whole(file: Path) -> bool:
    """Whether a kept file is as it was written: loading a damaged one would end the process."""
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def _keep(library: bytes, file: Path) -> None:
    """Write to the cache, with a digest at the end; where that fails, it is compiled at each start."""
    mine = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        mine.write_bytes(library + hashlib.sha256(library).digest())
        mine.replace(file)  # atomic, also with other writers
    except OSError as error:
        log.info("compiled code cannot be kept (%s); the next start will compile again", error)


def _processor() -> bytes:
    """What ``native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    kinds = ("model name", "flags", "Features", "CPU part", "CPU implementer")
    return "\n".join(sorted({line for line in lines if line.startswith(kinds)})).encode()
