"""The program ``argus_node``: its arguments, its signals, and the loop that spins the node.

One executor thread can answer parameter and lifecycle services at any time, as images, the pipeline and the
model have their own threads and process. It is rclpy's SingleThreadedExecutor because, on 1080p at 30 Hz, the
MultiThreadedExecutor took twice the CPU time and lost images, and Jazzy's experimental EventsExecutor
delivered none and did not end with its context.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as rcl
from rclpy.utilities import remove_ros_args

from argus_ros.ros import parameter_warnings
from argus_ros.ros.node import ArgusNode
from argus_ros.ros.results import LOG_INTERVAL
from argus_ros.ros.settings import ParameterError, reason_of

ENDING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP  #: end the node in order


def check_arguments(words: Sequence[str]) -> None:
    """Print the usage and exit for --help; exit with status 2 for an unknown argument.

    Raises RuntimeError (from rcl) for invalid arguments after --ros-args.
    """
    parser = argparse.ArgumentParser(
        "argus_node",
        usage="argus_node [--help] [--ros-args [-p NAME:=VALUE] [-r FROM:=TO] [--params-file FILE] ...]",
        description="The lifecycle node of argus_ros: cameras in, typed detections out.",
        epilog=USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    try:
        _, unknown = parser.parse_known_args(remove_ros_args(list(words))[1:])
    except rcl.UnknownROSArgsError as error:
        parser.error(f"unknown argument {error} after --ros-args; use -p, -r, --params-file ...")
    if unknown:
        parser.error(f"unknown argument {unknown[0]!r}; put parameters and remappings after --ros-args")


USAGE = """\
examples:
  argus_node --ros-args -r front/image_raw:=/camera/image_raw -p model:=argus-nano-real -p classes:="[person]"
  argus_node --ros-args --params-file argus.yaml -r __ns:=/robot1

config/argus.yaml has every parameter with its default and its range; `ros2 launch argus_ros argus.launch.py`
starts the node with the Fast DDS profile for large images."""


def main(args: list[str] | None = None) -> int:
    # rclpy's own handlers end the context and so spin(). Python's handlers, which run next, do nothing: a
    # KeyboardInterrupt could be raised anywhere.
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    _end_on_hangup()
    if os.environ.get("NO_COLOR"):  # rcutils does not read it
        os.environ.setdefault("RCUTILS_COLORIZED_OUTPUT", "0")
    node = None
    words = sys.argv if args is None else args
    try:
        check_arguments(words)
        rclpy.init(args=words)
        if signals:
            return 0
        node = ArgusNode()
        for complaint in parameter_warnings.ineffective_files(words, node.get_fully_qualified_name()):
            node.get_logger().warning(complaint)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        node.start()
        while not signals and rclpy.ok():
            _spin(executor, node)
    except Exception as error:
        if signals:  # ExternalShutdownException, or any error of rclpy after the signal
            return 0
        if node is None and isinstance(error, (ParameterError, RuntimeError)):  # RuntimeError is from rcl
            print(f"argus_node: {reason_of(error)}", file=sys.stderr)
            return 1
        if rclpy.ok():
            raise
    finally:
        if node:
            node.close()
        rclpy.try_shutdown()
        for number in ENDING:  # launch repeats the terminal's signal
            signal.signal(number, signal.SIG_IGN)
    return 0


def _spin(executor: SingleThreadedExecutor, node: ArgusNode) -> None:
    """Spin until the context ends; a callback that fails is logged, and the others continue."""
    try:
        executor.spin()
    except ExternalShutdownException:
        pass
    except Exception as error:
        if rclpy.ok():
            trace = "".join(traceback.format_exception(error))
            node.get_logger().error(f"a callback failed: {trace}", throttle_duration_sec=LOG_INTERVAL)


def _end_on_hangup() -> None:
    """Treat SIGHUP (a closed terminal) as SIGTERM; rclpy does not handle it."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # started with nohup
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])  # in all later threads
    # argus_node blocks it in earlier threads too; the main thread handles it within a second.
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))

    def end() -> None:
        signal.sigwait([signal.SIGHUP])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end, name="hangup", daemon=True).start()


if __name__ == "__main__":
    raise SystemExit(main())
