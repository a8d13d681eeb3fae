"""The parameters of the mapper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vggt3_ros.nodes.camera.parameters import CameraParameters
from vggt3_ros.nodes.runtime.parameters import parameter


@dataclass(frozen=True)
class MapperParameters(CameraParameters):
    """Those of the mapper."""

    scene_dir: str = parameter(
        "",
        "folder that scenes are saved in, each in a folder of its own; empty:"
        " ~/.ros/NAMESPACE/scenes",
    )
    keep_scenes: int = parameter(
        20, "scenes of this mapper kept in scene_dir; beyond it its oldest go", 1, 100000, live=True
    )
    queue_size: int = parameter(
        10, "images that may wait to be looked at; beyond it the oldest is dropped", 1, 1000
    )
    use_depth: bool = parameter(
        False, "use depth images (topic depth, registered to the image) for the scale of the map"
    )
    depth_slop: float = parameter(
        0.02, "seconds between the stamps of an image and its depth image", 0.0, 1.0, live=True
    )
    min_frames: int = parameter(
        8, "keyframes that a collection needs before it is reconstructed", 2, 10000, live=True
    )
    max_frames: int = parameter(
        200, "keyframes of a collection; beyond it the collection is thinned", 2, 10000
    )
    min_translation: float = parameter(0.1, "metres between keyframes with odometry", 0.001, 100.0)
    min_rotation: float = parameter(
        0.1, "radians between keyframes with odometry, if they are nearer than that", 0.001, 3.2
    )
    min_image_change: float = parameter(
        0.03, "change of pixels, 0 to 1, between keyframes without odometry", 0.002, 1.0
    )
    trigger_count: int = parameter(
        0, "reconstruct when the collection has this many keyframes; 0: never", 0, 10000, live=True
    )
    trigger_idle: float = parameter(
        5.0,
        "reconstruct when nothing new was seen for this many seconds of images, as long as there is"
        " no scene yet; 0: never",
        0.0,
        3600.0,
        live=True,
    )
    extend: bool = parameter(
        True,
        "later collections extend the newest scene where its landmarks show at least three of their"
        " frames; otherwise, or where this is off, they become scenes of their own",
        live=True,
    )
    ttt_steps: int = parameter(2, "test-time-training steps", 1, 100, live=True)
    chunk: int = parameter(
        0,
        "frames that pass the network together; 0: as many as memory permits, up to 8 on a CPU and"
        " 32 on a GPU",
        0,
        1000,
        live=True,
    )
    anchors: int = parameter(
        0,
        "frames that layers of kind anchored attend to, and a scene keeps; 0: as many as the"
        " network was trained with",
        0,
        1000,
        live=True,
    )
    redundant_views: Literal["query", "fit"] = parameter(
        "query",
        "keyframes that show nothing new are localized in the map of the others, which is faster,"
        " or mapped with them",
        live=True,
    )
    map_budget_s: float = parameter(
        0.0,
        "seconds that a reconstruction may take: frames, TTT steps, anchors, the size of the"
        " network's images and refined depth are chosen by what they cost on this machine; 0: any",
        0.0,
        86400.0,
        live=True,
    )
    map_budget_gb: float = parameter(
        0.0,
        "gigabytes of the network's device that a reconstruction may take; 0: what there is",
        0.0,
        10000.0,
        live=True,
    )
    landmarks: bool = parameter(
        True, "build landmarks, which poses are verified and refined with", live=True
    )
    prior_poses: Literal["auto", "hold", "adjust"] = parameter(
        "auto",
        "poses of keyframes by odometry stay as they are, are adjusted to the images, or what"
        " predicts them better",
        live=True,
    )
    drift_percent: float = parameter(
        0.0,
        "percent of the way that odometry goes astray by: where this or drift_deg_per_m is above 0,"
        " loops that the images show correct it; 0: none",
        0.0,
        50.0,
        live=True,
    )
    drift_deg_per_m: float = parameter(
        0.0,
        "degrees per metre that odometry turns too far or too little; 0: none",
        0.0,
        45.0,
        live=True,
    )
    camera_height: float = parameter(
        0.0,
        "metres from the floor to the camera, for the scale; 0: unknown",
        0.0,
        1000.0,
        live=True,
    )
    dense: Literal["off", "fast", "fine"] = parameter(
        "fast",
        "refine the depth of verified maps by what keyframes see of each other: matched at 224"
        " (fast) or 320 pixels, or not at all",
        live=True,
    )
    dense_seconds: float = parameter(
        0.0,
        "seconds a keyframe that this may take: otherwise fine becomes fast, and fast is left; 0:"
        " any time",
        0.0,
        1000.0,
        live=True,
    )
    keep_images: bool = parameter(
        False,
        "keep the images of keyframes in scenes, which the localizer's propose 'local' and 'both'"
        " need, and beside refined depth for the colours of a mesh",
        live=True,
    )
    max_points: int = parameter(
        500000, "points of the published and stored cloud at most", 1, 100000000, live=True
    )
    grid: bool = parameter(
        True,
        "publish an occupancy grid (topic grid) of every new scene that is metric and has refined"
        " depth",
        live=True,
    )
    grid_resolution: float = parameter(
        0.05, "metres, side of a cell of the grid", 0.01, 10.0, live=True
    )
    grid_low: float = parameter(
        0.1,
        "metres above the floor from which things are in the robot's way",
        0.01,
        100.0,
        live=True,
    )
    grid_high: float = parameter(
        1.5,
        "metres above the floor up to which things are in the robot's way",
        0.02,
        100.0,
        live=True,
    )
    grid_reach: float = parameter(
        5.0, "metres from its camera up to which depth tells of the grid", 0.1, 1000.0, live=True
    )

    def contradictions(self) -> list[str]:
        """As of any camera, and numbers of keyframes that a collection never has."""
        wrong = super().contradictions()
        least = self.min_frames
        most = self.max_frames
        count = self.trigger_count
        if least > most:
            wrong.append(f"min_frames is {least}, more than max_frames {most}; lower it")
        if 0 < count < least:
            wrong.append(
                f"trigger_count is {count}, less than min_frames {least}; raise it, or turn it off"
                " with 0"
            )
        drifts = self.drift_percent > 0 or self.drift_deg_per_m > 0
        if drifts and (not self.landmarks or self.prior_poses == "hold"):
            wrong.append(
                "odometry that drifts (drift_percent, drift_deg_per_m) is corrected by landmarks:"
                " landmarks must be true and prior_poses not 'hold'; set both drifts to 0, or these"
            )
        if self.grid_high < self.grid_low + self.grid_resolution:
            wrong.append(
                f"grid_high is {self.grid_high:g}, not a cell ({self.grid_resolution:g}) above"
                f" grid_low {self.grid_low:g}; raise it"
            )
        if count > most:
            never = f"more than max_frames {most}, which a collection never has"
            wrong.append(f"trigger_count is {count}, {never}; lower it")
        return wrong
