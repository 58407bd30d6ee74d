"""The engine without ROS, on a picture: python3 engine.py PICTURE"""

import sys
from pathlib import Path

from argus_ros.core.checkpoint import DEFAULT, read
from argus_ros.core.image import Image
from argus_ros.core.offline import Offline
from argus_ros.core.protocol import EngineConfig
from argus_ros.core.types import Task

if __name__ == "__main__":  # the engine has a process of its own
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    picture = Path(sys.argv[1])
    image = Image(picture.read_bytes(), picture.suffix.removeprefix("."), compressed=True)
    with Offline(EngineConfig(DEFAULT), read(DEFAULT).tiling) as engine:
        for one in engine.run(image, Task("detect")).detections:
            corners = (one.x_min, one.y_min, one.x_max, one.y_max)
            print(f"{one.label} {one.score:.2f}", *(round(place) for place in corners))
