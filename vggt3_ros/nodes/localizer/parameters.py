"""The parameters of the localizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vggt3_ros.nodes.camera.parameters import CameraParameters
from vggt3_ros.nodes.runtime.parameters import parameter
from vggt3_ros.pipeline.localizer_settings import NEIGHBOURS


@dataclass(frozen=True)
class LocalizerParameters(CameraParameters):
    """Those of the localizer."""

    scene_dir: str = parameter(
        "", "scene to localize in, or a folder of scenes, of which the newest; empty: the mapper's"
    )
    follow_mapper: bool = parameter(True, "take over every new scene of the mapper")
    refine: Literal["refine", "verify", "none"] = parameter(
        "refine",
        "poses are found and refined by landmarks, only verified by them, or left unverified",
    )
    propose: Literal["memory", "local", "both"] = parameter(
        "memory",
        "what the network's pose is made of: the memory of the scene; the keyframes most like"
        " the image, which needs a scene of the mapper's keep_images; or these where landmarks have"
        " not confirmed a pose without",
    )
    neighbours: int = parameter(
        NEIGHBOURS,
        "keyframes that pass the network together with an image where propose is local or both",
        2,
        16,
    )
    refine_depth: bool = parameter(
        False,
        "publish localizer/depth: depth of images whose pose is published, from what keyframes know"
        " of the place, as far as its scene has depth and metres",
    )
    learn_changes: bool = parameter(
        False,
        "keep a log of what published poses see of the scene, beside its folder; what has gone from"
        " the place is left out of a successor of the scene, which is written there and taken over",
    )
    max_rate: float = parameter(
        0.0,
        "attempts per second at most, to spare the processor; 0: as many as it can",
        0.0,
        1e3,
        live=True,
    )
    confirmations: int = parameter(
        2,
        "verified poses in a row that must agree before the first is published",
        1,
        100,
        live=True,
    )
    joint_images: int = parameter(
        1,
        "images of a moving robot that are asked together, by the odometry between them, where the"
        " newest shows too little by itself; 1: never",
        1,
        10,
        live=True,
    )
    lost_after: float = parameter(
        2.0, "seconds without an agreeing pose until the robot is lost", 0.05, 3600.0, live=True
    )
    relocalize_timeout: float = parameter(
        10.0,
        "real seconds after which relocalize_and_wait answers that the robot was not found",
        0.1,
        3600.0,
        live=True,
    )
    odom_drift: float = parameter(
        0.05, "metres that odometry drifts per metre (standard deviation)", 0.0, 1.0
    )
    publish_unverified: bool = parameter(
        False,
        "publish poses that nothing verifies, also where landmarks refuse, with a huge covariance",
        live=True,
    )
    tf_mode: Literal["map_to_odom", "map_to_camera", "none"] = parameter(
        "map_to_odom", "transform to publish; map_to_camera needs a camera without a parent in TF"
    )
    transform_tolerance: float = parameter(
        0.5, "seconds that map -> odom is dated into the future", 0.0, 10.0, live=True
    )
    unmetric_tf: bool = parameter(
        False,
        "publish map -> camera in scenes without a scale as well; map -> odom never",
        live=True,
    )

    def contradictions(self) -> list[str]:
        """As of any camera, and a robot that would be lost between two attempts."""
        wrong = super().contradictions()
        rate = self.max_rate
        patience = self.lost_after
        if rate and rate * patience <= 1:
            wrong.append(
                f"max_rate is {rate:g}, one attempt in {1 / rate:g} s, and lost_after {patience:g}"
                " s, so that the robot would be lost between any two; raise one of them"
            )
        return wrong
