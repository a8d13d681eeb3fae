"""The nodes' parameters: name, default, range and meaning of each, in one place.

The nodes declare them from here, the tables of the documentation are made from here, and a test holds config/ to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Value = bool | int | float | str | tuple[float, ...]
Form = Literal["", "frame", "frame or none", "pose", "bits"]


@dataclass(frozen=True)
class Parameter:
    """One parameter. Numbers lie within low and high, both included; strings are one of choices, if there are any.

    form: what strings and numbers stand for: a TF frame, which may be empty or not, the pose of one in another, or a
    number of bits.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    form: Form = ""

    @property
    def kind(self) -> str:
        """Its type in words."""
        return {bool: "bool", int: "integer", float: "number", str: "string", tuple: "numbers"}[type(self.default)]

    @property
    def allowed(self) -> str:
        """What values it takes, in words."""
        if self.choices:
            return ", ".join(repr(choice) for choice in self.choices)
        return f"{self.kind} from {self.low:g} to {self.high:g}" if self.low is not None else self.kind

    @property
    def is_live(self) -> bool:
        """Whether it can be changed while the node runs."""
        return self.name in _LIVE

    @property
    def meaning(self) -> str:
        """Its description, and whether it can be changed while the node runs."""
        return f"{self.description} (live)" if self.is_live else self.description


# What can be changed while a node runs; of the mapper, much of it counts from the next reconstruction on.
_LIVE = frozenset(
    ("require_calibration", "transform_timeout", "depth_slop")
    + ("keep_scenes", "min_frames", "trigger_count", "trigger_idle")
    + ("ttt_steps", "chunk", "landmarks", "prior_poses", "camera_height", "dense", "dense_seconds")
    + ("max_points",)
    + ("max_rate", "confirmations", "joint_images", "lost_after", "publish_unverified", "transform_tolerance")
    + ("unmetric_tf",)
    + ("publish_images", "cover_lens")
)

_DEVICE = (
    Parameter("autostart", False, "configure and activate at start, without a lifecycle manager"),
    Parameter("model", "tiny", "network: 'tiny' (embedded), a file or folder of weights, or a Hugging Face name"),
    Parameter("device", "auto", "device of the network: 'auto' (a GPU where there is one), 'cpu', 'cuda' or 'cuda:N'"),
    Parameter("precision", "fp32", "number format of the network; bf16 is for GPUs", choices=("fp32", "bf16")),
)
_CAMERA = (
    Parameter("image_transport", "raw", "subscribe to image or to image/compressed", choices=("raw", "compressed")),
    Parameter(
        "image_qos", "sensor_data", "quality of service of the image topics; sensor_data is best effort and matches "
        "every publisher", choices=("sensor_data", "reliable"),
    ),
    Parameter(
        "bit_depth", 0, "bits of images that have more than 8, which say what white is: 8 to 16; 0: the highest bit "
        "seen since the node was activated", 0, 16, form="bits",
    ),
    Parameter(
        "require_calibration", True, "leave out images until camera_info has come; otherwise the network guesses the "
        "intrinsics of those that have none",
    ),
    Parameter(
        "rectified", False, "the images are rectified (image_proc): P of camera_info counts, K and D do not",
    ),
    Parameter(
        "camera_frame", "", "optical frame of the camera; empty: the frame_id of the images", form="frame or none"
    ),
    Parameter("map_frame", "map", "frame of maps and poses (REP-105)", form="frame"),
    Parameter("odom_frame", "odom", "frame of the odometry (REP-105)", form="frame"),
    Parameter(
        "base_frame", "base_link", "frame of the robot; empty: there is none but the camera's optical frame",
        form="frame or none",
    ),
    Parameter(
        "base_from_camera", (), "where the camera's optical frame is on the robot: x y z (m) and quaternion x y z w; "
        "empty: TF tells", form="pose",
    ),
    Parameter(
        "odometry_source", "tf", "where poses of the camera in odom_frame come from: TF, the topic odom, or nowhere",
        choices=("tf", "topic", "none"),
    ),
    Parameter("transform_timeout", 0.2, "seconds to wait for the odometry of an image's stamp", 0.0, 5.0),
    Parameter("clock_jump", 2.0, "seconds that stamps may run backwards; beyond it the clock was reset", 0.01, 3600.0),
    Parameter("status_rate", 2.0, "status messages per second at least", 0.1, 50.0),
)  # fmt: skip

MAPPER = (
    *_DEVICE,
    *_CAMERA,
    Parameter(
        "scene_dir", "", "folder that scenes are saved in, each in a folder of its own; empty: ~/.ros/NAMESPACE/scenes"
    ),
    Parameter("keep_scenes", 20, "scenes of this mapper kept in scene_dir; beyond it its oldest go", 1, 100000),
    Parameter("queue_size", 10, "images that may wait to be looked at; beyond it the oldest is dropped", 1, 1000),
    Parameter("use_depth", False, "use depth images (topic depth, registered to the image) for the scale of the map"),
    Parameter("depth_slop", 0.02, "seconds between the stamps of an image and its depth image", 0.0, 1.0),
    Parameter("min_frames", 8, "keyframes that a collection needs before it is reconstructed", 2, 10000),
    Parameter("max_frames", 200, "keyframes of a collection; beyond it the collection is thinned", 2, 10000),
    Parameter("min_translation", 0.1, "metres between keyframes with odometry", 0.001, 100.0),
    Parameter("min_rotation", 0.1, "radians between keyframes with odometry, if they are nearer than that", 0.001, 3.2),
    Parameter("min_image_change", 0.03, "change of pixels, 0 to 1, between keyframes without odometry", 0.002, 1.0),
    Parameter("trigger_count", 0, "reconstruct when the collection has this many keyframes; 0: never", 0, 10000),
    Parameter(
        "trigger_idle", 5.0, "reconstruct when nothing new was seen for this many seconds of images, as long as there "
        "is no scene yet; 0: never", 0.0, 3600.0,
    ),
    Parameter("ttt_steps", 2, "test-time-training steps", 1, 100),
    Parameter("chunk", 8, "frames that pass the network together; more is faster and takes more memory", 1, 1000),
    Parameter("landmarks", True, "build landmarks, which poses are verified and refined with"),
    Parameter(
        "prior_poses", "auto", "poses of keyframes by odometry stay as they are, are adjusted to the images, or what "
        "predicts them better", choices=("auto", "hold", "adjust"),
    ),
    Parameter("camera_height", 0.0, "metres from the floor to the camera, for the scale; 0: unknown", 0.0, 1000.0),
    Parameter(
        "dense", "fast", "refine the depth of verified maps by what keyframes see of each other: matched at 160 (fast) "
        "or 320 pixels, or not at all", choices=("off", "fast", "fine"),
    ),
    Parameter(
        "dense_seconds", 0.0, "seconds a keyframe that this may take: otherwise fine becomes fast, and fast is left; "
        "0: any time", 0.0, 1000.0,
    ),
    Parameter("max_points", 500000, "points of the published and stored cloud at most", 1, 100000000),
)  # fmt: skip

LOCALIZER = (
    *_DEVICE,
    *_CAMERA,
    Parameter("scene_dir", "", "scene to localize in, or a folder of scenes, of which the newest; empty: the mapper's"),
    Parameter("follow_mapper", True, "take over every new scene of the mapper"),
    Parameter(
        "refine", "refine", "poses are found and refined by landmarks, only verified by them, or left unverified",
        choices=("refine", "verify", "none"),
    ),
    Parameter(
        "refine_depth", False, "publish localizer/depth: depth of images whose pose is published, from what keyframes "
        "know of the place, as far as its scene has depth and metres",
    ),
    Parameter("max_rate", 0.0, "attempts per second at most, to spare the processor; 0: as many as it can", 0.0, 1e3),
    Parameter("confirmations", 2, "verified poses in a row that must agree before the first is published", 1, 100),
    Parameter(
        "joint_images", 1, "images of a moving robot that are asked together, by the odometry between them, where the "
        "newest shows too little by itself; 1: never", 1, 10,
    ),
    Parameter("lost_after", 2.0, "seconds without an agreeing pose until the robot is lost", 0.05, 3600.0),
    Parameter("odom_drift", 0.05, "metres that odometry drifts per metre (standard deviation)", 0.0, 1.0),
    Parameter("publish_unverified", False, "publish poses that nothing verifies, with a huge covariance"),
    Parameter(
        "tf_mode", "map_to_odom", "transform to publish; map_to_camera needs a camera without a parent in TF",
        choices=("map_to_odom", "map_to_camera", "none"),
    ),
    Parameter("transform_tolerance", 0.5, "seconds that map -> odom is dated into the future", 0.0, 10.0),
    Parameter("unmetric_tf", False, "publish map -> camera in scenes without a scale as well; map -> odom never"),
)  # fmt: skip


def markdown_table(parameters: Sequence[Parameter]) -> str:
    """The parameters as a table for the documentation."""
    rows = ["| parameter | default | values | meaning |", "|---|---|---|---|"]
    for parameter in parameters:
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        shown = str(default).lower() if isinstance(default, bool) else repr(default)
        rows.append(f"| `{parameter.name}` | `{shown}` | {parameter.allowed} | {parameter.meaning} |")
    return "\n".join(rows) + "\n"
