"""Transforms against their own inverse, and against what is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argus_ros.core.pose import quaternion, transform

PARTS = st.floats(-1, 1)


@given(q=st.tuples(PARTS, PARTS, PARTS, PARTS).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_a_quaternion_makes_a_rotation_and_comes_back(q: tuple[float, ...]) -> None:
    unit = np.array(q) / np.linalg.norm(q)
    made = transform((1.0, 2.0, 3.0), tuple(unit))
    np.testing.assert_allclose(made[:3, :3] @ made[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(made[:3, :3]) == pytest.approx(1.0)
    back = np.array(quaternion(made[:3, :3]))
    np.testing.assert_allclose(back * np.sign(back @ unit), unit, atol=1e-6)
    assert back[3] >= 0


def test_the_optical_frame_of_a_camera_that_looks_ahead() -> None:
    """x to the right, y down, z ahead become y to the left, z up, x ahead."""
    made = transform((0.1, 0.0, 1.2), (-0.5, 0.5, -0.5, 0.5))
    np.testing.assert_allclose(made @ (1.0, 2.0, 3.0, 1.0), (3.1, -1.0, -0.8, 1.0), atol=1e-9)


@pytest.mark.parametrize(
    ("translation", "turned"),
    [((0, 0, 0), (0, 0, 0, 0)), ((np.nan, 0, 0), (0, 0, 0, 1)), ((0, 0, 0), (9, 0, 0, 9))],
)
def test_numbers_that_are_no_transform_are_refused(
    translation: tuple[float, ...], turned: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="is not a transform"):
        transform(translation, turned)
