"""Several processes on real topics: each test has a ROS domain of its own on this machine's loopback."""

from robot import blank, ros, shared_ros

__all__ = ["blank", "ros", "shared_ros"]  # fixtures
