"""What is given to nodes and fits none is refused by name, or warned of where others may be
meant.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.runtime.given import check, rcl_arguments, read_file, unused
from vggt3_ros.nodes.runtime.parameters import parameters_of

from .processes import NodeProcess, wait_for

NAMES = {"/vggt3/localizer": [parameter.name for parameter in parameters_of(LocalizerParameters)]}


@pytest.fixture
def check_file(tmp_path: Path) -> Callable[[str], list[str]]:
    """Warnings of a parameter file with this content, for a localizer."""

    def check_file(content: str) -> list[str]:
        file = tmp_path / "own.yaml"
        file.write_text(content, encoding="utf-8")
        return check(read_file(file), NAMES)

    return check_file


@pytest.mark.parametrize(
    "key",
    [
        "/**/localizer",
        "/vggt3/localizer",
        "vggt3/localizer",
        "/*/localizer",
        "/**",
        "/vggt3/*",
        '"/**/localizer"',
    ],
)
def test_keys_that_fit_are_those_that_rcl_takes(
    check_file: Callable[[str], list[str]], key: str
) -> None:
    assert check_file(f"{key}: {{ros__parameters: {{max_rate: 2, use_sim_time: true}}}}") == []


@pytest.mark.parametrize(
    "key", ["localizer", "/localizer", "/other/localizer", "/*", "/**/localiser", "/amcl"]
)
def test_file_whose_keys_fit_no_node_is_refused(
    check_file: Callable[[str], list[str]], key: str
) -> None:
    with pytest.raises(
        InputError, match=r"sets nothing for /vggt3/localizer; its keys are '.*/\*\*/localizer'"
    ):
        check_file(f"{key}: {{ros__parameters: {{max_rate: 2}}}}")


@pytest.mark.parametrize("key", ["/**/localizer", "/vggt3/localizer"])
def test_unknown_name_under_a_key_of_the_node_is_refused(
    check_file: Callable[[str], list[str]], key: str
) -> None:
    with pytest.raises(
        InputError, match=r"of /vggt3/localizer is called 'max_rat' \(did you .*'max_rate'"
    ):
        check_file(f"{key}: {{ros__parameters: {{max_rat: 2, lost_after: 1}}}}")
    with pytest.raises(InputError, match="is called 'camera.rate'"):
        check_file(f"{key}: {{ros__parameters: {{camera: {{rate: 2}}}}}}")


def test_names_that_may_be_others_are_warned_of_if_they_are_near(
    check_file: Callable[[str], list[str]],
) -> None:
    (warning,) = check_file(
        "/**: {ros__parameters: {max_rat: 2, robot_radius: 0.3, qos_overrides: {x: 1}}}"
    )
    assert "own.yaml" in warning and "'max_rat' (did you mean 'max_rate'?)" in warning


def test_files_for_several_nodes_and_robots_are_no_mistake(
    check_file: Callable[[str], list[str]],
) -> None:
    assert check_file("/**/mapper: {ros__parameters: {min_frames: 2}}") == []
    both = "/{}/localizer: {{ros__parameters: {{max_rate: 2}}}}\n"
    assert (
        check_file(both.format("vggt3") + both.format("robot2/vggt3") + both.format("amcl")) == []
    )


@pytest.mark.parametrize("key", ["/vggt/localizer", "localizer", "/vggt3/localiser"])
def test_key_that_nearly_fits_is_warned_of(
    check_file: Callable[[str], list[str]], key: str
) -> None:
    mapper = "/**/mapper: {ros__parameters: {min_frames: 2}}\n"
    (warning,) = check_file(f"{mapper}{key}: {{ros__parameters: {{max_rate: 2}}}}")
    assert key in warning and "write '/**/localizer'" in warning


@pytest.mark.parametrize(
    "content", ["", "[]", "max_rate: 2", "{", "/**/localizer: {max_rate: 2}", "\0"]
)
def test_what_is_no_parameter_file_is_refused(
    check_file: Callable[[str], list[str]], content: str
) -> None:
    with pytest.raises(InputError, match=r"own.yaml: "):
        check_file(content)


def test_rules_of_the_command_line_are_meant_for_these_nodes() -> None:
    class Fake:
        def get_fully_qualified_name(self) -> str:
            return "/vggt3/localizer"

        def get_parameters_by_prefix(self, prefix: str) -> dict[str, None]:
            return dict.fromkeys(NAMES["/vggt3/localizer"])

    def given(*words: str) -> list[str]:
        return unused(["localizer", *words], [Fake()])  # type: ignore[list-item]

    assert given("--ros-args", "-p", "max_rate:=2", "--", "-p", "whatever") == []
    for words in (["-p", "max_rat:=2"], ["--param", "max_rat:=2"]):
        with pytest.raises(InputError, match="max_rat:=2.*did you mean 'max_rate'"):
            given("--ros-args", *words)
    with pytest.raises(InputError, match="localizer:max_rate:=2 sets nothing for /vggt3/localizer"):
        given("--ros-args", "-p", "localizer:max_rate:=2")


def test_an_empty_value_is_written_as_rcl_reads_it() -> None:
    given = ["localizer", "--ros-args", "-p", "base_frame:=", "-r", "__ns:=", "-p", "max_rate:=2"]
    assert rcl_arguments(given) == [*given[:3], "base_frame:=''", *given[4:]]


def test_a_node_refuses_at_start_what_it_does_not_know(
    ros_environment: None, start_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    wrong = tmp_path / "own.yaml"
    wrong.write_text("localizer: {ros__parameters: {max_rate: 2.0}}\n", encoding="utf-8")
    started = {
        "did you mean 'max_rate'?": start_node("localizer_node", "-p", "max_rat:=2", anew=True),
        "own.yaml sets nothing for": start_node(
            "localizer_node", "-p", "base_frame:=", "--params-file", str(wrong), anew=True
        ),
    }
    for words, process in started.items():
        wait_for(lambda process=process: not process.is_running, "the end of the node")  # type: ignore[misc]
        assert process.exit_code == 1 and words in process.log and "Traceback" not in process.log, (
            process.log
        )
