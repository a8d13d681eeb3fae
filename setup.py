"""What pyproject.toml cannot say: messages are generated and compiled by the CMakeLists.txt that
colcon uses too.

What CMake installs below lib/pythonX.Y/site-packages goes into the wheel's packages; everything
else (shared libraries, lib/vggt3_ros/<node>, share/...) lands below sys.prefix, where ROS looks for
it. Without ROS to build against (no wheels for this machine, no compiler) the package is built
without messages: all but the nodes works.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = "vggt3_ros"
HERE = Path(__file__).resolve().parent


def ros_prefixes() -> list[str]:
    """Prefixes that hold ROS: a sourced one first, then the environment that the wheels were
    installed into.
    """
    prefixes = [
        prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix
    ]
    import rosidl_pycommon

    prefixes.append(str(Path(rosidl_pycommon.__file__).resolve().parents[4]))
    return list(dict.fromkeys(prefixes))


def why_without_ros() -> str | None:
    """What is missing for messages, or None."""
    if importlib.util.find_spec("rosidl_pycommon") is None:
        return "ROS is neither sourced nor available as wheels for this machine"
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        return "there is no C++ compiler (Debian and Ubuntu: apt install g++)"
    return None


class BuildMessages(build_ext):
    """Runs CMake, and puts what it installs into the wheel."""

    def run(self) -> None:
        """Called by setuptools."""
        self.distribution.data_files = []
        missing = why_without_ros()
        if missing is not None:
            self.warn(f"{PACKAGE} is built without its ROS messages: {missing}")
            return
        # lives until the wheel is written
        self._temporary = tempfile.TemporaryDirectory(prefix=PACKAGE)
        self._install(HERE, PACKAGE)
        if not any((Path(prefix) / "share/tf2_msgs").is_dir() for prefix in ros_prefixes()):
            self._install(HERE / "cmake/tf2_msgs", "tf2_msgs")

    def _install(self, source: Path, package: str) -> None:
        build, stage = (Path(self._temporary.name) / package / part for part in ("build", "stage"))
        prefixes = os.pathsep.join(ros_prefixes())
        environment = dict(os.environ, AMENT_PREFIX_PATH=prefixes, CMAKE_PREFIX_PATH=prefixes)
        for arguments in (
            [
                *("-S", str(source), "-B", str(build), "-G", "Ninja"),
                *(
                    "-DCMAKE_BUILD_TYPE=Release",
                    f"-DCMAKE_INSTALL_PREFIX={stage}",
                    "-DBUILD_TESTING=OFF",
                ),
                f"-DPython3_EXECUTABLE={sys.executable}",
                f"-DCMAKE_PROJECT_INCLUDE={HERE}/cmake/ros_wheels_fix.cmake",
                "-DPYTHON_MESSAGES_ALONE=ON",
            ],
            ["--build", str(build), "--target", "install"],
        ):
            subprocess.check_call(["cmake", *arguments], env=environment)
        site_packages = next((stage / "lib").glob("python3*/site-packages"))
        shutil.copytree(
            site_packages / package,
            Path(self.build_lib) / package,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__", "*.c"),
        )
        files: dict[str, list[str]] = {}
        for file in stage.rglob("*"):
            place = file.relative_to(stage)
            ours = (
                file.is_file()
                and site_packages not in file.parents
                and place.parts[0] in ("lib", "share")
            )
            if ours and "_cpp" not in file.name and file.suffix != ".pyc":
                files.setdefault(str(place.parent), []).append(os.path.relpath(file, HERE))
        self.distribution.data_files += sorted(files.items())


setup(
    # makes it a wheel of this platform and Python
    ext_modules=[Extension(f"{PACKAGE}._messages", [])],
    cmdclass={"build_ext": BuildMessages},
    data_files=[],
)
