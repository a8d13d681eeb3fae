"""`vggt3 view` serves a stored scene with the depth of its keyframes, coloured, and dim where it is
not sure.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vggt3_ros.cli import view
from vggt3_ros.cli.depth_picture import DepthPictures
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.storage import load_scene, save_scene

from ..dense.views import COLOR, wall
from ..patience import PATIENCE_S


def depth(images: bool = True) -> KeyframeDepth:
    """A wall before five keyframes, nearer on the right; the upper half agreed, the lower far, the
    first rows none.
    """
    seen = wall(2.0, count=5)
    ramp = torch.linspace(4, 1, seen.depth.shape[2]).expand_as(seen.depth).clone()
    provenance = torch.full(seen.depth.shape, int(Provenance.AGREED), dtype=torch.uint8)
    provenance[:, 32:] = Provenance.FAR
    provenance[:, :4], ramp[:, :4] = Provenance.NONE, 0
    return KeyframeDepth(
        ramp, provenance, seen.intrinsics, seen.world_from_cam, seen.images if images else None
    )


def test_near_is_red_far_is_blue_and_unsure_is_dim() -> None:
    picture = DepthPictures(depth(images=False))(0).astype(int)
    assert picture.shape == (4 * 64, 4 * 80, 3)
    left, right = picture[60, 20], picture[60, -20]
    assert left[2] > left[0] and right[0] > right[2]
    assert not picture[:16].any()
    assert np.allclose(picture[200], 0.35 * picture[60], atol=1)


def test_the_image_is_below_its_depth_where_it_is_stored() -> None:
    pictures = DepthPictures(depth())
    assert pictures(0).shape == (2 * 4 * 64, 4 * 80, 3) and (pictures(4)[-1] == COLOR).all()


def test_a_click_on_a_keyframe_shows_its_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("viser")
    from viser import CameraFrustumHandle

    from vggt3_ros.nodes.viewer.page import Viewer

    clicks: list[Callable[[object], None]] = []
    monkeypatch.setattr(
        CameraFrustumHandle, "on_click", lambda self, callback: clicks.append(callback)
    )
    asked: list[int] = []
    page = Viewer(0)
    try:
        page.show_keyframes(depth().world_from_cam)
        pictures = DepthPictures(depth())
        page.show_depth(
            depth().world_from_cam,
            list("abcde"),
            lambda index: asked.append(index) or pictures(index),
        )
        clicks[3](None)
        deadline = time.monotonic() + PATIENCE_S
        while asked[-1] != 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert asked[-1] == 3 and len(clicks) == 5
    finally:
        page.close()


@pytest.mark.parametrize("with_depth", [True, False])
def test_the_page_is_served_until_it_is_interrupted(
    vggt3, scene: Path, with_depth: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("viser")
    if with_depth:
        save_scene(replace(load_scene(scene), depth=depth()), scene)
    shown: list[str] = []

    def look() -> None:
        with urllib.request.urlopen(shown[0], timeout=PATIENCE_S) as answer:
            assert answer.status == 200
        raise KeyboardInterrupt

    from vggt3_ros.nodes.viewer.page import Viewer

    class Watched(Viewer):
        def show_text(self, markdown: str) -> None:
            super().show_text(markdown)
            shown.extend([self.url, markdown])

    monkeypatch.setattr("vggt3_ros.nodes.viewer.page.Viewer", Watched)
    monkeypatch.setattr(view, "wait", look)
    outcome = vggt3("view", scene, "--port", "0")
    assert outcome.code == 0 and shown[0] in outcome.out
    assert (
        "click a keyframe to see its depth" if with_depth else "no depth of its keyframes"
    ) in shown[1]


def test_what_is_no_scene_or_port_is_refused(vggt3, tmp_path: Path, scene: Path) -> None:
    assert vggt3("view", tmp_path).failed_with("is not a scene")
    assert vggt3("view", scene, "--port", "70000").failed_with("expected 0 to 65535", code=2)
