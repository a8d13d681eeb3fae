"""What is stored of a reconstruction."""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import SceneMemory
from vggt3_ros.pipeline.dense import RefinedDepth
from vggt3_ros.pipeline.map_frame import Anchoring
from vggt3_ros.pipeline.observed import Observed
from vggt3_ros.pipeline.preprocess import PreparedFrames
from vggt3_ros.pipeline.usable_frames import frame_name
from vggt3_ros.scene.bounds import bounds_of
from vggt3_ros.scene.descent import Loop
from vggt3_ros.scene.scene import Keyframes, Scene


def scene_of_map(
    observed: Observed,
    memory: SceneMemory,
    network: Vggt3,
    steps: int,
    anchoring: Anchoring,
    points: PointCloud,
    refined: RefinedDepth | None,
    keep_images: bool,
) -> Scene:
    """The scene of observed frames: the memory that `network` made of them in `steps` TTT steps,
    the map's frame and landmarks, its points, and the depth they are of, if it was refined.

    keep_images: whether it keeps the images that all of this was made of.
    """
    keyframes = Keyframes(
        names=tuple(frame_name(i, frame) for i, frame in enumerate(observed.frames)),
        stamps_ns=tuple(frame.stamp_ns for frame in observed.frames),
        cam_from_world=observed.prediction.cameras.cam_from_world,
        intrinsics=observed.intrinsics,
    )
    return Scene(
        memory=memory.to("cpu").tensors(),
        keyframes=keyframes,
        points=points,
        bounds=bounds_of(points, anchoring.map_from_scene.poses(observed.scene_from_cam)),
        model_id=network.model_id,
        model_fingerprint=network.fingerprint(),
        input_size=observed.prepared.size_hw,
        ttt_steps=steps if network.config.has_fast_weights else 0,
        map_from_scene=anchoring.map_from_scene,
        is_metric=anchoring.is_metric,
        metric_source=anchoring.metric_source,
        metric_residual_m=anchoring.metric_residual_m,
        up_source=anchoring.up_source,
        landmarks={} if anchoring.landmarks is None else anchoring.landmarks.tensors(),
        verdict=anchoring.verdict,
        calibration=anchoring.calibration,
        report={
            **anchoring.report,
            **({} if refined is None else {"depth": refined.report()}),
        },
        depth=None if refined is None else refined.stored(keep_images),
        images=_stored_images(observed.prepared) if keep_images else None,
        has_refined_points=refined is not None,
        loops=loops_of(anchoring),
    )


def loops_of(anchoring: Anchoring) -> tuple[Loop, ...]:
    """The loops that odometry was corrected by."""
    pairs = anchoring.report.get("loops", {}).get("pairs", [])
    return tuple(Loop(*pair["keyframes"]) for pair in pairs)


def _stored_images(prepared: PreparedFrames) -> Tensor:
    """Images (S, 3, H, W) uint8 as the network saw them: they come from bytes, and nothing is
    lost.
    """
    return (255 * prepared.images).round().to(torch.uint8).cpu()
