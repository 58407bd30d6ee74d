# argus_ros on ROS 2 Jazzy. Written after docs/setup.md; not built by the tests, which have no Docker.
#   docker build -t argus_ros . && docker run --rm --network host --ipc host argus_ros
# --ipc host: Fast DDS hands images over in shared memory, and Docker's own 64 MB of it are too few.
# On an NVIDIA GPU: --build-arg TORCH="torch" and docker run --gpus all.
FROM ros:jazzy-ros-base
ARG TORCH="torch --index-url https://download.pytorch.org/whl/cpu"

RUN apt-get update && apt-get install -y --no-install-recommends \
        python3-venv python3-dev ros-jazzy-cv-bridge ros-jazzy-rosbag2-storage-mcap \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /ros2_ws
RUN python3 -m venv --system-site-packages venv && touch venv/COLCON_IGNORE
ENV PATH=/ros2_ws/venv/bin:$PATH VIRTUAL_ENV=/ros2_ws/venv
RUN pip install --no-cache-dir $TORCH \
    && pip install --no-cache-dir "transformers>=5.0" safetensors tokenizers msgspec \
        mcap norfair-enough rich rosbags zstandard

COPY . src/argus_ros
RUN . /opt/ros/jazzy/setup.sh && apt-get update \
    && rosdep install --from-paths src --ignore-src -y && rm -rf /var/lib/apt/lists/* \
    && colcon build --packages-select argus_ros --cmake-args -DBUILD_TESTING=OFF

ENTRYPOINT ["/bin/bash", "-c", "source /ros2_ws/install/setup.bash && exec \"$@\"", "argus_ros"]
CMD ["ros2", "launch", "argus_ros", "argus.launch.py"]
