"""What was seen of a scene's landmarks since it was made: a log of verified poses, in one file.

The file is safetensors with a few words about it (`format`, `version`, `scene_id`, `landmarks`,
`usual_distance`, and `sha256` over the tensors): poses (V, 4, 4) float64 of V views; counts (V,)
int64 of the landmarks that each should show; and of all of them, one after the other, landmark
int32, likelihood float32 and found uint8. It holds no images. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from vggt3_ros.errors import InputError
from vggt3_ros.files import atomic_path
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.landmarks.sighting import Sighting
from vggt3_ros.scene.scene import Scene

_FORMAT = "vggt3_ros scene log"
_VERSION = "1"
MAX_VIEWS = 500  # of a log; beyond it the oldest go. A view takes about 10 kB
_SHAPES = {
    "poses": (np.float64, 3),
    "counts": (np.int64, 1),
    "landmark": (np.int32, 1),
    "likelihood": (np.float32, 1),
    "found": (np.uint8, 1),
}


class SceneLog:
    """Views of one scene in the order in which they were taken, at most 500; how many landmarks it
    has, and from how far its keyframes see them, in the unit of its map (Landmarks.usual_distance).
    """

    def __init__(self, scene_id: str, landmarks: int, usual_distance: float) -> None:
        self.scene_id = scene_id
        self.landmarks = landmarks
        self.usual_distance = usual_distance
        self.views: list[Sighting] = []

    @staticmethod
    def of(scene: Scene) -> SceneLog:
        """An empty log of a scene. Raises InputError where it has no landmarks."""
        landmarks = Landmarks.from_tensors(scene.landmarks)
        return SceneLog(scene.scene_id, len(landmarks), landmarks.usual_distance)

    def check_is_of(self, scene: Scene, name: str) -> None:
        """Raise InputError unless this log, called `name`, is one of the scene."""
        count = len(scene.landmarks.get("positions", ()))
        if self.scene_id != scene.scene_id:
            raise InputError(
                f"{name} is a log of scene {self.scene_id}, not of {scene.scene_id}: a log tells of"
                " the landmarks of its own scene alone; localize in this one (`vggt3 localize"
                " --log`)"
            )
        if self.landmarks != count:
            raise InputError(
                f"{name} is a log of {self.landmarks} landmarks, scene {scene.scene_id} has"
                f" {count}; localize in it anew (`vggt3 localize --log`)"
            )

    def add(self, sighting: Sighting) -> bool:
        """Note one more verified pose; one from where the last was taken is joined to its view, so
        that a robot that stands still says nothing twice. Returns whether the view is a new one.
        """
        if self.views and self.views[-1].is_of_same_view(sighting, self.usual_distance):
            self.views[-1] = self.views[-1].joined(sighting)
            return False
        self.views.append(sighting)
        del self.views[:-MAX_VIEWS]
        return True

    def copy(self) -> SceneLog:
        """Another log with the same views."""
        other = SceneLog(self.scene_id, self.landmarks, self.usual_distance)
        other.views = list(self.views)
        return other

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all. Raises InputError where it cannot be written."""
        tensors = self._tensors()
        about = {
            "format": _FORMAT,
            "version": _VERSION,
            "scene_id": self.scene_id,
            "landmarks": str(self.landmarks),
            "usual_distance": repr(self.usual_distance),
            "sha256": _digest(tensors),
        }
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(safetensors.numpy.save(tensors, about))
        except OSError as error:
            raise InputError(
                f"cannot write the log {path}: {error.strerror}; choose another place"
            ) from error

    @staticmethod
    def load(path: Path) -> SceneLog:
        """Read a file. Raises InputError where there is none, or where it is damaged, of a newer
        version or something else.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the log {path}: {error.strerror}") from error
        about = _about(data, path)
        try:
            tensors = safetensors.numpy.load(data)
            log = SceneLog(
                about["scene_id"], int(about["landmarks"]), float(about["usual_distance"])
            )
            if about["sha256"] != _digest(tensors):
                raise ValueError("its content has another checksum than was written")
            log.views = _views(tensors, log.landmarks)
        except (SafetensorError, InputError, KeyError, ValueError) as error:
            raise InputError(
                f"{path} is damaged: {error}; leave it out, and localize anew with `vggt3 localize"
                " --log`"
            ) from error
        return log

    def _tensors(self) -> dict[str, np.ndarray]:
        views = self.views
        return {
            "poses": np.array([view.world_from_cam for view in views]).reshape(-1, 4, 4),
            "counts": np.array([len(view.landmarks) for view in views], np.int64),
            "landmark": _joined([view.landmarks for view in views], np.int32),
            "likelihood": _joined([view.likelihood for view in views], np.float32),
            "found": _joined([view.found for view in views], np.uint8),
        }


def _joined(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *parts]).astype(kind)


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def _about(data: bytes, path: Path) -> dict[str, str]:
    """The words about a file, once they say that it is a log of this version."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        about = json.loads(data[8 : 8 + length])["__metadata__"]
        known = about["format"] == _FORMAT
    except (struct.error, ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        raise InputError(
            f"{path} is no log of a scene, or damaged from its first bytes on; logs are written by"
            " `vggt3 localize --log` and by the localizer"
        )
    if about.get("version") != _VERSION:
        raise InputError(
            f"{path} is a log of version {about.get('version')}, this program reads {_VERSION};"
            " update it"
        )
    return dict(about)


def _views(tensors: Mapping[str, np.ndarray], landmarks: int) -> list[Sighting]:
    for name, (kind, dimensions) in _SHAPES.items():
        tensor = tensors[name]
        if tensor.dtype != kind or tensor.ndim != dimensions:
            raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}")
    counts = tensors["counts"]
    if (counts < 0).any() or len(counts) != len(tensors["poses"]):
        raise ValueError("poses and counts contradict each other")
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    parts = [tensors[name] for name in ("landmark", "likelihood", "found")]
    if any(len(part) != total for part in parts):
        raise ValueError(f"there are other than {total} landmarks in all views")
    if total and int(parts[0].max()) >= landmarks:
        raise ValueError(f"a landmark is named that is none of {landmarks}")
    divided = [np.split(part, ends[:-1]) if len(ends) else [] for part in parts]
    return [
        Sighting(pose, which, likelihood, found.astype(bool))
        for pose, which, likelihood, found in zip(tensors["poses"], *divided, strict=True)
    ]
