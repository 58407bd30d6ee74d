"""The node, as argus_node starts it."""

import os
import signal

# Importing takes a second; a signal in it ends the program in order, as it does later on.
for number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, lambda *_: os._exit(0))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])  # argus_node let them wait
# main() waits for this one; it must not go to a thread that an import starts.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])

from argus_ros.ros.program import main  # noqa: E402

raise SystemExit(main())
