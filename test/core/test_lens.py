"""Directions through lenses, against OpenCV's own projection; and camera_info that describes none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from argus_ros.core.lens import Lens, LensError

SIZE = (1280, 720)
K = np.array([[700.0, 0, 630], [0, 710, 370], [0, 0, 1]])
LENSES = {
    "none": ("plumb_bob", [0.0] * 5),
    "plumb_bob": ("plumb_bob", [-0.28, 0.07, 0.0005, -0.0008, 0.0]),
    "rational_polynomial": ("rational_polynomial", [0.4, -0.2, 0.001, 0.0004, 0.01, 0.6, -0.15, 0.02]),
    "equidistant": ("equidistant", [0.03, -0.01, 0.004, -0.001]),
}


def info(model: str = "plumb_bob", d: Any = (), **changes: Any) -> Any:
    """A camera_info; of the region of interest and binning nothing unless given."""
    p = np.column_stack([K, np.zeros(3)])
    given = {"width": SIZE[0], "height": SIZE[1], "distortion_model": model, "d": list(d), "k": K.ravel()}
    given |= {"p": p.ravel(), "binning_x": 0, "binning_y": 0, "roi": roi()} | changes
    return SimpleNamespace(**given)


def roi(x: int = 0, y: int = 0, width: int = 0, height: int = 0) -> Any:
    return SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height)


def pixels_of(model: str, d: Any, points: np.ndarray) -> np.ndarray:
    """(n, 2) pixels of ``points`` (n, 3) by OpenCV, (0, 0) being the picture's corner."""
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    found, _ = project(points[None], np.zeros(3), np.zeros(3), K, np.array(d))
    return found.reshape(-1, 2) + 0.5


@pytest.mark.parametrize("name", LENSES)
def test_a_direction_points_to_the_projected_point(name: str) -> None:
    model, d = LENSES[name]
    points = np.random.default_rng(0).uniform((-0.8, -0.45, 1), (0.8, 0.45, 1), (200, 3))
    found = Lens.of(info(model, d), SIZE).directions(pixels_of(model, d, points))
    np.testing.assert_allclose(found, points / np.linalg.norm(points, axis=1, keepdims=True), atol=1e-6)


def test_rectified_images_have_the_projection_and_no_distortion() -> None:
    p = np.array([[600.0, 0, 640, -50], [0, 600, 360, 0], [0, 0, 1, 0]])
    told = info("plumb_bob", LENSES["plumb_bob"][1], p=p.ravel())
    found = Lens.of(told, SIZE, rectified=True).directions(np.array([[640.5, 960.5]]))
    np.testing.assert_allclose(found, [[0, np.sqrt(0.5), np.sqrt(0.5)]])


@pytest.mark.parametrize("name", LENSES)
def test_binning_and_a_region_of_interest_leave_the_directions(name: str) -> None:
    full = np.random.default_rng(1).uniform((320, 200), (960, 560), (50, 2))
    wanted = Lens.of(info(*LENSES[name]), SIZE).directions(full)
    cut = info(*LENSES[name], roi=roi(320, 200, 640, 360))
    np.testing.assert_allclose(Lens.of(cut, (640, 360)).directions(full - (320, 200)), wanted, atol=1e-9)
    binned = info(*LENSES[name], binning_x=2, binning_y=2)
    np.testing.assert_allclose(Lens.of(binned, (640, 360)).directions(full / 2), wanted, atol=1e-9)
    both = info(*LENSES[name], binning_x=2, binning_y=2, roi=roi(320, 200, 640, 360))
    np.testing.assert_allclose(
        Lens.of(both, (320, 180)).directions((full - (320, 200)) / 2), wanted, atol=1e-9
    )


def test_where_the_lens_does_not_reach_there_is_no_direction() -> None:
    strong = Lens.of(info("plumb_bob", [-0.4, 0.0, 0, 0, 0]), SIZE)  # radii end at 0.6 focal lengths
    middle, corner = strong.directions(np.array([[631.0, 371.0], [0.0, 0.0]]))
    assert np.isfinite(middle).all()
    assert np.isnan(corner).all()
    assert strong.directions(np.empty((0, 2))).shape == (0, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": np.zeros(9)}, "focal lengths 0 and 0"),
        ({"k": np.full(9, np.nan)}, "focal lengths nan"),
        ({"width": 640, "height": 480}, "is for 640x480 pixels, and the images have 1280x720"),
        ({"binning_x": 2, "binning_y": 2}, "its binning 2x2, and the images have"),
        ({"roi": roi(0, 0, 640, 480)}, "its region of interest 640x480, and the images have"),
        (
            {"distortion_model": "thin_prism", "d": [0.1]},
            "known are plumb_bob, rational_polynomial, equidistant",
        ),
        ({"d": [0.1, 0.2]}, "2 coefficients D for plumb_bob, which takes 4 or 5"),
        ({"d": [np.inf, 0, 0, 0, 0]}, "finite"),
        ({"width": 0, "height": 0}, "is for 0x0 pixels"),
    ],
)
def test_an_invalid_camera_info_is_refused_with_a_reason(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LensError, match=said):
        Lens.of(info(**changes), SIZE)
    if "k" in changes:
        with pytest.raises(LensError, match="P of camera_info"):
            Lens.of(info(p=np.zeros(12)), SIZE, rectified=True)
