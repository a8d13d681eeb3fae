"""A remapping that fits nothing is told, with the name that was probably meant."""

from __future__ import annotations

import pytest

from vggt3_ros.nodes.runtime.remappings import remappings_in_vain

from .test_documentation import DOCUMENT, section

NODES = ("/robot1/vggt3/mapper", "/robot1/vggt3/localizer")
HERE = (
    "image",
    "image/compressed",
    "/robot1/vggt3/image",
    "mapper:camera_info",
    "/tf",
    "mapper/status",
    "localizer",
    "rostopic://image",
)


@pytest.mark.parametrize("name", [*HERE, "__ns", "mapper:__node", "~/whatever"])
def test_names_of_ours_are_remapped(name: str) -> None:
    assert remappings_in_vain([f"{name}:=/other"], NODES) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("imge", "'image'"),
        ("/vggt3/image", "'/robot1/vggt3/image'"),
        ("tf", "'/tf'"),
        ("camera_inf", "'camera_info'"),
    ],
)
def test_other_names_are_complained_of(name: str, meant: str) -> None:
    (complaint,) = remappings_in_vain([f"{name}:=/other"], NODES)
    assert (
        f"-r {name}:=/other remaps nothing" in complaint and f"did you mean {meant}?" in complaint
    )


def test_a_rule_for_a_node_that_is_not_here_is_complained_of() -> None:
    (complaint,) = remappings_in_vain(["maper:image:=/other"], NODES)
    assert "there is no node 'maper' here, but localizer and mapper" in complaint


@pytest.mark.parametrize("node", ["mapper", "localizer", "sim_camera"])
def test_every_documented_name_is_known(node: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = section(text, f"interface: {node}")
    names = [row.split("`")[1] for row in text[begin:end].splitlines() if "`" in row]
    assert (
        len(names) > 5
        and remappings_in_vain([f"{name}:=/other" for name in names], [f"/vggt3/{node}"]) == []
    )
