"""Where the files of config/ are, and the environment that one of them asks for."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from vggt3_ros.errors import InputError

_PACKAGE = "vggt3_ros"
_PROFILE, _OLD_PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"
_LOCAL = "ROS_AUTOMATIC_DISCOVERY_RANGE"
_LARGEST_DOMAIN = 101  # above it, ports collide with those that Linux hands out
_WITH_OLD_PROFILE = ("humble", "iron", "jazzy")  # later distributions warn of the old name


def config_file(name: str) -> Path:
    """A file of config/, such as "mapper.yaml", of a checkout or of the installed package.

    Raises InputError that names the folders that were looked into.
    """
    folders = _folders()
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(str(folder) for folder in folders)
    raise InputError(f"{name} of {_PACKAGE} was not found; looked into {looked}. Install {_PACKAGE} again")


def middleware_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to add to an environment so that Fast DDS carries images and clouds (config/fastdds.xml).

    None where the user has chosen a profile.
    """
    if environment.get(_PROFILE) or environment.get(_OLD_PROFILE):
        return {}
    name = _OLD_PROFILE if environment.get("ROS_DISTRO") in _WITH_OLD_PROFILE else _PROFILE
    return {name: str(config_file("fastdds.xml"))}


def prepare(environment: MutableMapping[str, str]) -> None:
    """Add the middleware's variables to an environment: os.environ before rclpy.init, or that of a child process."""
    environment.update(middleware_variables(environment))


def own_domain(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to add to an environment for a ROS domain of one's own, on this machine alone, and what images need.

    What the user has chosen stays.
    """
    added = {"ROS_DOMAIN_ID": str(random.randint(1, _LARGEST_DOMAIN)), _LOCAL: "LOCALHOST"}
    if environment.get("ROS_DISTRO") == "humble":
        added["ROS_LOCALHOST_ONLY"] = "1"
    kept = {name: value for name, value in added.items() if name not in environment}
    return {**kept, **middleware_variables(environment)}


def _folders() -> list[Path]:
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "package.xml").is_file():
        return [checkout / "config"]
    folders = [Path(sys.prefix) / "share" / _PACKAGE / "config"]  # installed by pip
    try:
        from ament_index_python.packages import get_package_share_directory

        folders.insert(0, Path(get_package_share_directory(_PACKAGE)) / "config")
    except (ImportError, LookupError, OSError):  # no ROS, or one that does not know this package
        pass
    return folders
