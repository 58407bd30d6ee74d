"""Positions of detections: from registered depth, from the ground plane, or as a direction only.

Depth inside a box belongs to the object, to the background and sometimes to the foreground. Clustering finds
the object's depth: a histogram of the logarithm of depth, with higher weights for pixels nearer to the middle
of the box. The object is the nearest peak with at least half the weight of the highest one, with its
neighbouring bins, up to the extent of an object. Its median is the object's depth.

Everything is in the camera's optical frame (x right, y down, z forward), in metres. Depth shows one side
only: a box reaches as far as the visible surface.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from argus_ros.core.lens import Lens

#: Range of valid depths; sensors use values outside it for "no depth".
NEAREST, FARTHEST = 0.05, 300.0
SATURATED = np.iinfo(np.uint16).max  #: of a depth in millimetres: none, or too far
#: Rows and columns of the grid at which depth is sampled in a box.
GRID = 24
CORE = 0.25  #: standard deviation of the weights in a box, as a part of its width and height
STEP = 0.05  #: width of the histogram's bins, relative to the depth
RIVAL = 0.5  #: a nearer peak needs this part of the highest peak's weight
SLOPE = 0.1  #: neighbouring bins belong to a peak down to this part of its weight
#: Minimum part of a box's weight with a depth, and minimum part of that in one object.
VALID, SHARE = 0.1, 0.15
#: Standard deviation of a detector's boxes: part of their width and height, and pixels.
BOX_ERROR, BOX_ERROR_PIXELS = 0.05, 1.0
#: Minimum standard deviation of a depth, however little it varies in a box: metres, and part of the depth.
DEPTH_ERROR, DEPTH_ERROR_PART = 0.002, 0.005
#: Maximum distance of a position on the ground: beyond it one pixel covers many metres.
GROUND_REACH = 100.0


class DepthError(ValueError):
    """A depth image does not fit its image; the message says what is wrong and what to do."""


class Method(enum.IntEnum):
    """How a position was found; the values of ``Detection3D.method``."""

    BEARING = 0  #: only the direction is known
    DEPTH = 1  #: from the depth image
    GROUND = 2  #: from the point where the box's lower edge meets the ground


@dataclass(frozen=True, eq=False)
class Place:
    """The position of one detection in the optical frame; metres."""

    method: Method
    bearing: np.ndarray  #: (3,) unit vector to the middle of the box; NaN where the lens model is not valid
    position: np.ndarray  #: (3,) centre of the visible surface; NaN with BEARING
    size: np.ndarray  #: (3,) along x, y and z; z is the spread of depth, 0 with GROUND; zeros with BEARING
    covariance: np.ndarray  #: (3, 3) of ``position``, square metres; zeros with BEARING
    share: float = 0.0  #: weight of the object among the depths in its box, 0 to 1


def unplaced() -> Place:
    """The place of a detection without a position and a direction."""
    nothing = np.full(3, np.nan)
    return Place(Method.BEARING, nothing, nothing, np.zeros(3), np.zeros((3, 3)))


def locate(
    boxes: Sequence[tuple[float, float, float, float]],
    size: tuple[int, int],
    lens: Lens,
    depth: np.ndarray | None = None,
    ground: np.ndarray | None = None,
) -> list[Place]:
    """A place for each of ``boxes`` (x_min, y_min, x_max, y_max) in pixels of an image of ``size``.

    ``depth``: (height, width) along the optical axis, registered to the image, uint16 in millimetres or
    float32 in metres; another resolution of the same view is allowed. ``ground``: (4, 4) transform from the
    optical frame into one whose plane z = 0 is the ground, for boxes without depth. Raises DepthError.
    """
    if not len(boxes):
        return []
    corners = np.asarray(boxes, float)
    rays = _Rays.of(corners, lens)
    z = np.full(len(corners), np.nan)
    spread, thickness, share = (np.zeros(len(corners)) for _ in range(3))
    method = np.full(len(corners), Method.BEARING)
    if depth is not None:
        z, spread, thickness, share = _depths(depth, corners, size, rays)
        method[np.isfinite(z)] = Method.DEPTH
    if ground is not None:
        lacking = ~np.isfinite(z)
        on_ground, error = _grounded(corners, size[1], lens, ground)
        z, spread = np.where(lacking, on_ground, z), np.where(lacking, error, spread)
        method[lacking & np.isfinite(on_ground)] = Method.GROUND
    position = rays.middle * z[:, None]
    z[~np.isfinite(position).all(axis=1)] = np.nan  # outside the valid part of the lens model
    method[np.isnan(z)] = Method.BEARING
    extent = np.nan_to_num(np.column_stack([rays.extent * z[:, None], thickness]))
    pixels = corners[:, 2:] - corners[:, :2]
    across = extent[:, :2] * (BOX_ERROR + BOX_ERROR_PIXELS / pixels)
    places = []
    for i, kind in enumerate(method):
        known = kind != Method.BEARING
        along = rays.middle[i]
        covariance = np.diag([*across[i] ** 2, 0.0]) + spread[i] ** 2 * np.outer(along, along)
        places.append(
            Place(
                Method(kind),
                along / np.linalg.norm(along),
                position[i] if known else np.full(3, np.nan),
                extent[i] if known else np.zeros(3),
                covariance if known else np.zeros((3, 3)),
                float(share[i]),
            )
        )
    return places


@dataclass(frozen=True, eq=False)
class _Rays:
    """Rays through each box, per metre of depth."""

    middle: np.ndarray  # (n, 3), z is 1: towards the middle
    extent: np.ndarray  # (n, 2): width and height

    @classmethod
    def of(cls, corners: np.ndarray, lens: Lens) -> _Rays:
        left, top, right, bottom = corners.T
        x, y = (left + right) / 2, (top + bottom) / 2
        points = np.array([[x, y], [left, y], [right, y], [x, top], [x, bottom]]).transpose(0, 2, 1)
        rays = lens.directions(points)
        middle, west, east, north, south = rays / rays[..., 2:]
        return cls(middle, np.column_stack([east[:, 0] - west[:, 0], south[:, 1] - north[:, 1]]))


# --- depth ----------------------------------------------------------------------------------------


def _depths(
    depth: np.ndarray, corners: np.ndarray, size: tuple[int, int], rays: _Rays
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Depth, its standard deviation, the spread of the surface and the object's share, (n,) each.

    NaN in the first where the box has no depth, or no clear peak.
    """
    z, weights = _samples(depth, corners, size)
    rows = np.arange(len(z))
    valid = weights > 0
    bins = np.where(valid, np.log(np.where(valid, z, 1.0) / NEAREST) / STEP, 0).astype(int) + 1
    count = int(np.log(FARTHEST / NEAREST) / STEP) + 3
    histogram = np.bincount((rows[:, None] * count + bins).ravel(), weights.ravel(), len(z) * count)
    histogram = histogram.reshape(len(z), count)
    smooth = histogram.copy()
    smooth[:, 1:-1] += histogram[:, :-2] + histogram[:, 2:]
    peak = _nearest_peak(smooth)
    middle = NEAREST * np.exp((peak - 0.5) * STEP)
    first, last = _around(smooth, peak)
    # An object is no deeper along the view than it is wide or tall.
    reach = rays.extent.max(axis=1) * middle / 2 + 1.5 * STEP * middle
    low = np.maximum(NEAREST * np.exp((first - 1) * STEP), middle - reach)
    high = np.minimum(NEAREST * np.exp(last * STEP), middle + reach)
    inside = valid & (z >= low[:, None]) & (z <= high[:, None])
    total, own = weights.sum(axis=1), (weights * inside).sum(axis=1)
    share = own / np.maximum(total, 1e-9)
    known = (total > VALID) & (share > SHARE) & inside.any(axis=1)
    ordered = np.sort(np.where(inside, z, np.inf), axis=1)
    last_one = np.maximum(inside.sum(axis=1) - 1, 0)

    def quantile(part: float) -> np.ndarray:
        found: np.ndarray = ordered[rows, np.round(part * last_one).astype(int)]
        return np.where(known, found, np.nan)

    median, thickness = quantile(0.5), quantile(0.95) - quantile(0.05)
    spread = np.hypot(thickness / 3.29, np.maximum(DEPTH_ERROR, DEPTH_ERROR_PART * median))
    return median, spread, thickness, np.where(known, share, 0.0)


def _samples(depth: np.ndarray, corners: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Depths in metres on a grid in each box, and their weights: 0 without a depth, sum 1 at most.

    (n, GRID * GRID) both. Raises DepthError.
    """
    height, width = depth.shape
    scale = np.array([width / size[0], height / size[1]])
    if abs(scale[0] / scale[1] - 1.0) > 0.02:
        raise DepthError(
            f"the depth image has {width}x{height} pixels and the image {size[0]}x{size[1]}, of another "
            "shape: let the driver register depth to the image (align_depth)"
        )
    steps = (np.arange(GRID) + 0.5) / GRID
    low, span = corners[:, :2] * scale, (corners[:, 2:] - corners[:, :2]) * scale
    at = (low[:, None, :] + steps[None, :, None] * span[:, None, :]).astype(int)
    x, y = np.clip(at[..., 0], 0, width - 1), np.clip(at[..., 1], 0, height - 1)
    values = depth[y[:, :, None], x[:, None, :]].reshape(len(corners), -1)
    if values.dtype.kind == "u":
        z = values * np.float32(1e-3)
        z[values == SATURATED] = 0
    else:
        z = values.astype(np.float32)
    bell = np.exp(-((steps - 0.5) ** 2) / (2 * CORE**2))
    weights = np.outer(bell, bell).ravel()
    with np.errstate(invalid="ignore"):
        there = (z > NEAREST) & (z < FARTHEST)  # false for NaN
    return z, np.where(there, weights / weights.sum(), 0.0)


def _nearest_peak(histogram: np.ndarray) -> np.ndarray:
    """(n,) bin of the nearest local maximum with at least RIVAL times the highest one's weight."""
    ahead = np.pad(histogram[:, 1:], ((0, 0), (0, 1)))
    behind = np.pad(histogram[:, :-1], ((0, 0), (1, 0)))
    top = histogram.max(axis=1, keepdims=True)
    peaks = (histogram >= ahead) & (histogram > behind) & (histogram >= RIVAL * top)
    return peaks.argmax(axis=1)


def _around(histogram: np.ndarray, peak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) first and last bin around ``peak`` before the histogram falls below SLOPE times its height."""
    height = histogram[np.arange(len(peak)), peak]
    low = histogram < SLOPE * height[:, None]
    bins = np.arange(histogram.shape[1])
    before = np.where(low & (bins < peak[:, None]), bins, -1).max(axis=1)
    after = np.where(low & (bins > peak[:, None]), bins, len(bins)).min(axis=1)
    return before + 1, after - 1


# --- the ground -----------------------------------------------------------------------------------


def _grounded(
    corners: np.ndarray, image_height: int, lens: Lens, ground: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Depth (n,) at which the boxes' lower edges meet the ground, else NaN; and its standard deviation.

    A box that ends at the image's lower border has none: its object continues below it, and is nearer.
    """
    x, bottom = (corners[:, 0] + corners[:, 2]) / 2, corners[:, 3]
    error = BOX_ERROR * (bottom - corners[:, 1]) + BOX_ERROR_PIXELS
    points = np.array([[x, bottom - error], [x, bottom], [x, bottom + error]]).transpose(0, 2, 1)
    rays = lens.directions(points)
    rays = rays / rays[..., 2:]
    height = ground[2, 3]  # of the camera
    falling = rays @ ground[2, :3]  # of the ray, per metre of depth
    with np.errstate(divide="ignore", invalid="ignore"):
        far, z, near = -height / falling
        reached = np.linalg.norm(rays[1], axis=1) * z
        seen = (bottom < image_height - BOX_ERROR_PIXELS) & np.isfinite(near)
        z = np.where((z > NEAREST) & (reached < GROUND_REACH) & seen, z, np.nan)
        far = np.where((far > 0) & (far < 2 * GROUND_REACH), far, 2 * GROUND_REACH)
    return z, (far - near) / 2
