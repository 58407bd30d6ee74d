"""`argus watch`: a live page of a node that runs, for any browser; needs no ROS tools, and no network.

The server is ``argus_ros.ros.watch``, in the place of this process.
"""

from __future__ import annotations

import argparse
import os
import sys

from argus_ros.tools import topics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--node", default="/argus", help="full name of the node to watch")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others need a token")
    parser.add_argument("--port", type=int, default=8090, help="0: any that is free")


def run(options: argparse.Namespace) -> int:
    topics.require_ros()
    words = ["--node", options.node, "--host", options.host, "--port", str(options.port)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "argus_ros.ros.watch", *words])
