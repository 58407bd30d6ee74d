"""Writes annotated videos that browsers can play: H.264 in MP4, with PyAV.

OpenCV's wheels have no suitable encoder: browsers cannot play `mp4v` (MPEG-4 Part 2), and VP9 encodes slower
than real time. Without PyAV the video is `mp4v`, and ``missing`` says what to install.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

#: Encoders in order of preference, with fast settings: a robot's cores are needed for other work.
ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "23"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "33", "b": "0"},
}


def missing() -> str:
    """Why browsers cannot play the videos; "" where they can."""
    return "" if find_encoder() else "browsers cannot play the videos without PyAV: pip install av"


class Video:
    """An .mp4 file, written picture by picture; a context manager.

    Its size is that of the first picture, less an odd last row or column, which H.264 does not support. Later
    pictures of another size are scaled.
    """

    def __init__(self, path: Path, rate: float) -> None:
        """``rate``: pictures per second."""
        self._path, self._rate = path, rate
        self._size = 0, 0  # width and height; zeros until the first picture
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._plain: cv2.VideoWriter | None = None

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, picture: np.ndarray) -> None:
        """Add a picture, (height, width, 3) uint8 RGB."""
        if not any(self._size):
            self._open(picture.shape[1] // 2 * 2 or 2, picture.shape[0] // 2 * 2 or 2)
        width, height = self._size
        if picture.shape[1] // 2 * 2 == width and picture.shape[0] // 2 * 2 == height:
            picture = picture[:height, :width]
        else:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        if self._plain:
            self._plain.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            return
        import av

        assert self._container
        assert self._stream
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write buffered pictures and close the file."""
        if self._plain:
            self._plain.release()
        if self._container and self._stream:
            self._container.mux(self._stream.encode())
            self._container.close()
        self._plain = self._container = self._stream = None

    def _open(self, width: int, height: int) -> None:
        self._size = width, height
        encoder = find_encoder()
        if not encoder:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._plain = cv2.VideoWriter(str(self._path), code, self._rate, self._size)
            return
        import av
        from av.video.stream import VideoStream

        # The index at the front, so that a browser can start before it has the whole file.
        self._container = av.open(str(self._path), "w", options={"movflags": "faststart"})
        rate = Fraction(self._rate).limit_denominator(1000)
        stream = self._container.add_stream(encoder, rate=rate, options=ENCODERS[encoder])
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        self._stream = stream


def find_encoder() -> str:
    """The first of ``ENCODERS`` that PyAV has; "" without PyAV."""
    try:
        import av
    except ImportError:
        return ""
    return next((name for name in ENCODERS if name in av.codecs_available), "")
