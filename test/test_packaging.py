"""One package in three descriptions (package.xml, CMakeLists.txt, pyproject.toml): they have to
agree.
"""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

import vggt3_ros

ROOT = Path(__file__).parents[1]
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # tomllib came with Python 3.11
CI = (ROOT / ".ci/run").read_text(encoding="utf-8")
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()
KINDS = ("msg", "srv", "action")
INTERFACES = sorted(
    path.relative_to(ROOT).as_posix() for kind in KINDS for path in ROOT.glob(f"{kind}/*")
)

# Packages of pip: README.md says how to get them, rosdep has no keys for their versions.
FROM_PIP = {"torch", "rosbags", "viser"}
DEBIAN = {
    "PIL": "python3-pil",
    "cv2": "python3-opencv",
    "numpy": "python3-numpy",
    "psutil": "python3-psutil",
    "yaml": "python3-yaml",
}
RENAMED = {
    "opencv-python-headless": "python3-opencv",
    "pillow": "python3-pil",
    "pyyaml": "python3-yaml",
}
WITHOUT_WHEEL = {
    *(
        "ament_index_python",
        "builtin_interfaces",
        "launch",
        "launch_ros",
        "rcl_interfaces",
        "tf2_msgs",
    ),
    *("cv_bridge", "sensor_msgs_py"),  # used where they are
}


def text_of(tag: str) -> set[str]:
    return {element.text or "" for element in MANIFEST.iter(tag)}


def needed_to_run() -> set[str]:
    return text_of("depend") | text_of("exec_depend")


def imported_by_ros_code() -> set[str]:
    """Top-level packages that nodes/ and launch/ import, but the standard library and our own."""
    names: set[str] = set()
    for path in [*ROOT.glob("vggt3_ros/nodes/**/*.py"), *ROOT.glob("launch/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"vggt3_ros"}


def ros_wheels() -> set[str]:
    """Names of the extra's packages, as ROS calls them."""
    (extra,) = re.findall(r"^ros-wheels = \[(.*?)^\]", PYPROJECT, re.DOTALL | re.MULTILINE)
    return {name.replace("-", "_") for name in re.findall(r'"ros-([a-z0-9-]+)', extra)}


def versions_of_pip() -> dict[str, str]:
    """Oldest version of what pyproject.toml asks for, by its name in rosdep, but of what pip alone
    has.
    """
    (dependencies,) = re.findall(r"^dependencies = \[(.*?)^\]", PYPROJECT, re.DOTALL | re.MULTILINE)
    asked = dict(re.findall(r'"([a-z0-9-]+)>=([0-9.]+)"', dependencies))
    return {
        RENAMED.get(name, f"python3-{name}"): asked[name]
        for name in asked.keys() - {"torch", "safetensors"}
    }


def test_pip_and_rosdep_are_asked_for_the_same_versions() -> None:
    of_rosdep = {
        element.text: element.get("version_gte", "")
        for element in MANIFEST.iter("exec_depend")
        if (element.text or "").startswith("python3-")
    }
    assert versions_of_pip() == of_rosdep


# Of Ubuntu 22.04, the oldest that a supported ROS runs on.
JAMMY = {
    "python3-matplotlib": "3.5.1", "python3-numpy": "1.21.5", "python3-opencv": "4.5.4",
    "python3-pil": "9.0.1",
    "python3-psutil": "5.9.0", "python3-scipy": "1.8.0", "python3-tqdm": "4.57.0", "python3-yaml":
    "5.4.1",
}  # fmt: skip


@pytest.mark.parametrize("package", sorted(JAMMY))
def test_apt_has_what_is_asked_for(package: str) -> None:
    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.split(".")]

    assert numbers(versions_of_pip()[package]) <= numbers(JAMMY[package])


def test_one_version() -> None:
    (version,) = re.findall(r'^version = "(.*)"', PYPROJECT, re.MULTILINE)
    assert version == vggt3_ros.__version__ == MANIFEST.findtext("version")


def test_one_name_and_licence() -> None:
    (name,) = re.findall(r"^project\((\S+)", CMAKE, re.MULTILINE)
    assert name == MANIFEST.findtext("name") == vggt3_ros.__name__
    assert f'license = "{MANIFEST.findtext("license")}"' in PYPROJECT


@pytest.mark.parametrize("interface", INTERFACES)
def test_interface_is_generated(interface: str) -> None:
    assert f'"{interface}"' in CMAKE


def test_no_interface_is_listed_that_does_not_exist() -> None:
    assert set(re.findall(r'"((?:msg|srv|action)/.*)"', CMAKE)) == set(INTERFACES)


def test_packages_whose_messages_are_used_in_ours_are_declared_for_the_build() -> None:
    used = set()
    for interface in INTERFACES:
        text = (ROOT / interface).read_text(encoding="utf-8")
        used |= set(re.findall(r"^([a-z0-9_]+)/[A-Z]\w+", text, re.MULTILINE))
    for package in used:
        assert f"find_package({package} REQUIRED)" in CMAKE
        assert package in text_of("depend")
        assert f'"ros-{package.replace("_", "-")}~=' in PYPROJECT


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").iterdir()))
def test_script_can_be_run_and_is_installed(script: str) -> None:
    path = ROOT / "scripts" / script
    assert path.stat().st_mode & 0o111 == 0o111
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")
    installed = dict(re.findall(r"install\(PROGRAMS ([^)]*?) DESTINATION ([^)]*)\)", CMAKE))
    (for_ros2_run,) = (
        files for files, folder in installed.items() if folder == "lib/${PROJECT_NAME}"
    )
    assert f"scripts/{script}" in for_ros2_run.split()
    assert installed["scripts/vggt3"] == "bin"  # on PATH after `source install/setup.bash`


@pytest.mark.parametrize("package", sorted(imported_by_ros_code() - FROM_PIP))
def test_import_of_a_node_is_a_dependency_of_the_ros_package(package: str) -> None:
    assert DEBIAN.get(package, package) in needed_to_run()


@pytest.mark.parametrize(
    "package", sorted(imported_by_ros_code() - FROM_PIP - set(DEBIAN) - WITHOUT_WHEEL)
)
def test_import_of_a_node_comes_with_the_wheels(package: str) -> None:
    assert package in ros_wheels()


def test_types_are_installed_by_pip_and_by_colcon() -> None:
    assert (ROOT / "vggt3_ros" / "py.typed").is_file()
    (data,) = re.findall(r"^vggt3_ros = \[(.*)\]$", PYPROJECT, re.MULTILINE)
    assert '"py.typed"' in data
    (left_out,) = re.findall(
        r"install\(DIRECTORY \$\{PROJECT_NAME\}/\s(.*?)\)$", CMAKE, re.DOTALL | re.MULTILINE
    )
    assert set(re.findall(r'PATTERN "(.*?)" EXCLUDE', left_out)) == {"__pycache__", "*.pyc"}


def test_ros_wheels_stay_out_of_what_everybody_gets() -> None:
    (dependencies,) = re.findall(r"^dependencies = \[(.*?)^\]", PYPROJECT, re.DOTALL | re.MULTILINE)
    assert "ros-" not in dependencies


def test_what_is_cited_and_released_is_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")
    (newest, *_) = re.findall(r"^(\S+) \((\d{4}-\d\d-\d\d)\)\n-+$", changes, re.MULTILINE)
    assert (citation["version"], citation["date-released"]) == newest
    assert (citation["version"], citation["license"]) == (
        vggt3_ros.__version__,
        MANIFEST.findtext("license"),
    )


def test_github_runs_what_everybody_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in [step.get("run") for step in steps]


def test_hooks_before_a_commit_are_the_checks_of_ci() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][
        0
    ]["hooks"]
    used = set(re.findall(r"^\.venv/bin/((?:ruff|mypy)\b[\w ]*?)(?: \.)?$", CI, re.MULTILINE))
    assert used <= {hook["entry"].removesuffix(" --force-exclude") for hook in hooks} and used


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*s.yml")), ids=lambda path: path.stem
)
def test_who_reports_is_asked_for_the_scene_and_the_status(form: Path) -> None:
    text = form.read_text(encoding="utf-8")
    fields = [field for field in yaml.safe_load(text)["body"] if field["type"] != "markdown"]
    assert {"scene", "machine"} <= {field["id"] for field in fields}
    assert "`vggt3 info SCENE`" in text and "/vggt3/localizer/status" in text
