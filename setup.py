"""For pip, beside pyproject.toml with the metadata: which files lie at the top level for ROS.

``colcon`` goes by package.xml and CMakeLists.txt, which installs the same files to ``share/``.
"""

from setuptools import find_packages, setup

#: Folders that a wheel carries inside the package, where ``argus_ros.core.resources`` finds them.
SHARED = ("config", "msg", "srv")

setup(
    packages=[
        *find_packages(include=["argus_ros*"], exclude=["argus_ros.ros*"]),
        *(f"argus_ros.share.{folder}" for folder in SHARED),
    ],
    package_dir={f"argus_ros.share.{folder}": folder for folder in SHARED},
)
