"""Finds a ROS domain that no other process on this machine uses, for programs that start their own nodes."""

from __future__ import annotations

import os
import socket
import time

#: Domains whose ports are below the system's ephemeral ports (RTPS: 7400 + 250 for each domain).
DOMAINS = range(1, 102)


class DomainError(RuntimeError):
    """No domain is free."""


def claim() -> tuple[socket.socket, int]:
    """A free domain and a socket; other callers get another domain until that socket is closed.

    A domain also counts as used where the port of its first participant is bound.
    """
    start = (os.getpid() * 7 + time.monotonic_ns() // 1000) % len(DOMAINS)
    for offset in range(len(DOMAINS)):
        domain = DOMAINS[(start + offset) % len(DOMAINS)]
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0argus_ros domain {domain}")  # an abstract name: freed when the process ends
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
                port.bind(("", 7400 + 250 * domain + 10))
        except OSError:
            claim.close()
        else:
            return claim, domain
    raise DomainError("all ROS domains of this machine are in use; stop nodes that are not needed")
