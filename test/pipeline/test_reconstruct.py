from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import intrinsics_matrix, project
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3_inverse, transform_points
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline import memory_check
from vggt3_ros.pipeline.frame import Frame, Image
from vggt3_ros.pipeline.memory_check import available_bytes, fit_map
from vggt3_ros.pipeline.points import PointSettings
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct

from ..conftest import make_network

MakeFrames = Callable[[int], list[Frame]]
MakeImage = Callable[..., Image]
ALL_POINTS = PointSettings(confidence_quantile=0.0, voxel_size=1e-7)


def test_a_scene_holds_what_the_network_said_of_its_frames(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    frames = make_frames(4)
    made = reconstruct(frames, small_network)
    scene, (direct, memory) = made.scene, small_network.map(prepare(frames, 70, 14).images)
    assert memory is not None
    assert all(torch.equal(tensor, scene.memory[name]) for name, tensor in memory.tensors().items())
    torch.testing.assert_close(
        scene.keyframes.cam_from_world, direct.cameras.cam_from_world, rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        scene.keyframes.intrinsics, direct.cameras.intrinsics, rtol=1e-5, atol=1e-4
    )
    assert scene.keyframes.names == ("000.png", "001.png", "002.png", "003.png")
    assert scene.keyframes.stamps_ns == (0, 10**8, 2 * 10**8, 3 * 10**8)
    assert (scene.model_id, scene.model_fingerprint) == (
        small_network.model_id,
        small_network.fingerprint(),
    )
    assert (scene.input_size, scene.ttt_steps, scene.is_metric) == ((56, 70), 2, False)
    assert scene.metric_source == "none: no frame has a prior pose"
    assert made.skipped == () and made.frames == tuple(frames)
    assert set(made.seconds) == {
        "prepare",
        "network",
        "landmarks",
        "depth",
        "points",
        "scene",
        "total",
    }
    assert math.isclose(sum(made.seconds.values()), 2 * made.seconds["total"], rel_tol=1e-6)


def test_reconstructing_twice_gives_the_same_scene(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    first, second = (reconstruct(make_frames(3), small_network).scene for _ in range(2))
    assert all(torch.equal(first.memory[name], second.memory[name]) for name in first.memory)
    assert torch.equal(first.points.points, second.points.points)
    assert first.bounds == second.bounds and first.scene_id != second.scene_id


@pytest.mark.parametrize("source", ["depth", "pointmap"])
def test_every_point_has_the_colour_of_the_pixel_it_comes_from(
    small_network: Vggt3, make_frames: MakeFrames, source: str
) -> None:
    settings = ReconstructionSettings(points=replace(ALL_POINTS, source=source))  # type: ignore[arg-type]
    frames = make_frames(3)
    made = reconstruct(frames, small_network, settings)
    cloud = made.scene.points.transformed(made.scene.map_from_scene.inverse())
    prediction, images = made.prediction, prepare(frames, 70, 14).images
    assert len(cloud) > 0.9 * 3 * 56 * 70
    if source == "depth":
        points, confidence = (
            prediction.cameras.points(prediction.depth),
            prediction.depth_confidence,
        )
    else:
        assert prediction.pointmap is not None and prediction.pointmap_confidence is not None
        points, confidence = prediction.pointmap, prediction.pointmap_confidence
    colors = (images.permute(0, 2, 3, 1).reshape(-1, 3) * 255).round()
    distance, pixel = torch.cdist(cloud.points[::97].double(), points.reshape(-1, 3).double()).min(
        dim=1
    )
    assert float(distance.max()) < 1e-6
    assert torch.equal(cloud.colors[::97].float(), colors[pixel])
    assert torch.equal(cloud.confidence[::97], confidence.reshape(-1)[pixel])


def test_points_project_onto_their_own_pixels(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    made = reconstruct(make_frames(2), small_network, ReconstructionSettings(points=ALL_POINTS))
    keyframes, cloud = (
        made.scene.keyframes,
        made.scene.points.transformed(made.scene.map_from_scene.inverse()),
    )
    image = prepare(make_frames(2), 70, 14).images[0]
    pixels, z = project(
        transform_points(keyframes.cam_from_world[0], cloud.points.double()),
        keyframes.intrinsics[0],
    )
    whole = pixels.round().long()
    inside = (whole >= 0).all(1) & (whole[:, 0] < 70) & (whole[:, 1] < 56) & (z > 0)
    whole, cloud, z, pixels = whole[inside], cloud[inside], z[inside], pixels[inside]
    own = ((pixels - whole).abs().amax(1) < 1e-2) & (
        (z - made.prediction.depth[0, whole[:, 1], whole[:, 0]]).abs() < 1e-4 * z
    )
    assert int(own.sum()) > 0.9 * 56 * 70
    expected = (image[:, whole[own, 1], whole[own, 0]].T * 255).round()
    assert float((cloud.colors[own].float() == expected).all(1).float().mean()) > 0.99


def test_points_are_bounded_thinned_and_the_most_confident(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    everything = reconstruct(
        make_frames(3), small_network, ReconstructionSettings(points=ALL_POINTS)
    )
    few = reconstruct(
        make_frames(3),
        small_network,
        ReconstructionSettings(points=PointSettings(confidence_quantile=0.5, max_points=500)),
    )
    assert 100 < len(few.scene.points) <= 500
    median = everything.prediction.depth_confidence.median()
    assert bool((few.scene.points.confidence >= 0.98 * median).all())
    low, high = few.scene.bounds
    assert few.scene.points.points.amin(0).tolist() == pytest.approx(low)
    assert few.scene.points.points.amax(0).tolist() == pytest.approx(high)


def test_an_unreachable_confidence_leaves_a_scene_without_points(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    settings = ReconstructionSettings(points=PointSettings(min_confidence=1e9))
    scene = reconstruct(make_frames(2), small_network, settings).scene
    assert len(scene.points) == 0 and np.isfinite(scene.bounds).all()


def test_priors_make_the_scene_metric_and_outliers_are_named(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    frames = make_frames(6)
    plain = reconstruct(frames, small_network)
    turn = rotation_from_axis_angle(torch.tensor([0.1, 0.9, -0.4], dtype=torch.float64))
    positions = se3_inverse(plain.scene.keyframes.cam_from_world)[:, :3, 3]
    metres = Sim3(
        3.0 / float(positions.std()), turn, torch.tensor([5.0, 6.0, 7.0], dtype=torch.float64)
    )
    priors = metres.poses(se3_inverse(plain.scene.keyframes.cam_from_world))
    priors[4, :3, 3] += 40.0
    frames = [
        replace(frame, prior_world_from_cam=prior)
        for frame, prior in zip(frames, priors, strict=True)
    ]
    made = reconstruct(frames, small_network)
    assert made.scene.is_metric and made.scene.metric_source == "pose_priors"
    assert made.scene.metric_from_scene is not None and made.scene.metric_residual_m is not None
    torch.testing.assert_close(
        made.scene.metric_from_scene.matrix(), metres.matrix(), rtol=1e-4, atol=1e-4
    )
    assert made.scene.metric_residual_m < 1e-3 and made.prior_outliers == ("004.png",)
    assert torch.equal(made.scene.keyframes.cam_from_world, plain.scene.keyframes.cam_from_world)


def test_known_intrinsics_go_into_the_keyframes_in_prepared_pixels(
    small_network: Vggt3, make_image: MakeImage
) -> None:
    camera = intrinsics_matrix(60.0, 61.0, 30.0, 24.5)
    frames = [Frame(make_image(i), intrinsics=camera) for i in range(2)]
    prepared = prepare(frames, 70, 14)
    assert prepared.intrinsics is not None
    assert torch.equal(
        reconstruct(frames, small_network).scene.keyframes.intrinsics, prepared.intrinsics
    )


def test_unusable_frames_are_skipped_and_reported(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    frames = make_frames(6)
    nan = torch.full((4, 4), float("nan"))
    frames[0] = replace(frames[0], image=np.zeros_like(frames[0].image))
    frames[2] = replace(frames[2], prior_world_from_cam=nan)
    frames[4] = replace(frames[4], image=frames[4].image[:40].copy())
    made = reconstruct(frames, small_network)
    assert made.scene.keyframes.names == ("001.png", "003.png", "005.png")
    assert [name for name, _ in made.skipped] == ["000.png", "002.png", "004.png"]
    black, pose, size = (reason for _, reason in made.skipped)
    assert black == "the image is black" and "contains NaN" in pose
    assert size.startswith(
        "the image is 64x40, most are 64x48: images of several shapes can be used together only if"
    )


def test_too_few_usable_frames_are_refused_with_the_reasons(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    with pytest.raises(
        InputError, match="there are no frames; give at least 2 images of the place"
    ):
        reconstruct([], small_network)
    with pytest.raises(InputError, match=r"at least 2 usable frames, but only 1 of 1 can be used$"):
        reconstruct(make_frames(1), small_network)
    black = [replace(frame, image=np.zeros_like(frame.image)) for frame in make_frames(7)]
    why = "only 0 of 7 can be used (000.png: the image is black; 001.png: the image is black; "
    with pytest.raises(InputError, match=re.escape(why)):
        reconstruct(black, small_network)


def test_too_little_memory_is_refused_with_figures(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    frames = make_frames(4)
    reconstruct(frames, small_network, ReconstructionSettings(memory_limit_bytes=10**9))
    why = (
        r"mapping 4 frames of 70x56 pixels needs about \d+\.\d\d GB of memory on cpu, 0\.00 GB are"
        r" available; "
        r"use fewer frames, or use a network with smaller images"
    )
    with pytest.raises(InputError, match=why):
        reconstruct(frames, small_network, ReconstructionSettings(memory_limit_bytes=10**6))
    with pytest.raises(InputError, match="use a smaller chunk and fewer frames"):
        settings = ReconstructionSettings(chunk=4, memory_limit_bytes=10**6)
        reconstruct(frames, small_network, settings)
    room_for_40 = small_network.map_bytes(40, 56, 70, 1, "stream", pointmap=False)
    settings = ReconstructionSettings(chunk=1, memory_limit_bytes=room_for_40)
    with pytest.raises(InputError, match="give at most 40 frames"):
        reconstruct(make_frames(44), small_network, settings)
    free = available_bytes(torch.device("cpu"))
    assert free is not None and 10**7 < free < 10**14


@pytest.mark.parametrize(("fits", "chosen"), [(8, 8), (7, 4), (3, 2), (1, 1)])
def test_as_many_frames_pass_together_as_memory_permits(
    small_network: Vggt3, fits: int, chosen: int
) -> None:
    limit = small_network.map_bytes(20, 56, 70, chunk=fits)
    assert fit_map(small_network, 20, (56, 70), limit_bytes=limit) == (chosen, "all")
    assert fit_map(small_network, 20, (56, 70), 1, limit) == (1, "all")
    assert fit_map(small_network, 20, (56, 70), 3) == (3, "all")


def test_frames_pass_once_more_where_memory_is_short(small_network: Vggt3) -> None:
    limit = small_network.map_bytes(200, 56, 70, 1) - 1
    assert fit_map(small_network, 200, (56, 70), limit_bytes=limit)[1] == "stream"
    softmax = make_network("softmax")
    limit = softmax.map_bytes(200, 56, 70, 1) - 1
    with pytest.raises(InputError, match="give at most 199 frames"):
        fit_map(softmax, 200, (56, 70), limit_bytes=limit)


def test_a_gpu_leaves_what_it_keeps_in_the_hosts_memory_where_its_own_is_short(
    small_network: Vggt3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vggt3, "device", torch.device("cuda"))
    limit = small_network.map_bytes(200, 56, 70, 32, "all")
    assert fit_map(small_network, 200, (56, 70), limit_bytes=limit) == (32, "all")
    assert fit_map(small_network, 200, (56, 70), limit_bytes=limit - 1).resident == "none"
    too_little = small_network.map_bytes(200, 56, 70, 1, "none") - 1
    with pytest.raises(InputError, match="available; use a network with smaller images or a mach"):
        fit_map(small_network, 200, (56, 70), limit_bytes=too_little)
    monkeypatch.setattr(memory_check, "available_bytes", lambda device: 10**6)
    with pytest.raises(InputError, match=r"left in the host's memory, of which 0\.00 GB"):
        fit_map(small_network, 200, (56, 70), limit_bytes=limit - 1)


def test_the_chosen_chunk_is_that_of_the_network(
    small_network: Vggt3, make_frames: MakeFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = []
    mapping = small_network.map

    def counting(images, steps, chunk, *others, **named):
        chunks.append(chunk)
        return mapping(images, steps, chunk, *others, **named)

    monkeypatch.setattr(small_network, "map", counting)
    limit = small_network.map_bytes(4, 56, 70, chunk=2, pointmap=False)
    reconstruct(make_frames(4), small_network, ReconstructionSettings(memory_limit_bytes=limit))
    reconstruct(make_frames(4), small_network, ReconstructionSettings(chunk=3))
    assert chunks == [2, 3]


def test_progress_rises_from_0_to_1_through_all_stages(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    told: list[tuple[str, float]] = []
    reconstruct(
        make_frames(3), small_network, progress=lambda stage, share: told.append((stage, share))
    )
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == pytest.approx(1)
    network = {"backbone", "frame blocks", "global blocks", "heads"}
    assert {"prepare", *network, "features", "matches", "points"} <= {stage for stage, _ in told}


@pytest.mark.parametrize("stage", ["prepare", "backbone", "global blocks", "heads", "points"])
def test_cancelling_at_any_stage_stops_at_once_and_leaves_the_network_as_it_was(
    small_network: Vggt3, make_frames: MakeFrames, stage: str
) -> None:
    class Cancelled(Exception):
        pass

    def cancel(now: str, _: float) -> None:
        if now == stage:
            raise Cancelled

    before = reconstruct(make_frames(2), small_network).scene
    with pytest.raises(Cancelled):
        reconstruct(make_frames(3), small_network, progress=cancel)
    after = reconstruct(make_frames(2), small_network).scene
    assert all(torch.equal(before.memory[name], after.memory[name]) for name in before.memory)


def test_chunk_size_does_not_change_the_scene(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    one, all_at_once = (
        reconstruct(make_frames(5), small_network, ReconstructionSettings(chunk=chunk)).scene
        for chunk in (1, 8)
    )
    torch.testing.assert_close(
        one.keyframes.cam_from_world, all_at_once.keyframes.cam_from_world, rtol=1e-4, atol=1e-4
    )


def test_a_network_without_point_head_refuses_points_of_it(
    softmax_network: Vggt3, make_frames: MakeFrames
) -> None:
    head, softmax_network.point_head = softmax_network.point_head, None
    try:
        settings = ReconstructionSettings(points=PointSettings(source="pointmap"))
        with pytest.raises(InputError, match="this network has none; choose 'depth'"):
            reconstruct(make_frames(2), softmax_network, settings)
    finally:
        softmax_network.point_head = head


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: ReconstructionSettings(steps=0), "steps is 0; expected at least 1"),
        (lambda: ReconstructionSettings(chunk=0), "chunk is 0; expected at least 1"),
        (
            lambda: PointSettings(confidence_quantile=1.0),
            "confidence_quantile is 1.0; expected 0 up to below 1",
        ),
        (lambda: PointSettings(voxel_size=0.0), "voxel_size is 0.0; expected more than 0"),
        (lambda: PointSettings(max_points=0), "max_points is 0; expected at least 1"),
        (lambda: PointSettings(source="mesh"), "the source of points is 'mesh'"),  # type: ignore[arg-type]
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        make()
