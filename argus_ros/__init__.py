"""A real-time perception node for ROS 2 around compact vision-language models.

Three rules keep the layers apart: ``core`` loads neither torch nor rclpy, ``vlm`` no rclpy,
``ros`` no torch (the engine has a process of its own). ``test/test_layers.py`` holds them.
"""

from pkgutil import extend_path

#: With a checkout first on the path, ``argus_ros.msg`` comes from the built workspace behind it.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
