"""A robot whose shared memory is full before the node starts, and withdrawn while it runs.

``python -m faults.exhausted CHECKPOINT FOLDER`` in a mount namespace with a /dev/shm of its own, which
test_faults.py makes: that of the machine belongs to others too.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from robot import engine_pid, inhabited, picture, start_node, visiting

from argus_ros.core.domain import claim
from argus_ros.core.fastdds import SHARED_MEMORY, with_large_images


def fill() -> Path:
    """A file that takes what is left."""
    filler = SHARED_MEMORY / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def main(checkpoint: Path, folder: Path) -> None:
    claimed, domain = claim()
    with claimed, inhabited(domain, folder) as ros:
        profile = with_large_images(ros.environment)
        for full in (True, False):
            filler = fill()
            if not full:
                filler.unlink()
            ros.environment = profile | {"ROS_DOMAIN_ID": str(domain)}
            node = start_node(ros, checkpoint)
            with visiting() as robot:
                engine_pid(robot)
                said = robot.status("outputs", lambda status: True).message
                assert ("has 0 MB free" in said) == full, said
                camera, image = robot.camera(), picture()
                robot.show(camera, image, lambda: robot.heard("/argus/detections"))
                if not full:
                    for segment in SHARED_MEMORY.glob("fast*"):
                        segment.unlink()
                fill()
                robot.forget_all()
                robot.show(camera, image, lambda: robot.heard("/argus/detections"))
            filler.unlink()
            node.end()
            assert node.wait() == 0
            print(f"{'full before it starts' if full else 'withdrawn while it runs'}: answered")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
