"""Depth of a live image is what keyframes know of the place, where its pose is verified; and what
runs beside what.
"""

from __future__ import annotations

import copy
import math
import threading
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline import disposing
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.pipeline.reconstruct import reconstruct
from vggt3_ros.scene.scene import Scene
from vggt3_ros.worlds.sequence import RoomSequence

from ..patience import PATIENCE_S
from ..pretended_device import DEVICE, PretendedDevice

NETWORK, REFINED = LocalizerSettings(depth="network"), LocalizerSettings(depth="refined")


@pytest.fixture(scope="module")
def network() -> Vggt3:
    return load_network("tiny")


@pytest.fixture(scope="module")
def scene(drive: RoomSequence, network: Vggt3) -> Scene:
    frames = [
        Frame(
            drive.images[i],
            intrinsics=drive.intrinsics,
            prior_world_from_cam=drive.world_from_cam[i],
            name=str(i),
        )
        for i in map(int, drive.map_indices)
    ]
    return reconstruct(frames, network).scene


def error(found: Localization, drive: RoomSequence, index: int, network: Vggt3) -> Tensor:
    """Relative errors (h, w) of a localization's depth."""
    frame = Frame(drive.images[index], intrinsics=drive.intrinsics, depth=drive.depth[index])
    true = prepare([frame], network.config.image_size, network.config.patch_size).depth
    assert true is not None and found.depth is not None
    return (found.depth - true[0]).abs() / true[0]


@pytest.mark.parametrize("calibrated", [True, False])
def test_depth_of_a_verified_frame_is_that_of_the_map(
    scene: Scene, network: Vggt3, drive: RoomSequence, calibrated: bool
) -> None:
    plain, refining = Localizer(scene, network, NETWORK), Localizer(scene, network, REFINED)
    verified = 0
    for index in map(int, drive.query_indices):
        frame = Frame(drive.images[index], intrinsics=drive.intrinsics if calibrated else None)
        before, after = plain.localize(frame), refining.localize(frame)
        assert before.depth_provenance is None and "depth" not in before.seconds
        if after.status is not LocalizationStatus.VERIFIED:
            continue
        verified += 1
        assert (
            after.depth_provenance is not None
            and 0 < after.seconds["depth"] < after.seconds["total"]
        )
        agreed = after.depth_provenance == Provenance.AGREED
        errors = error(after, drive, index, network)
        assert float(agreed.float().mean()) > 0.6 and float(errors[agreed].median()) < 0.015
        assert float(errors.mean()) < 0.5 * float(error(before, drive, index, network).mean())
        assert torch.equal(after.map_from_cam, before.map_from_cam)
    assert verified >= 3


def test_larger_images_keep_the_edges_of_the_network(
    scene: Scene, network: Vggt3, drive: RoomSequence
) -> None:
    """Keyframes of half the size: known depth scales the network's, which has more pixels."""
    assert scene.depth is not None
    depth = scene.depth
    scale = torch.tensor([[0.25], [0.25], [1.0]], dtype=torch.float64)
    coarse = replace(
        depth,
        depth=depth.depth[:, ::4, ::4].contiguous(),
        provenance=depth.provenance[:, ::4, ::4].contiguous(),
        intrinsics=depth.intrinsics * scale,
    )
    index = int(drive.query_indices[0])
    frame = Frame(drive.images[index], intrinsics=drive.intrinsics)
    found = Localizer(replace(scene, depth=coarse), network, REFINED).localize(frame)
    assert found.depth is not None and found.depth_provenance is not None
    assert (
        found.depth_provenance.shape
        == found.depth.shape
        == prepare([frame], network.config.image_size, network.config.patch_size).images.shape[-2:]
    )
    before = Localizer(scene, network, NETWORK).localize(frame)
    assert float(error(found, drive, index, network).mean()) < 0.6 * float(
        error(before, drive, index, network).mean()
    )


def test_what_is_not_verified_keeps_the_depth_of_the_network(
    scene: Scene, network: Vggt3, drive: RoomSequence, elsewhere: RoomSequence
) -> None:
    lost = Localizer(scene, network, REFINED).localize(
        Frame(elsewhere.images[0], intrinsics=elsewhere.intrinsics)
    )
    assert (
        lost.status is LocalizationStatus.LOST
        and lost.depth_provenance is None
        and lost.depth is not None
    )
    frame = Frame(drive.images[int(drive.query_indices[0])], intrinsics=drive.intrinsics)
    for made, settings in (
        (replace(scene, depth=None), REFINED),
        (scene, LocalizerSettings(refine="none", depth="refined")),
    ):
        assert Localizer(made, network, settings).localize(frame).depth_provenance is None


def test_depth_that_nobody_wants_is_not_decoded(
    scene: Scene, network: Vggt3, drive: RoomSequence
) -> None:
    frame = Frame(drive.images[int(drive.query_indices[0])], intrinsics=drive.intrinsics)
    spared, decoded = (
        Localizer(scene, network).localize(frame),
        Localizer(scene, network, NETWORK).localize(frame),
    )
    assert spared.depth is None and math.isnan(spared.confidence)
    assert decoded.depth is not None and 0 < decoded.confidence < 1
    assert torch.equal(spared.map_from_cam, decoded.map_from_cam)
    proposed = Localizer(scene, network, LocalizerSettings(refine="none")).localize(frame)
    assert torch.equal(proposed.depth, decoded.depth) and proposed.confidence == decoded.confidence


def test_with_a_network_on_a_device_it_is_the_same(
    scene: Scene, network: Vggt3, drive: RoomSequence
) -> None:
    frame = Frame(drive.images[int(drive.query_indices[0])], intrinsics=drive.intrinsics)
    with sdpa_kernel(SDPBackend.MATH):
        here = Localizer(scene, network, REFINED).localize(frame)
        with PretendedDevice():
            moved = copy.deepcopy(network).to(DEVICE)
            there = Localizer(scene, moved, REFINED).localize(frame)
    assert here.depth is not None and there.depth is not None
    assert here.depth_provenance is not None and there.depth_provenance is not None
    assert torch.equal(here.depth, there.depth)


def test_what_refined_points_hide_is_not_compared(
    scene: Scene, network: Vggt3, drive: RoomSequence
) -> None:
    """A plate just before the camera, where no keyframe stood."""
    index = int(drive.query_indices[0])
    frame = Frame(drive.images[index], intrinsics=drive.intrinsics)
    pose = drive.world_from_cam[index]
    across = torch.cartesian_prod(*2 * [torch.linspace(-0.1, 0.1, 21, dtype=torch.float64)])
    plate = pose[:3, 3] + 0.12 * pose[:3, 2] + across @ pose[:3, :2].T
    points = PointCloud(
        torch.cat([scene.points.points, plate.float()]),
        torch.cat([scene.points.colors, torch.zeros(len(plate), 3, dtype=torch.uint8)]),
        torch.cat([scene.points.confidence, torch.ones(len(plate))]),
    )
    compared = [
        Localizer(made, network).localize(frame).located.evidence.compared
        for made in (
            scene,
            replace(scene, points=points),
            replace(scene, points=points, has_refined_points=False),
        )
    ]
    assert compared[1] < min(compared[0], compared[2]) - 1


def test_features_are_extracted_while_the_network_runs(
    scene: Scene, network: Vggt3, drive: RoomSequence, monkeypatch
) -> None:
    """Each waits until the other has begun: in one thread neither would."""
    network_runs = threading.Event()
    extracting = threading.Event()
    query = network.query_undecoded
    extract = disposing.extract
    met = []

    def querying(*given, **named):
        network_runs.set()
        met.append(extracting.wait(PATIENCE_S))
        return query(*given, **named)

    def searching(*given):
        extracting.set()
        met.append(network_runs.wait(PATIENCE_S))
        return extract(*given)

    frame = Frame(drive.images[int(drive.query_indices[0])], intrinsics=drive.intrinsics)
    localizer = Localizer(scene, network)
    alone = localizer.localize(frame)
    monkeypatch.setattr(network, "query_undecoded", querying)
    monkeypatch.setattr(disposing, "extract", searching)
    together = localizer.localize(frame)
    assert met[:2] == [True, True]
    assert alone.map_from_cam is not None and together.map_from_cam is not None
    assert torch.equal(alone.map_from_cam, together.map_from_cam)
    assert 0 < together.cpu_seconds["network"] < together.cpu_seconds["total"]


def test_what_goes_wrong_with_the_features_is_told(
    scene: Scene, network: Vggt3, drive: RoomSequence, monkeypatch
) -> None:
    def failing(*given):
        raise RuntimeError("no features today")

    monkeypatch.setattr(disposing, "extract", failing)
    frame = Frame(drive.images[int(drive.query_indices[0])], intrinsics=drive.intrinsics)
    with pytest.raises(RuntimeError, match="no features today"):
        Localizer(scene, network).localize(frame)
