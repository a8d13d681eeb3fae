"""The environment that Fast DDS needs for images and clouds, and a ROS domain of one's own."""

from __future__ import annotations

import random
from collections.abc import Mapping, MutableMapping

from vggt3_ros.nodes.runtime.config_files import config_file

_PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"
_OLD_PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"
_LOCAL = "ROS_AUTOMATIC_DISCOVERY_RANGE"
_MAX_DOMAIN = 101  # above it, ports collide with those that Linux hands out
_WITH_OLD_PROFILE = ("humble", "iron", "jazzy")  # later distributions warn of the old name


def middleware_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to add to an environment so that Fast DDS carries images and clouds
    (config/fastdds.xml).

    None where the user has chosen a profile.
    """
    if environment.get(_PROFILE) or environment.get(_OLD_PROFILE):
        return {}
    name = _OLD_PROFILE if environment.get("ROS_DISTRO") in _WITH_OLD_PROFILE else _PROFILE
    return {name: str(config_file("fastdds.xml"))}


def prepare(environment: MutableMapping[str, str]) -> None:
    """Add the middleware's variables to an environment: os.environ before rclpy.init, or that of a
    child process.
    """
    environment.update(middleware_variables(environment))


def own_domain(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to add to an environment for a ROS domain of one's own, on this machine alone, and
    what images need.

    What the user has chosen stays.
    """
    added = {"ROS_DOMAIN_ID": str(random.randint(1, _MAX_DOMAIN)), _LOCAL: "LOCALHOST"}
    if environment.get("ROS_DISTRO") == "humble":
        added["ROS_LOCALHOST_ONLY"] = "1"
    kept = {name: value for name, value in added.items() if name not in environment}
    return {**kept, **middleware_variables(environment)}
