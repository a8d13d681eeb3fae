"""What lies in config/ and launch/, as far as it can be checked without ROS."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_from_quaternion
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.nodes.runtime import config_files, middleware
from vggt3_ros.nodes.runtime.parameters import Parameter, parameters_of

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
NODES = pytest.mark.parametrize(
    ("node", "parameters"),
    [
        ("mapper", parameters_of(MapperParameters)),
        ("localizer", parameters_of(LocalizerParameters)),
    ],
)

# Displays of RViz 2 from Humble on that are used here
# (rviz_default_plugins/plugins_description.xml).
RVIZ_DISPLAYS = {
    f"rviz_default_plugins/{name}" for name in ("Grid", "Image", "Map", "Path", "PointCloud2", "TF")
}
RVIZ_DISPLAYS.add("rviz_default_plugins/PoseWithCovariance")


def displays() -> list[dict[str, Any]]:
    rviz = yaml.safe_load((CONFIG / "vggt3.rviz").read_text(encoding="utf-8"))
    return list(rviz["Visualization Manager"]["Displays"])


def qos_by_topic() -> dict[str, tuple[str, str]]:
    topics = [display["Topic"] for display in displays() if "Topic" in display]
    return {
        topic["Value"]: (topic["Reliability Policy"], topic["Durability Policy"])
        for topic in topics
    }


@NODES
def test_parameter_file_has_the_defaults_of_the_code(
    node: str, parameters: Sequence[Parameter]
) -> None:
    document = yaml.safe_load((CONFIG / f"{node}.yaml").read_text(encoding="utf-8"))
    expected = {
        parameter.name: parameter.default for parameter in parameters if parameter.default != ()
    }
    given = document[f"/**/{node}"]["ros__parameters"]
    assert list(document) == [f"/**/{node}"]
    assert given == expected
    assert {name: type(value) for name, value in given.items()} == {
        name: type(value) for name, value in expected.items()
    }


@NODES
def test_every_parameter_is_explained_above_its_line(
    node: str, parameters: Sequence[Parameter]
) -> None:
    lines = (CONFIG / f"{node}.yaml").read_text(encoding="utf-8").splitlines()
    for parameter in parameters:
        (place,) = [
            row for row, line in enumerate(lines) if re.match(rf" *(# )?{parameter.name}: ", line)
        ]
        assert lines[place - 1].strip().startswith("# "), parameter.name


@NODES
def test_example_of_a_mounted_camera_looks_ahead(
    node: str, parameters: Sequence[Parameter]
) -> None:
    text = (CONFIG / f"{node}.yaml").read_text(encoding="utf-8")
    (numbers,) = re.findall(r"# base_from_camera: (\[.*\])", text)
    base_from_cam = rotation_from_quaternion(
        torch.tensor(yaml.safe_load(numbers)[3:], dtype=torch.float64)
    )
    # optical z is the robot's forward
    assert base_from_cam[:, 2].tolist() == pytest.approx([1, 0, 0])
    assert base_from_cam[:, 1].tolist() == pytest.approx([0, 0, -1])  # optical y is down


def test_fast_dds_profile_has_room_for_large_messages_and_reaches_other_machines() -> None:
    root = ElementTree.parse(CONFIG / "fastdds.xml").getroot()
    dds = {"dds": "http://www.eprosima.com"}
    transports = {
        descriptor.findtext("dds:type", namespaces=dds): descriptor
        for descriptor in root.iterfind(".//dds:transport_descriptor", dds)
    }
    assert set(transports) == {"SHM", "UDPv4"}
    for limit in ("segment_size", "maxMessageSize"):
        # a cloud of 1.5 million points
        assert int(transports["SHM"].findtext(f"dds:{limit}", "0", dds)) >= 32 << 20
    participant = root.find(".//dds:participant", dds)
    assert participant is not None and participant.get("is_default_profile") == "true"
    used = {
        element.text
        for element in participant.iterfind(".//dds:userTransports/dds:transport_id", dds)
    }
    assert used == {
        descriptor.findtext("dds:transport_id", namespaces=dds)
        for descriptor in transports.values()
    }
    assert participant.findtext(".//dds:useBuiltinTransports", namespaces=dds) == "false"


def test_rviz_shows_what_the_nodes_publish() -> None:
    assert {display["Class"] for display in displays()} == RVIZ_DISPLAYS
    assert set(qos_by_topic()) == {
        "/vggt3/points",
        "/vggt3/grid",
        "/vggt3/keyframes",
        "/vggt3/keyframes_cloud",
        "/vggt3/pose",
        "/vggt3/image",
    }


def test_rviz_gets_maps_made_before_it_was_started() -> None:
    for topic in ("/vggt3/points", "/vggt3/grid", "/vggt3/keyframes", "/vggt3/keyframes_cloud"):
        assert qos_by_topic()[topic] == ("Reliable", "Transient Local")


def test_rviz_takes_images_of_every_camera() -> None:
    assert qos_by_topic()["/vggt3/image"] == ("Best Effort", "Volatile")


def test_rviz_stands_in_the_map_frame() -> None:
    rviz = yaml.safe_load((CONFIG / "vggt3.rviz").read_text(encoding="utf-8"))
    default = LocalizerParameters().map_frame
    assert rviz["Visualization Manager"]["Global Options"]["Fixed Frame"] == default


@pytest.mark.parametrize(
    "file", sorted((ROOT / "launch").glob("*.launch.py")), ids=lambda file: file.name
)
def test_launch_file_is_python_with_the_function_that_ros_looks_for(file: Path) -> None:
    code = compile(file.read_text(encoding="utf-8"), str(file), "exec")
    assert "generate_launch_description" in code.co_names


def test_configuration_is_found_or_its_places_are_named() -> None:
    # of this checkout, or a copy that was installed from it
    found = config_files.config_file("mapper.yaml")
    assert found.read_bytes() == (CONFIG / "mapper.yaml").read_bytes()
    with pytest.raises(InputError, match=r"nothing\.yaml .* looked into .*config"):
        config_files.config_file("nothing.yaml")


def test_configuration_of_an_installed_package_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "share" / "vggt3_ros" / "config" / "mapper.yaml"
    installed.parent.mkdir(parents=True)
    installed.touch()
    code = tmp_path / "lib/python3/site-packages/vggt3_ros/nodes/runtime/config_files.py"
    monkeypatch.setattr(config_files, "__file__", str(code))
    monkeypatch.setattr(config_files.sys, "prefix", str(tmp_path))
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert config_files.config_file("mapper.yaml") == installed


@pytest.mark.parametrize(
    ("environment", "added"),
    [
        ({}, {"FASTDDS_DEFAULT_PROFILES_FILE"}),
        ({"ROS_DISTRO": "kilted"}, {"FASTDDS_DEFAULT_PROFILES_FILE"}),
        ({"ROS_DISTRO": "jazzy"}, {"FASTRTPS_DEFAULT_PROFILES_FILE"}),
        ({"ROS_DISTRO": "humble"}, {"FASTRTPS_DEFAULT_PROFILES_FILE"}),
        ({"FASTDDS_DEFAULT_PROFILES_FILE": "own.xml"}, set()),
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": "own.xml"}, set()),
    ],
)
def test_profile_is_set_under_the_name_a_distribution_knows_unless_the_user_has_one(
    environment: dict[str, str], added: set[str]
) -> None:
    before = dict(environment)
    middleware.prepare(environment)
    assert set(environment) - set(before) == added
    assert all(environment[name] == str(config_files.config_file("fastdds.xml")) for name in added)
    assert before.items() <= environment.items()
