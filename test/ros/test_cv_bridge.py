"""Raw images become the same RGB pixels here as in cv_bridge, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import Image as ImageMessage

from argus_ros.core.image import Image, decode

cv_bridge = pytest.importorskip("cv_bridge", reason="it comes with ROS 2, not from PyPI")

WIDTH, HEIGHT = 64, 48
#: Bytes of a pixel in the encodings that both read.
COMMON = {
    **{"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1},
    **{"rgb16": 6, "bgr16": 6, "rgba16": 8, "bgra16": 8, "mono16": 2},
    **{f"bayer_{pattern}8": 1 for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **{"yuv422": 2, "yuv422_yuy2": 2},
}


@pytest.mark.parametrize("encoding", COMMON)
def test_pixels_are_those_of_cv_bridge(encoding: str) -> None:
    """Equal for 8 bits; for 16 bits cv_bridge scales and this package shifts, so they may differ by one."""
    step = WIDTH * COMMON[encoding]
    data = np.random.default_rng(0).integers(0, 256, HEIGHT * step, np.uint8).tobytes()
    message = ImageMessage(encoding=encoding, width=WIDTH, height=HEIGHT, step=step, data=data)
    theirs = cv_bridge.CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8")
    ours = decode(Image.of(message)).rgb()
    assert np.abs(ours.astype(int) - theirs).max() <= ("16" in encoding)
