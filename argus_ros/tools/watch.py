"""`argus watch`: a live page of a running node, for any browser; needs no ROS tools and no network.

It replaces this process by the server, ``argus_ros.ros.watch``.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from argus_ros.tools import topics

PORT = 8090


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--node", default="/argus", help="full name of the node to watch")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others need a token")
    parser.add_argument("--port", type=int, default=PORT, help="0: any free port")


def run(options: argparse.Namespace) -> int:
    topics.require_ros()
    words = ["--node", options.node, "--host", options.host, "--port", str(options.port)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "argus_ros.ros.watch", *words])


@contextmanager
def beside(environment: dict[str, str], console: Console) -> Iterator[None]:
    """The live page of the node in this environment, during the block; prints its address.

    Where it cannot be served, the reason is printed, and the block runs without it.
    """
    port, taken = PORT, ""
    try:
        socket.create_server(("127.0.0.1", PORT)).close()
    except OSError:
        port, taken = 0, f" (port {PORT} is taken)"
    ended = threading.Event()
    words = ("--node", topics.NODE, "--port", str(port))
    with topics.process("watch", *words, environment=environment, console=console) as server:

        def announce() -> None:
            assert server.stdout is not None
            served = False
            for line in server.stdout:  # the middleware also writes here
                served |= (address := line.startswith("http://"))
                said = f"live page: {line.strip()}{taken}" if address else line.rstrip()
                console.print(said, markup=False, highlight=False, soft_wrap=True)
            if not served and not ended.is_set():
                console.print("there is no live page; argus watch printed the reason")

        threading.Thread(target=announce, daemon=True).start()
        try:
            yield
        finally:
            ended.set()
