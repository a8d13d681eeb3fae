"""What the network remembers of a scene, made anew from the images of its keyframes."""

from __future__ import annotations

from collections.abc import Callable

from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.pipeline.refit import RefitSettings, refit, refit_joined
from vggt3_ros.scene.scene import Scene

from ..conftest import make_network
from .conftest import with_plausible_view


def test_a_joined_scene_has_anchors_for_two_maps(make_frames: Callable[..., list[Frame]]) -> None:
    network = with_plausible_view(make_network("anchored"))
    how = ReconstructionSettings(dense=None, keep_images=True)
    one = reconstruct(make_frames(20), network, how).scene
    again = refit(one, network, RefitSettings())
    joined = refit_joined(one, network)

    def anchored_tokens(scene: Scene) -> int:
        return scene.memory["global.0.keys"].shape[1]

    assert network.config.anchors.count == 8
    assert anchored_tokens(again) == anchored_tokens(one)
    assert anchored_tokens(joined) == 2 * anchored_tokens(one)


def test_a_network_without_anchors_gives_a_joined_scene_none(
    make_frames: Callable[..., list[Frame]],
) -> None:
    network = with_plausible_view(make_network("ttt"))
    how = ReconstructionSettings(dense=None, keep_images=True)
    one = reconstruct(make_frames(4), network, how).scene
    assert refit_joined(one, network).memory.keys() == one.memory.keys()
