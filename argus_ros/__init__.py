"""A real-time perception node for ROS 2 around compact vision-language models.

Three rules keep the layers apart: ``core`` loads neither torch nor rclpy, ``vlm`` no rclpy,
``ros`` no torch (the engine has a process of its own). ``test/test_layers.py`` holds them.
"""

__version__ = "0.1.0"
