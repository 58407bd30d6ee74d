"""A ROS domain that nobody else uses on this machine, for programs that bring their own players and nodes."""

from __future__ import annotations

import os
import socket
import time

#: All whose ports lie below those that the system gives out (RTPS: 7400 + 250 for each domain).
DOMAINS = range(1, 102)


class DomainError(RuntimeError):
    """No domain is free."""


def claim() -> tuple[socket.socket, int]:
    """A free domain, and what holds it: others who ask here get another one until that is closed.

    A domain counts as taken, too, where the port of its first participant is: nodes run there.
    """
    start = (os.getpid() * 7 + time.monotonic_ns() // 1000) % len(DOMAINS)
    for offset in range(len(DOMAINS)):
        domain = DOMAINS[(start + offset) % len(DOMAINS)]
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0argus_ros domain {domain}")  # an abstract name: it goes with the process
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
                port.bind(("", 7400 + 250 * domain + 10))
        except OSError:
            claim.close()
        else:
            return claim, domain
    raise DomainError("all ROS domains of this machine are in use")
