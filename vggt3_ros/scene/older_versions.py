"""scene.json of older versions, brought into the form of the present one."""

from __future__ import annotations

from vggt3_ros.scene.entries import Entries

SCENE_UNITS = 2  # the version in which points were in scene units and axes
# the version without a checksum of scene.json, in which figures were reported and computed with in
# one entry
UNSEALED = 3
IMAGELESS = 4  # the version that had images of keyframes beside their depth alone
OLDER = (SCENE_UNITS, UNSEALED, IMAGELESS)
_NEWER = {"calibration", "points_refined"}


def upgraded(entries: Entries, has_landmarks: bool) -> Entries:
    """The entries of an older version as those of the present one, but for `version` and
    `checksum`. Those of version 4 are the same.

    Raises SceneError when one is missing or of the wrong kind.
    """
    if entries.count("version") == IMAGELESS:
        return entries
    has_scene_units = entries.count("version") == SCENE_UNITS
    newer = _NEWER | {"points_frame"} if has_scene_units else _NEWER
    entries.require((), set(entries.values) - newer)
    values = dict(entries.values)
    verification = dict(entries.part("verification").values)
    stored = Entries(verification, f"{entries.where}: verification")
    values["points_frame"] = "map" if has_scene_units else entries.text("points_frame")
    values.setdefault("made_by", "")  # the first of version 2 had none
    values["points_refined"] = "depth" in verification
    values["calibration"] = None
    if has_landmarks:
        scale = entries.part("map_from_scene").number("scale")
        agreement = stored.part("agreement").values if "agreement" in verification else {}
        stored.require(("image_sizes_wh", "focal_factor"), verification)
        values["calibration"] = {
            "image_sizes_wh": verification.pop("image_sizes_wh"),
            "focal_factor": verification.pop("focal_factor"),
            "depth_scale": agreement.get("depth_scale", scale),
        }
    verification.setdefault("poses", "adjusted to the images")
    values["verification"] = verification
    return Entries(values, entries.where)
