"""Converts pixels to directions with the camera model of ``sensor_msgs/CameraInfo``, by OpenCV.

Directions are in the camera's optical frame: x right, y down, z forward. Pixels are box coordinates: (0, 0)
is the upper left corner of the image, whereas in CameraInfo it is the centre of the first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

#: Valid numbers of coefficients for each of CameraInfo's distortion models.
MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
#: Maximum reprojection error of a direction, in pixels.
TOLERANCE = 0.5
#: Upper limit of focal lengths and of the principal point, in pixels.
MOST_PIXELS = 1e6
_ACCURATE = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-10)


class LensError(ValueError):
    """A camera_info is invalid or does not fit the images; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Lens:
    """A camera model, which maps directions to pixels."""

    matrix: np.ndarray  #: (3, 3) camera matrix in pixels, OpenCV's K
    coefficients: np.ndarray | None = None  #: of the distortion; None: no distortion
    fisheye: bool = False  #: the equidistant model

    @classmethod
    def of(cls, info: Any, size: tuple[int, int], *, rectified: bool = False) -> Lens:
        """The lens of an object with the fields of a CameraInfo, for images of ``size`` (width, height).

        Binning and region of interest are applied where they explain the size. ``rectified``: the images are
        free of distortion, so that P is used instead of K and D. Raises LensError.
        """
        projection = np.asarray(info.p, float).reshape(3, 4)[:, :3]
        matrix = projection if rectified else np.asarray(info.k, float).reshape(3, 3)
        name = "P" if rectified else "K"
        sane = np.abs(matrix).max() < MOST_PIXELS and min(matrix[0, 0], matrix[1, 1]) >= 1.0  # False for NaN
        if not sane:
            raise LensError(
                f"{name} of camera_info has focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g}, which have "
                "to be some hundreds of pixels: calibrate the camera, and let its driver load the result"
            )
        matrix = _fitted(matrix, info, size)
        coefficients = np.asarray(info.d, float)
        if rectified or not coefficients.any():
            return cls(matrix)
        counts = MODELS.get(info.distortion_model)
        if counts is None:
            raise LensError(
                f"camera_info has distortion model {info.distortion_model!r}; known are {', '.join(MODELS)}. "
                "Rectify the images, and set camera.NAME.rectified to yes"
            )
        if len(coefficients) not in counts or not np.isfinite(coefficients).all():
            raise LensError(
                f"camera_info has {len(coefficients)} coefficients D for {info.distortion_model}, which "
                f"takes {' or '.join(map(str, counts))} finite numbers: calibrate the camera again"
            )
        return cls(matrix, coefficients, info.distortion_model == "equidistant")

    def directions(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) unit vectors towards ``points`` (..., 2) in pixels; NaN where the model is not valid."""
        flat = np.ascontiguousarray(points, float).reshape(-1, 1, 2) - 0.5
        if not len(flat):
            return np.empty((*points.shape[:-1], 3))
        plane = self._undistorted(flat).reshape(-1, 2)
        rays = np.column_stack([plane, np.ones(len(plane))])
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        return rays.reshape(*points.shape[:-1], 3)

    def _undistorted(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) of (n, 1, 2): the rays to these pixels at one metre's depth."""
        if self.coefficients is None:
            focal, centre = self.matrix[[0, 1], [0, 1]], self.matrix[:2, 2]
            return (points.reshape(-1, 2) - centre) / focal
        if self.fisheye:
            plane = cv2.fisheye.undistortPoints(points, self.matrix, self.coefficients)
        elif hasattr(cv2, "undistortPointsIter"):  # OpenCV 4
            none = np.eye(3)
            plane = cv2.undistortPointsIter(points, self.matrix, self.coefficients, none, none, _ACCURATE)
        else:
            plane = cv2.undistortPoints(points, self.matrix, self.coefficients, criteria=_ACCURATE)
        # Outside the calibrated area the polynomials may have no solution, or a wrong one.
        rays = np.dstack([plane, np.ones(plane.shape[:2])])
        still = np.zeros(3)
        if self.fisheye:
            again, _ = cv2.fisheye.projectPoints(rays, still, still, self.matrix, self.coefficients)
        else:
            again, _ = cv2.projectPoints(rays, still, still, self.matrix, self.coefficients)
        missed = np.linalg.norm(again.reshape(-1, 2) - points.reshape(-1, 2), axis=1)
        return np.where((missed < TOLERANCE)[:, None], plane.reshape(-1, 2), np.nan)


def _fitted(matrix: np.ndarray, info: Any, size: tuple[int, int]) -> np.ndarray:
    """``matrix`` for images of this size: cut to the region of interest, then binned. Raises LensError."""
    region, full = info.roi, (info.width, info.height)
    offset = np.array([region.x_offset, region.y_offset], float)
    cut = np.array([region.width or info.width, region.height or info.height])
    binning = np.maximum([info.binning_x, info.binning_y], 1)
    if np.abs(cut / binning - size).max() >= 1.0:
        how = "" if tuple(cut) == full else f", its region of interest {cut[0]}x{cut[1]}"
        how += "" if binning.max() == 1 else f", its binning {binning[0]}x{binning[1]}"
        raise LensError(
            f"camera_info is for {info.width}x{info.height} pixels{how}, and the images have "
            f"{size[0]}x{size[1]}: publish the camera_info of these images"
        )
    fitted = matrix.copy()
    fitted[:2, 2] = (matrix[:2, 2] + 0.5 - offset) / binning - 0.5
    fitted[[0, 1], [0, 1]] /= binning
    return fitted
