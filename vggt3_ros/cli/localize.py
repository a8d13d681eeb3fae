"""`vggt3 localize SCENE IMAGES...`: where in a stored scene were these images taken?"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.cli.common import (
    INTRINSICS_HELP,
    add_bit_depth_option,
    add_common_options,
    add_execution_option,
    add_model_option,
    add_precision_option,
    add_propose_options,
    check_not_input,
    neighbours,
    print_skipped,
    resolve_device,
    scene_files,
)
from vggt3_ros.cli.progress import track
from vggt3_ros.datasets.image_files import IMAGES_HELP
from vggt3_ros.errors import InputError
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.maps.scene_log import SceneLog
    from vggt3_ros.pipeline.localization import Localization
    from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
    from vggt3_ros.scene.scene import Scene


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "localize", help="say where images were taken in a scene", description=__doc__
    )
    parser.add_argument(
        "scene", type=Path, metavar="SCENE", help="scene folder written by `vggt3 map`"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGES", help=IMAGES_HELP)
    parser.add_argument(
        "--intrinsics", type=Path, default=None, metavar="FILE", help=INTRINSICS_HELP
    )
    add_bit_depth_option(parser)
    parser.add_argument(
        "--refine",
        choices=("refine", "verify", "none"),
        default="refine",
        help=(
            "what landmarks do: find and refine poses, only check the network's, or nothing"
            " (default: refine)"
        ),
    )
    add_propose_options(parser)
    parser.add_argument(
        "--log",
        type=Path,
        default=None,
        metavar="FILE",
        help=(
            "write which landmarks verified poses should show, and which they do: `vggt3 refresh`"
            " tells by it what has gone from the scene"
        ),
    )
    add_model_option(parser)
    add_precision_option(parser)
    add_execution_option(parser)
    add_common_options(parser, "write poses, covariances, confidences and seconds as JSON")


def run(args: argparse.Namespace) -> int:
    """Localize one image after the other. An image that cannot be localized is reported and is no
    failure.
    """
    from vggt3_ros.cli.account import Account
    from vggt3_ros.datasets.image_reader import ImageReader
    from vggt3_ros.datasets.known_cameras import KnownCameras
    from vggt3_ros.model.checkpoint import load_network
    from vggt3_ros.pipeline.localize import Localizer
    from vggt3_ros.scene.storage import load_scene

    _check_outputs(args)
    device = resolve_device(args.device)
    known = KnownCameras.from_files(None, args.intrinsics)
    reader = ImageReader(args.images, "query", known, args.bit_depth)
    scene = load_scene(args.scene, with_depth=False, with_images=args.propose != "memory")
    log = None if args.log is None else _log(scene, args)
    if not scene.is_verified and args.refine != "none":
        print(f"vggt3: poses cannot be verified: {scene.verdict.reason}", file=sys.stderr)
    network = load_network(args.model, device, args.precision, args.execution)
    localizer = Localizer(scene, network, _settings(args))
    if localizer.no_local:
        print(f"vggt3: only the memory proposes poses: {localizer.no_local}", file=sys.stderr)

    rows = []
    account = Account(with_poses=False, calibration=known.calibration_text)
    # then they show how far it has come, and a bar would garble them
    lines_are_seen = sys.stdout.isatty()
    for frame in reader if lines_are_seen else track(reader, "localizing", len(reader)):
        started = time.perf_counter()
        account.add(frame)
        answer = localizer.localize(frame)
        rows.append(_row(frame.name, answer, time.perf_counter() - started))
        if log is not None and answer.sighting is not None:
            log.add(answer.sighting)
        print(_line(rows[-1]), flush=True)
    print_skipped(reader.skipped)
    known.check(account.images)
    account.left_out = len(reader.skipped)
    localized = sum(row.position is not None for row in rows)
    unit = "m" if scene.is_metric else "scene units"
    skipped = [{"image": name, "reason": reason} for name, reason in reader.skipped]
    data = {
        "scene_id": scene.scene_id,
        "unit": unit,
        "given": account.to_json(),
        "images": [asdict(row) for row in rows],
        "skipped": skipped,
    }
    write_json(args.json, data)
    if log is not None:
        log.save(args.log)
    if not rows:
        raise InputError(f"none of the {len(reader)} images can be used; the reasons are above")
    for line in (*account.lines(), f"localized {localized} of {len(rows)} images"):
        print(f"vggt3: {line.strip()}", file=sys.stderr)
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse to write over what is read, or one output over the other."""
    from vggt3_ros.datasets.image_reader import input_files

    for path, option in ((args.json, "--json"), (args.log, "--log")):
        if path is not None:
            check_writable(path, option)
            check_not_input(path, option, [*input_files(args.images), *scene_files(args.scene)])
    if args.json is not None and args.log is not None:
        check_not_input(args.log, "--log", [args.json])


def _settings(args: argparse.Namespace) -> LocalizerSettings:
    from vggt3_ros.pipeline.localizer_settings import LocalizerSettings

    return LocalizerSettings(
        refine=args.refine,
        propose=args.propose,
        neighbours=neighbours(args),
        note_sightings=args.log is not None,
    )


def _log(scene: Scene, args: argparse.Namespace) -> SceneLog:
    """An empty log. Raises InputError where poses would tell nothing of landmarks."""
    from vggt3_ros.maps.scene_log import SceneLog

    if not scene.is_verified or args.refine == "none":
        why = "--refine none" if scene.is_verified else scene.verdict.reason
        raise InputError(
            f"--log {args.log}: poses are not verified ({why}), so there is nothing to log; leave"
            " it out"
        )
    return SceneLog.of(scene)


_SOURCES = {"memory": "network", "local": "local", "": "network"}  # of poses without landmarks


@dataclass(frozen=True)
class LocalizedImage:
    """What is printed and written of one image; None what is not known of it.

    position in metres or, unless `metric`, in scene units; quaternion x y z w. covariance (6, 6) of
    the position and of the rotation vector in the camera frame; position_sigma in the unit of the
    position.
    """

    image: str
    status: str
    reason: str
    position: list[float] | None
    quaternion: list[float] | None
    metric: bool
    covariance: list[list[float]] | None
    position_sigma: float | None
    inliers: int
    source: str
    proposed_by: str
    confidence: float | None
    seconds: float


def _row(name: str, localization: Localization, seconds: float) -> LocalizedImage:
    """What there is to report of the answer to one image."""
    from vggt3_ros.geometry.se3 import quaternion_from_rotation

    pose = localization.map_from_cam
    covariance = localization.covariance
    located = localization.located
    return LocalizedImage(
        image=name,
        status=localization.status.name,
        reason=localization.reason,
        position=None if pose is None else pose[:3, 3].tolist(),
        quaternion=None if pose is None else quaternion_from_rotation(pose[:3, :3]).tolist(),
        metric=localization.metric,
        covariance=None if covariance is None else covariance.tolist(),
        position_sigma=None if covariance is None else float(covariance[:3, :3].trace().sqrt()),
        inliers=0 if located is None else located.inliers,
        source=_SOURCES[localization.proposed_by] if located is None else located.source,
        proposed_by=localization.proposed_by,
        confidence=None if math.isnan(localization.confidence) else localization.confidence,
        seconds=seconds,
    )


def _line(row: LocalizedImage) -> str:
    start = f"{row.image}  {row.status}"
    if row.position is None or row.quaternion is None:
        return f"{start}  {row.reason}"
    position = " ".join(f"{value:.3f}" for value in row.position)
    quaternion = " ".join(f"{value:.4f}" for value in row.quaternion)
    unit = "m" if row.metric else "scene units"
    if row.position_sigma is None:
        trust = f"confidence {row.confidence:.2f}"
    else:
        trust = f"+- {row.position_sigma:.3f} {unit}, {row.inliers} landmarks"
    return f"{start}  position {position} {unit}  quaternion {quaternion}  {trust}"
