"""Parts of an HTML page with embedded charts and pictures, which needs no network."""

from __future__ import annotations

import base64
import heapq
import html
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Maximum width of a picture.
PICTURE_WIDTH = 480
JPEG_QUALITY = 80
#: The page loads and runs nothing, whatever text a topic or a label contains.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; }} td {{ padding: .15rem 1rem .15rem 0; vertical-align: top; }}
td:first-child {{ color: #666; }} img {{ max-width: 100%; }}
.gallery {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }} figcaption {{ color: #666; }} ul {{ max-height: 20rem; overflow: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def whole(title: str, sections: Iterable[str]) -> str:
    """The page."""
    return _PAGE.format(title=html.escape(title), policy=POLICY, body="\n".join(sections))


def section(title: str, body: str) -> str:
    return f"<section>\n<h2>{html.escape(title)}</h2>\n{body}\n</section>"


def table(rows: Iterable[Iterable[Any]]) -> str:
    cells = ("".join(f"<td>{html.escape(str(value))}</td>" for value in row) for row in rows)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def bullets(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"


def chart(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return f'<img alt="chart" src="data:image/svg+xml;base64,{_base64(file.getvalue())}">'


def gallery(pictures: Iterable[tuple[str, bytes]]) -> str:
    figures = (
        f'<figure><img alt="{html.escape(caption)}" src="data:image/jpeg;base64,{_base64(jpeg)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, jpeg in pictures
    )
    return '<div class="gallery">' + "".join(figures) + "</div>"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def axes(x: str, y: str) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure  # takes a second to import, so only for reports

    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _jpeg(picture: np.ndarray) -> bytes:
    height, width = picture.shape[:2]
    if width > PICTURE_WIDTH:
        size = PICTURE_WIDTH, max(round(height * PICTURE_WIDTH / width), 1)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes()


class Worst:
    """The pictures with the greatest keys."""

    def __init__(self, most: int = 3) -> None:
        self._most = most
        self._heap: list[tuple[float, int, str, bytes]] = []
        self._count = 0

    def offer(self, key: float, caption: str, picture: np.ndarray) -> None:
        if len(self._heap) == self._most and key <= self._heap[0][0]:
            return
        self._count += 1
        heapq.heappush(self._heap, (key, -self._count, caption, _jpeg(picture)))
        if len(self._heap) > self._most:
            heapq.heappop(self._heap)

    def pictures(self) -> list[tuple[str, bytes]]:
        return [(caption, jpeg) for _, _, caption, jpeg in sorted(self._heap, reverse=True)]
