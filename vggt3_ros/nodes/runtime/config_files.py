"""Where the files of config/ are."""

from __future__ import annotations

import sys
from pathlib import Path

from vggt3_ros.errors import InputError

_PACKAGE = "vggt3_ros"


def config_file(name: str) -> Path:
    """A file of config/, such as "mapper.yaml", of a checkout or of the installed package.

    Raises InputError that names the folders that were looked into.
    """
    folders = _folders()
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(str(folder) for folder in folders)
    raise InputError(
        f"{name} of {_PACKAGE} was not found; looked into {looked}. Install {_PACKAGE} again"
    )


def _folders() -> list[Path]:
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "package.xml").is_file():
        return [checkout / "config"]
    folders = [Path(sys.prefix) / "share" / _PACKAGE / "config"]  # installed by pip
    try:
        from ament_index_python.packages import get_package_share_directory

        folders.insert(0, Path(get_package_share_directory(_PACKAGE)) / "config")
    except (ImportError, LookupError, OSError):  # no ROS, or one that does not know this package
        pass
    return folders
