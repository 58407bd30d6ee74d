"""Starts the node, as the program argus_node."""

import os
import signal

# Importing takes a second. A signal during it ends the program in order, as later.
for number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, lambda *_: os._exit(0))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])  # argus_node has blocked them
# main() waits for this signal; it must not go to a thread that an import starts.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])

from argus_ros.ros.program import main  # noqa: E402

raise SystemExit(main())
