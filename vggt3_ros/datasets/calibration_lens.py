"""What a calibration file says of the lens, in all its forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vggt3_ros.datasets.calibration_names import lens_of_model, our_name
from vggt3_ros.datasets.calibration_values import number, numbers_of, unpadded
from vggt3_ros.errors import InputError
from vggt3_ros.files import check_known
from vggt3_ros.geometry.camera import Distortion

_FLAT = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")  # in OpenCV's order
_FORMS = '"none", a list of coefficients or {"model": NAME, "coefficients": [numbers]}'
_MAX_COEFFICIENTS = 8  # OpenCV's further ones (thin prism, tilt) are not supported
_FISHEYE_COEFFICIENTS = 4


def read_distortion(entries: dict[str, Any], path: Path) -> Distortion | None:
    """Distortion out of a calibration's entries, by our names; None where they tell of none.

    Raises InputError for what is unknown, contradictory or not supported, and naming the file.
    """
    entries = {**entries, **_nested_distortion(entries, path)}
    lens = _lens(entries, path)
    listed = _listed(entries, path)
    flat = _flat(entries, lens, path)
    if listed is not None and flat is not None and unpadded(listed) != unpadded(flat):
        raise InputError(
            f"{path}: the list of distortion coefficients and k1, k2, ... contradict; keep one of"
            " them"
        )
    coefficients = flat if listed is None else listed
    if lens == "equidistant":
        return _equidistant(coefficients, path)
    if coefficients is None or not any(coefficients):
        return None
    if lens == "none":
        raise InputError(
            f"{path}: the model says no distortion, the coefficients are {coefficients}; name their"
            " model"
        )
    if len(unpadded(coefficients)) > _MAX_COEFFICIENTS:
        raise InputError(
            f"{path}: {len(coefficients)} distortion coefficients, at most {_MAX_COEFFICIENTS} are"
            " used"
        )
    kept = coefficients[:_MAX_COEFFICIENTS]
    if len(kept) < 4:
        raise InputError(
            f"{path}: distortion coefficients must be k1 k2 p1 p2 [k3 [k4 k5 k6]], got"
            f" {coefficients}"
        )
    return Distortion("plumb_bob", (*kept, *[0.0] * (8 - len(kept) if len(kept) > 5 else 0)))


def _nested_distortion(entries: dict[str, Any], path: Path) -> dict[str, Any]:
    """What the entry `distortion` says, as entries of their own."""
    value = entries.get("distortion")
    if value is None or (isinstance(value, str) and value.lower().startswith("none")):
        return (
            {} if value is None else {"distortion_model": entries.get("distortion_model", "none")}
        )
    if isinstance(value, list):
        nested: dict[str, Any] = {"distortion_coefficients": value}
    elif isinstance(value, dict) and value:
        nested = {our_name(str(key)): part for key, part in value.items()}
        nested = {
            "distortion_model" if key == "camera_model" else key: part
            for key, part in nested.items()
        }
        check_known(
            nested, ("distortion_model", "distortion_coefficients", *_FLAT), f"{path}, distortion"
        )
    else:
        raise InputError(f"{path}: distortion must be {_FORMS}, got {value!r}")
    twice = [key for key in nested if key in entries and entries[key] != nested[key]]
    if twice:
        raise InputError(
            f"{path}: {twice[0]} is given twice, within distortion and beside it; keep one of them"
        )
    return nested


def _lens(entries: dict[str, Any], path: Path) -> str | None:
    """plumb_bob, equidistant or none as the models say; None where they say nothing of the lens."""
    lenses = []
    for key in ("distortion_model", "camera_model"):
        model = entries.get(key)
        if model is None:
            continue
        lens = lens_of_model(model) if isinstance(model, str) else None
        if lens is None and "inverse" in str(model).lower() and _is_zero(entries):
            lens = "none"  # RealSense names "inverse Brown Conrady" where there is none
        if lens is None:
            raise InputError(
                f"{path}: {key} {model!r} is not supported; rectify the images, or calibrate with"
                " plumb_bob (OpenCV's, radtan), its rational extension or equidistant (OpenCV's"
                " fisheye)"
            )
        # a camera_model "pinhole" says nothing of the lens
        if key == "distortion_model" or lens != "none":
            lenses.append(lens)
    if entries.get("fisheye_model"):
        lenses.append("equidistant")
    if len(set(lenses)) > 1:
        raise InputError(
            f"{path}: distortion_model and camera_model contradict each other; keep one of them"
        )
    return lenses[0] if lenses else None


def _is_zero(entries: dict[str, Any]) -> bool:
    coefficients = entries.get("distortion_coefficients", [])
    return (
        isinstance(coefficients, list)
        and not any(coefficients)
        and not any(entries.get(key) for key in _FLAT)
    )


def _listed(entries: dict[str, Any], path: Path) -> tuple[float, ...] | None:
    if entries.get("distortion_coefficients") is None:
        return None
    meaning = "numbers in OpenCV's order"
    return tuple(
        numbers_of(
            entries["distortion_coefficients"], None, "distortion_coefficients", meaning, path
        )
    )


def _flat(entries: dict[str, Any], lens: str | None, path: Path) -> tuple[float, ...] | None:
    """k1, k2, p1, p2, ... as a list in the order of the lens."""
    given = {key: number(entries[key]) for key in _FLAT if key in entries}
    if not given:
        return None
    bad = next((key for key, value in given.items() if value is None), None)
    if bad is not None:
        raise InputError(f"{path}: {bad} must be a number, got {entries[bad]!r}")
    values = {key: given.get(key) or 0.0 for key in _FLAT}
    if lens == "equidistant":
        order = ("k1", "k2", "k3", "k4", "p1", "p2", "k5", "k6")
        return unpadded(tuple(values[key] for key in order), least=_FISHEYE_COEFFICIENTS)
    if lens is None and values["k4"] and not any(key in given for key in ("p1", "p2", "k5", "k6")):
        raise InputError(
            f"{path}: k1 to k4 may be a fisheye's or a rational model's; add distortion_model"
        )
    return (
        tuple(values.values())
        if any(values[key] for key in ("k4", "k5", "k6"))
        else tuple(values.values())[:5]
    )


def _equidistant(coefficients: tuple[float, ...] | None, path: Path) -> Distortion:
    kept = unpadded(coefficients or (), least=_FISHEYE_COEFFICIENTS)
    if coefficients is None or len(kept) != _FISHEYE_COEFFICIENTS:
        raise InputError(
            f"{path}: an equidistant (fisheye) lens has the coefficients k1 k2 k3 k4, got"
            f" {coefficients}"
        )
    return Distortion("equidistant", kept)
