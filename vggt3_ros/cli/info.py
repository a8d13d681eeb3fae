"""`vggt3 info SCENE`: what a stored scene holds."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import add_json_option, check_not_input, scene_files
from vggt3_ros.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from vggt3_ros.scene.depth import KeyframeDepth


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "info", help="say what a stored scene holds", description=__doc__
    )
    parser.add_argument(
        "scene", type=Path, metavar="SCENE", help="scene folder written by `vggt3 map`"
    )
    add_json_option(parser, "write the same as JSON")


def run(args: argparse.Namespace) -> int:
    """Load the scene, which checks every file of it, and print its description. Raises
    `SceneError`.
    """
    from vggt3_ros.scene.storage import load_scene

    if args.json is not None:
        check_not_input(args.json, "--json", scene_files(args.scene))
    scene = load_scene(args.scene)
    metric = scene.metric_from_scene
    low, high = scene.bounds
    data: dict[str, Any] = {
        "scene": str(args.scene),
        "scene_id": scene.scene_id,
        "created": scene.created,
        "parents": [asdict(parent) for parent in scene.parents],
        "siblings": [asdict(sibling) for sibling in scene.siblings],
        "frames_in_no_part": list(scene.frames_in_no_part),
        "model_id": scene.model_id,
        "model_fingerprint": scene.model_fingerprint,
        "input_size": list(scene.input_size),
        "ttt_steps": scene.ttt_steps,
        "keyframes": len(scene.keyframes),
        "points": len(scene.points),
        "memory_bytes": sum(tensor.nbytes for tensor in scene.memory.values()),
        "memory_parts": _memory_parts(scene.memory),
        "verification": scene.verification,
        "calibration": scene.calibration_entry,
        "landmark_bytes": sum(tensor.nbytes for tensor in scene.landmarks.values()),
        "depth_bytes": 0 if scene.depth is None else scene.depth.nbytes,
        "depth": None if scene.depth is None else _depth_figures(scene.depth),
        "image_bytes": 0 if scene.images is None else scene.images.nbytes,
        "up_source": scene.up_source,
        "metric": scene.is_metric,
        "metric_source": scene.metric_source,
        "metres_per_scene_unit": None if metric is None else metric.scale,
        "metric_residual_m": scene.metric_residual_m,
        "map_frame": scene.map_frame,
        "bounds": [list(low), list(high)],
        "size": [b - a for a, b in zip(low, high, strict=True)],
    }
    write_json(args.json, data)
    _print(data)
    return 0


def _memory_parts(memory: dict[str, Tensor]) -> dict[str, int]:
    """Bytes of the memory by what they are."""
    parts = {"fast_weights": 0, "anchors": 0, "camera_tokens": 0}
    for name, tensor in memory.items():
        last = name.rpartition(".")[2]
        part = "anchors" if last in ("keys", "values") else "fast_weights"
        parts[last if last in parts else part] += tensor.nbytes
    return parts


def _depth_figures(depth: KeyframeDepth) -> dict[str, Any]:
    """Size of the images that depth is known of, and the fractions of their pixels by how it is
    known.
    """
    from vggt3_ros.geometry.provenance import fractions

    _, height, width = depth.depth.shape
    return {
        "size": [height, width],
        "shares": fractions(depth.provenance),
        "images": depth.images is not None,
    }


def _print(data: dict[str, Any]) -> None:
    unit = "m" if data["metric"] else "scene units"
    height, width = data["input_size"]
    size = " x ".join(f"{length:.2f}" for length in data["size"])
    if data["metric"]:
        scale = (
            f"metric by {data['metric_source']}, {data['metres_per_scene_unit']:.4g} m per scene"
            " unit"
        )
        if data["metric_residual_m"] is not None:
            scale += f", residual {data['metric_residual_m']:.3f} m"
    else:
        scale = f"not metric ({data['metric_source']})"
    print(f"scene      {data['scene']} ({data['scene_id']}, made {data['created']})")
    for parent in data["parents"]:
        frame = "the same" if parent["same_frame"] else "another"
        print(f"made from  {parent['name']} ({parent['scene_id']}), which has {frame} map frame")
    for sibling in data["siblings"]:
        print(
            f"part       {sibling['name']} ({sibling['scene_id']}) has {len(sibling['frames'])}"
            " frames of the same drive, which nothing ties to these"
        )
    print(f"model      {data['model_id']} ({data['model_fingerprint']}), input {width} x {height}")
    in_none = data["frames_in_no_part"]
    loose = f", {len(in_none)} of which no landmarks tie to the others" if in_none else ""
    print(f"keyframes  {data['keyframes']}, fitted in {data['ttt_steps']} steps{loose}")
    parts = ", ".join(
        f"{part.replace('_', ' ')} {count / 1e6:.2f}"
        for part, count in data["memory_parts"].items()
        if count
    )
    what = parts if data["memory_bytes"] else "cannot be localized in"
    print(f"memory     {data['memory_bytes'] / 1e6:.1f} MB: {what}")
    print(f"points     {data['points']}, box of {size} {unit} along the map's axes")
    if data["depth"] is not None:
        height, width = data["depth"]["size"]
        shares = ", ".join(
            f"{name} {100 * fraction:.0f} %" for name, fraction in data["depth"]["shares"].items()
        )
        what = "depth and images" if data["depth"]["images"] else "depth"
        print(
            f"depth      {data['depth_bytes'] / 1e6:.1f} MB: {what} of {width} x {height} pixels;"
            f" {shares}"
        )
    if data["image_bytes"]:
        print(
            f"images     {data['image_bytes'] / 1e6:.1f} MB: the keyframes as the network saw them"
        )
    print(f"landmarks  {data['landmark_bytes'] / 1e6:.1f} MB: {data['verification']['reason']}")
    print(f"scale      {scale}")
