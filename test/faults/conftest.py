"""The fixtures of the system tests."""

from robot import blank, ros, shared_ros

__all__ = ["blank", "ros", "shared_ros"]
