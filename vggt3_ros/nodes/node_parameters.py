"""The parameters of the mapper and of the localizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vggt3_ros.nodes.frames import frames_in_conflict
from vggt3_ros.nodes.parameters import NodeParameters, parameter


@dataclass(frozen=True)
class NetworkParameters(NodeParameters):
    """What both nodes have to know about their network."""

    autostart: bool = parameter(False, "configure and activate at start, without a lifecycle manager")
    model: str = parameter("tiny", "network: 'tiny' (embedded), a file or folder of weights, or a Hugging Face name")
    device: str = parameter(
        "auto", "device of the network: 'auto' (a GPU where there is one), 'cpu', 'cuda' or 'cuda:N'"
    )
    precision: Literal["fp32", "bf16"] = parameter("fp32", "number format of the network; bf16 is for GPUs")


@dataclass(frozen=True)
class CameraParameters(NetworkParameters):
    """What both nodes have to know about the camera, and about what tells where it is."""

    image_transport: Literal["raw", "compressed"] = parameter("raw", "subscribe to image or to image/compressed")
    image_qos: Literal["sensor_data", "reliable"] = parameter(
        "sensor_data",
        "quality of service of the image topics; sensor_data is best effort and matches every publisher",
    )
    bit_depth: int = parameter(
        0,
        "bits of images that have more than 8, which say what white is: 8 to 16; 0: the highest bit seen since the "
        "node was activated",
        0,
        16,
        form="bits",
    )
    require_calibration: bool = parameter(
        True,
        "leave out images until camera_info has come; otherwise the network guesses the intrinsics of those that have "
        "none",
        live=True,
    )
    rectified: bool = parameter(False, "the images are rectified (image_proc): P of camera_info counts, K and D do not")
    camera_frame: str = parameter(
        "", "optical frame of the camera; empty: the frame_id of the images", form="frame or none"
    )
    map_frame: str = parameter("map", "frame of maps and poses (REP-105)", form="frame")
    odom_frame: str = parameter("odom", "frame of the odometry (REP-105)", form="frame")
    base_frame: str = parameter(
        "base_link",
        "frame of the robot; empty: there is none but the camera's optical frame",
        form="frame or none",
    )
    base_from_camera: tuple[float, ...] = parameter(
        (),
        "where the camera's optical frame is on the robot: x y z (m) and quaternion x y z w; empty: TF tells",
        form="pose",
    )
    odometry_source: Literal["tf", "topic", "none"] = parameter(
        "tf", "where poses of the camera in odom_frame come from: TF, the topic odom, or nowhere"
    )
    transform_timeout: float = parameter(
        0.2, "seconds to wait for the odometry of an image's stamp", 0.0, 5.0, live=True
    )
    clock_jump: float = parameter(
        2.0, "seconds that stamps may run backwards; beyond it the clock was reset", 0.01, 3600.0
    )
    status_rate: float = parameter(2.0, "status messages per second at least", 0.1, 50.0)

    def contradictions(self) -> list[str]:
        """Frames that must differ; a mount on no robot."""
        wrong = frames_in_conflict(vars(self))
        if self.base_from_camera and not self.base_frame:
            wrong.append("base_from_camera is given, but base_frame is empty; name the robot's frame")
        return wrong


@dataclass(frozen=True)
class MapperParameters(CameraParameters):
    """Those of the mapper."""

    scene_dir: str = parameter(
        "", "folder that scenes are saved in, each in a folder of its own; empty: ~/.ros/NAMESPACE/scenes"
    )
    keep_scenes: int = parameter(
        20, "scenes of this mapper kept in scene_dir; beyond it its oldest go", 1, 100000, live=True
    )
    queue_size: int = parameter(10, "images that may wait to be looked at; beyond it the oldest is dropped", 1, 1000)
    use_depth: bool = parameter(
        False, "use depth images (topic depth, registered to the image) for the scale of the map"
    )
    depth_slop: float = parameter(
        0.02, "seconds between the stamps of an image and its depth image", 0.0, 1.0, live=True
    )
    min_frames: int = parameter(8, "keyframes that a collection needs before it is reconstructed", 2, 10000, live=True)
    max_frames: int = parameter(200, "keyframes of a collection; beyond it the collection is thinned", 2, 10000)
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
        "reconstruct when nothing new was seen for this many seconds of images, as long as there is no scene yet; 0: "
        "never",
        0.0,
        3600.0,
        live=True,
    )
    ttt_steps: int = parameter(2, "test-time-training steps", 1, 100, live=True)
    chunk: int = parameter(
        8, "frames that pass the network together; more is faster and takes more memory", 1, 1000, live=True
    )
    landmarks: bool = parameter(True, "build landmarks, which poses are verified and refined with", live=True)
    prior_poses: Literal["auto", "hold", "adjust"] = parameter(
        "auto",
        "poses of keyframes by odometry stay as they are, are adjusted to the images, or what predicts them better",
        live=True,
    )
    camera_height: float = parameter(
        0.0, "metres from the floor to the camera, for the scale; 0: unknown", 0.0, 1000.0, live=True
    )
    dense: Literal["off", "fast", "fine"] = parameter(
        "fast",
        "refine the depth of verified maps by what keyframes see of each other: matched at 160 (fast) or 320 pixels, "
        "or not at all",
        live=True,
    )
    dense_seconds: float = parameter(
        0.0,
        "seconds a keyframe that this may take: otherwise fine becomes fast, and fast is left; 0: any time",
        0.0,
        1000.0,
        live=True,
    )
    max_points: int = parameter(500000, "points of the published and stored cloud at most", 1, 100000000, live=True)

    def contradictions(self) -> list[str]:
        """As of any camera, and numbers of keyframes that a collection never has."""
        wrong, least, most, count = super().contradictions(), self.min_frames, self.max_frames, self.trigger_count
        if least > most:
            wrong.append(f"min_frames is {least}, more than max_frames {most}; lower it")
        if 0 < count < least:
            wrong.append(f"trigger_count is {count}, less than min_frames {least}; raise it, or turn it off with 0")
        if count > most:
            never = f"more than max_frames {most}, which a collection never has"
            wrong.append(f"trigger_count is {count}, {never}; lower it")
        return wrong


@dataclass(frozen=True)
class LocalizerParameters(CameraParameters):
    """Those of the localizer."""

    scene_dir: str = parameter(
        "", "scene to localize in, or a folder of scenes, of which the newest; empty: the mapper's"
    )
    follow_mapper: bool = parameter(True, "take over every new scene of the mapper")
    refine: Literal["refine", "verify", "none"] = parameter(
        "refine", "poses are found and refined by landmarks, only verified by them, or left unverified"
    )
    refine_depth: bool = parameter(
        False,
        "publish localizer/depth: depth of images whose pose is published, from what keyframes know of the place, as "
        "far as its scene has depth and metres",
    )
    max_rate: float = parameter(
        0.0, "attempts per second at most, to spare the processor; 0: as many as it can", 0.0, 1e3, live=True
    )
    confirmations: int = parameter(
        2, "verified poses in a row that must agree before the first is published", 1, 100, live=True
    )
    joint_images: int = parameter(
        1,
        "images of a moving robot that are asked together, by the odometry between them, where the newest shows too "
        "little by itself; 1: never",
        1,
        10,
        live=True,
    )
    lost_after: float = parameter(
        2.0, "seconds without an agreeing pose until the robot is lost", 0.05, 3600.0, live=True
    )
    odom_drift: float = parameter(0.05, "metres that odometry drifts per metre (standard deviation)", 0.0, 1.0)
    publish_unverified: bool = parameter(
        False, "publish poses that nothing verifies, with a huge covariance", live=True
    )
    tf_mode: Literal["map_to_odom", "map_to_camera", "none"] = parameter(
        "map_to_odom", "transform to publish; map_to_camera needs a camera without a parent in TF"
    )
    transform_tolerance: float = parameter(
        0.5, "seconds that map -> odom is dated into the future", 0.0, 10.0, live=True
    )
    unmetric_tf: bool = parameter(
        False, "publish map -> camera in scenes without a scale as well; map -> odom never", live=True
    )

    def contradictions(self) -> list[str]:
        """As of any camera, and a robot that would be lost between two attempts."""
        wrong, rate, patience = super().contradictions(), self.max_rate, self.lost_after
        if rate and rate * patience <= 1:
            wrong.append(
                f"max_rate is {rate:g}, one attempt in {1 / rate:g} s, and lost_after {patience:g} s, so that the "
                "robot would be lost between any two; raise one of them"
            )
        return wrong
