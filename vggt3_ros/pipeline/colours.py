"""How much the images of a map differ from its coloured points."""

from __future__ import annotations

from dataclasses import replace

from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.landmarks.appearance import Appearance, usual_difference
from vggt3_ros.landmarks.picture import Picture
from vggt3_ros.landmarks.tensors import to_array
from vggt3_ros.pipeline.map_frame import Anchoring
from vggt3_ros.pipeline.observed import Observed


def compared_with_points(observed: Observed, anchoring: Anchoring, points: PointCloud) -> Anchoring:
    """A map with what its keyframes' images usually differ from its points, in its calibration."""
    if anchoring.landmarks is None or anchoring.calibration is None:
        return anchoring
    intrinsics = to_array(observed.source_intrinsics)
    pictures = [
        Picture.of(frame.image, own, frame.distortion)
        for frame, own in zip(observed.frames, intrinsics, strict=True)
    ]
    usual = usual_difference(
        Appearance(to_array(points.points.double()), to_array(points.colors)),
        anchoring.landmarks,
        pictures,
    )
    return replace(anchoring, calibration=replace(anchoring.calibration, colour_difference=usual))
