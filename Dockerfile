# vggt3_ros on a ROS from apt. Not built yet where this was written (no Docker engine there): its steps are those of
# docs/install.md, which were tried one by one as far as that says.
#
#   docker build -t vggt3 --build-arg ROS_DISTRO=jazzy .
#   docker run --rm -it --net=host --ipc=host -v ~/.ros:/root/.ros vggt3 \
#     ros2 launch vggt3_ros map.launch.py image_topic:=/camera/image_raw
#
# --ipc=host lets Fast DDS share memory with the host's nodes. With a GPU: --gpus all, and
# --build-arg TORCH_INDEX=https://pypi.org/simple
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
SHELL ["/bin/bash", "-c"]

RUN apt-get update && apt-get install -y --no-install-recommends python3-pip python3-venv && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --system-site-packages /venv \
 && /venv/bin/pip install --no-cache-dir torch --index-url ${TORCH_INDEX} \
 && /venv/bin/pip install --no-cache-dir safetensors

WORKDIR /ws
COPY . src/vggt3_ros
# RViz is for the host.
RUN apt-get update && rosdep update --rosdistro ${ROS_DISTRO} \
 && rosdep install --from-paths src -y --ignore-src --skip-keys rviz2 && rm -rf /var/lib/apt/lists/*
RUN source /opt/ros/${ROS_DISTRO}/setup.bash && source /venv/bin/activate && colcon build --cmake-args -DBUILD_TESTING=OFF

RUN printf '#!/bin/bash\nset -e\nsource /ws/install/setup.bash\nsource /venv/bin/activate\nexec "$@"\n' > /entrypoint.sh \
 && chmod +x /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "vggt3_ros", "map.launch.py"]
