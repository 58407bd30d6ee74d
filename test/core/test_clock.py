"""StampClock: stamps that can be trusted, stamps that cannot, and time going back."""

import pytest

from argus_ros.core.clock import StampClock

S = 1_000_000_000
ROS = 1_700_000_000 * S  # the node's ROS clock at steady time 100


def test_age_counts_from_a_stamp_that_agrees_with_the_clock():
    arrival = StampClock().arrive("front", ROS - S // 10, ROS, 100.0)
    assert arrival.capture_time == pytest.approx(99.9)
    assert arrival.clear == ()
    assert arrival.warning == ""


@pytest.mark.parametrize("stamp", [0, ROS - 6 * S, ROS + 6 * S, ROS + 10**15])
def test_age_counts_from_arrival_with_one_warning_if_clocks_disagree(stamp):
    clock = StampClock()
    first = clock.arrive("front", stamp, ROS, 100.0)
    assert first.capture_time == 100.0
    assert "camera front" in first.warning
    assert ("use_sim_time" in first.warning) is bool(stamp)
    assert ("header.stamp is zero" in first.warning) is not bool(stamp)
    second = clock.arrive("front", stamp and stamp + S // 30, ROS + S // 30, 100.0 + 1 / 30)
    assert second.warning == ""
    assert second.capture_time == pytest.approx(100.0 + 1 / 30)
    assert clock.arrive("rear", stamp, ROS + S // 30, 100.1).warning, "each camera has its own warning"


def test_the_bound_on_skew_is_a_choice():
    assert StampClock(60.0).arrive("front", ROS - 30 * S, ROS, 100.0).capture_time == pytest.approx(70.0)


def test_a_stamp_in_the_future_counts_as_the_arrival():
    assert StampClock().arrive("front", ROS + S, ROS, 100.0).capture_time == 100.0


def test_repeated_and_slightly_reordered_stamps_are_no_jump():
    clock = StampClock()
    for stamp in (ROS, ROS, ROS - S // 10, ROS):
        arrival = clock.arrive("front", stamp, ROS, 100.0)
        assert arrival.clear == ()
        assert arrival.warning == ""


def test_stamps_of_one_camera_going_back_clear_that_camera_with_one_warning():
    clock = StampClock()
    clock.arrive("front", ROS, ROS, 100.0)
    clock.arrive("rear", ROS, ROS, 100.0)
    back = clock.arrive("front", ROS - 2 * S, ROS + S, 101.0)
    assert back.clear == ("front",)
    assert "went back by 2.0 s" in back.warning
    after = clock.arrive("front", ROS - 2 * S + S // 30, ROS + S, 101.0)
    assert after.clear == ()
    assert after.warning == ""


def test_the_ros_clock_going_back_clears_every_camera_with_one_warning():
    clock = StampClock()
    for name in ("front", "rear"):
        clock.arrive(name, 20 * S, 20 * S, 100.0)
    back = clock.arrive("front", S, S, 101.0)
    assert sorted(back.clear) == ["front", "rear"]
    assert "ROS clock went back by 19.0 s" in back.warning
    for name in ("rear", "front"):
        after = clock.arrive(name, S, S, 101.1)
        assert after.clear == ()
        assert after.warning == ""


def test_a_looped_bag_without_its_clock_warns_of_both_in_one_line():
    clock = StampClock()
    clock.arrive("front", 20 * S, ROS, 100.0)
    clock.forget("front")
    clock.arrive("front", 20 * S, ROS, 100.0)
    back = clock.arrive("front", S, ROS + S, 101.0)
    assert back.clear == ("front",)
    assert back.capture_time == 101.0
    assert back.warning.count("camera front") == 1, "the skew was said before"


def test_a_stamp_of_zero_now_and_then_is_no_jump() -> None:
    clock = StampClock()
    for stamp, capture_time in ((ROS, 100.0), (0, 101.0), (ROS + S, 101.0)):
        arrival = clock.arrive("front", stamp, ROS + S, 101.0)
        assert arrival.clear == ()
        assert arrival.capture_time == pytest.approx(capture_time)


def test_publishers_that_share_a_topic_have_a_time_each() -> None:
    """One is 3 s behind: neither's images are dropped for the other's, and each has its own age."""
    clock = StampClock()
    for i in range(10):
        now, ros = 100.0 + i / 10, ROS + i * S // 10
        live = clock.arrive("front", ros, ros, now, shared=True)
        old = clock.arrive("front", ros - 3 * S, ros, now, shared=True)
        assert live.clear + old.clear == ()
        assert live.warning + old.warning == ""
        assert (live.capture_time, old.capture_time) == (pytest.approx(now), pytest.approx(now - 3.0))


def test_a_simulated_time_that_has_not_begun_is_no_skew() -> None:
    clock = StampClock()
    before = clock.arrive("front", stamp=10**18, ros_now=0, now=1.0)
    assert (before.capture_time, before.warning) == (1.0, "")
    begun = clock.arrive("front", stamp=10**18, ros_now=10**18 + 10**8, now=2.0)
    assert (begun.capture_time, begun.warning) == (pytest.approx(1.9), "")
