"""`vggt3 map IMAGES... --out SCENE`: reconstruct a place, store it as a scene, and draw it."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import (
    INTRINSICS_HELP,
    add_bit_depth_option,
    add_budget_option,
    add_chunk_option,
    add_common_options,
    add_dense_option,
    add_execution_option,
    add_model_option,
    add_network_options,
    add_precision_option,
    add_prior_poses_option,
    check_not_input,
    dense_settings,
    drift_of,
    positive_float,
    positive_int,
    print_skipped,
    scene_files,
    shared_device,
)
from vggt3_ros.cli.frames import MAX_FRAMES, collect, require_memory
from vggt3_ros.cli.parts import parts_data, print_parts, save_parts
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.datasets.image_files import IMAGES_HELP
from vggt3_ros.errors import InputError
from vggt3_ros.files import atomic_path, check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.cli.account import Account
    from vggt3_ros.datasets.colmap_cameras import ColmapCameras
    from vggt3_ros.datasets.known_cameras import KnownCameras
    from vggt3_ros.pipeline.frame import Frame
    from vggt3_ros.pipeline.map_frame_settings import AnchorSettings
    from vggt3_ros.pipeline.reconstruct import Reconstruction, ReconstructionSettings

_PICTURE_SUFFIXES = (".png", ".jpg", ".pdf", ".svg")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser("map", help="make a scene out of images", description=__doc__)
    parser.add_argument("images", nargs="+", metavar="IMAGES", help=IMAGES_HELP)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="SCENE", help="scene folder to write or replace"
    )
    _add_what_is_known(parser)
    _add_how_to_map(parser)
    add_model_option(parser)
    add_precision_option(parser)
    add_execution_option(parser)
    add_chunk_option(parser)
    add_common_options(parser, "write counts, seconds and what was skipped as JSON")


def _add_what_is_known(parser: argparse.ArgumentParser) -> None:
    """Poses, calibration and scale."""
    parser.add_argument(
        "--poses",
        type=Path,
        default=None,
        metavar="FILE",
        help=(
            "known camera poses that make the scene metric: per line the frame number (that of the"
            " file name, or the position in the list), or the image's file name, and 16 numbers,"
            " camera to world, row by row, metres; files of KITTI and TUM RGB-D are read, too"
        ),
    )
    parser.add_argument(
        "--intrinsics", type=Path, default=None, metavar="FILE", help=INTRINSICS_HELP
    )
    add_bit_depth_option(parser)
    parser.add_argument(
        "--from-colmap",
        type=Path,
        default=None,
        metavar="DIR",
        help=(
            "a COLMAP model of these images (cameras, images; text or binary): its poses and"
            " calibration are used"
        ),
    )
    parser.add_argument(
        "--colmap-metric",
        action="store_true",
        help="the COLMAP model is in metres with Z up (usually it is neither)",
    )
    parser.add_argument(
        "--depth",
        type=Path,
        default=None,
        metavar="DIR",
        help=(
            "folder of depth images, 16-bit png in millimetres, named like the images: gives the"
            " scale without poses"
        ),
    )
    parser.add_argument(
        "--camera-height",
        type=positive_float,
        default=None,
        metavar="M",
        help=(
            "metres from the floor to the camera: gives the scale where neither poses nor depth do"
        ),
    )


def _add_how_to_map(parser: argparse.ArgumentParser) -> None:
    """What is made of the images."""
    parser.add_argument(
        "--sfm",
        action="store_true",
        help=(
            "without poses: find them from the images alone by incremental mapping (needs"
            " pycolmap), not by network"
        ),
    )
    parser.add_argument(
        "--no-landmarks",
        action="store_true",
        help="keep no landmarks: faster, but poses can then not be verified",
    )
    add_prior_poses_option(parser)
    parser.add_argument(
        "--drift",
        type=drift_of,
        default=None,
        metavar="SCALE,ANGLE",
        help=(
            "given poses are odometry of one drive, which goes astray by such a fraction of the way"
            " and such an angle per metre, for example 2%%,0.1deg: loops in the images correct them"
        ),
    )
    add_dense_option(parser)
    parser.add_argument(
        "--keep-images",
        action="store_true",
        help=(
            "keep the images in the scene: as the network saw them, for `vggt3 localize --propose"
            " local`, and in the size of the refined depth, for the colours of a mesh"
        ),
    )
    add_network_options(parser)
    add_budget_option(parser)
    parser.add_argument(
        "--max-frames", type=positive_int, default=None, metavar="N",
        help=f"of videos, keep the N most useful frames (default: {MAX_FRAMES})",
    )  # fmt: skip
    parser.add_argument(
        "--picture", type=Path, default=None, metavar="FILE",
        help="top view to write, as .png, .jpg, .pdf or .svg (default: SCENE.png)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Reconstruct and save. Outputs that cannot be written are refused before the work begins."""
    # missing, it should be missed now and not when all work is done
    import matplotlib  # noqa: F401

    from vggt3_ros.cli.picture import draw_scene
    from vggt3_ros.datasets.image_reader import ImageReader
    from vggt3_ros.maps.apart import parts_of_drive
    from vggt3_ros.model.checkpoint import load_network
    from vggt3_ros.pipeline.reconstruct import contribute, reconstruct
    from vggt3_ros.ranks import Ranks, local_rank

    started = time.perf_counter()
    picture = _check_outputs(args)
    device = shared_device(args.device)

    cameras = _cameras(args)
    reader = ImageReader(args.images, "map", cameras, args.bit_depth)
    if args.max_frames is not None and not reader.has_video:
        raise InputError(
            "--max-frames chooses among frames of videos, and there is none; leave it out"
        )
    max_frames = args.max_frames or MAX_FRAMES
    require_memory(reader, max_frames)
    network = load_network(args.model, device, args.precision, args.execution)
    frames, left_out = collect(reader, max_frames)
    if not local_rank():  # alone, or the first one
        print_skipped(reader.skipped)
    _check_given(args, cameras, frames)
    settings = _settings(args)
    with Ranks(device) as ranks:
        if not ranks.first:
            contribute(frames, network, settings, ranks)
            return 0
        with ProgressBar("mapping") as progress:
            whole = reconstruct(frames, network, settings, progress, ranks, _announce)
    with ProgressBar("mapping parts") as progress:
        drive = parts_of_drive(whole, network, settings, progress)
    reconstruction = drive.largest
    print_skipped(reconstruction.skipped)
    scenes, folders = save_parts(drive, args.out)
    with atomic_path(picture) as temporary:
        draw_scene(scenes[0], temporary)

    account = _account(
        frames, reconstruction, cameras, len(reader.skipped) + sum(left_out.values())
    )
    skipped = [
        {"image": name, "reason": reason}
        for name, reason in (*reader.skipped, *reconstruction.skipped)
    ]
    data = _summary(args.out, reconstruction) | {
        **parts_data(drive, scenes, folders),
        "picture": str(picture),
        "given": account.to_json(),
        "skipped": skipped,
        "left_out_of_videos": dict(left_out),
        "seconds": {**reconstruction.seconds, "total": time.perf_counter() - started},
    }
    write_json(args.json, data)
    _print(data, account, drive.frames)
    return 0


def _settings(args: argparse.Namespace) -> ReconstructionSettings:
    """How the map is made; with seconds to spend, depth begins fine."""
    from vggt3_ros.pipeline.reconstruct import ReconstructionSettings

    timed = args.budget is not None and args.budget.seconds is not None
    return ReconstructionSettings(
        steps=args.steps,
        chunk=args.chunk,
        anchors=args.anchors,
        redundant_views=args.redundant_views,
        budget=args.budget,
        anchor=_anchor_settings(args),
        dense=dense_settings(args, "fine" if timed else "fast"),
        keep_images=args.keep_images,
    )


def _announce(plan: str) -> None:
    """Say on stderr what is going to be done."""
    print(f"vggt3: {plan}", file=sys.stderr)


def _cameras(args: argparse.Namespace) -> KnownCameras | ColmapCameras:
    """What is known of the cameras. Raises `argparse.ArgumentTypeError` for options that exclude
    each other.
    """
    from vggt3_ros.datasets.colmap_cameras import ColmapCameras
    from vggt3_ros.datasets.known_cameras import KnownCameras

    if args.no_landmarks and (args.sfm or args.from_colmap is not None):
        raise argparse.ArgumentTypeError(
            "--no-landmarks leaves nothing to tie the map of --sfm or --from-colmap to"
        )
    given = args.poses is not None or args.from_colmap is not None
    if args.prior_poses != "auto" and (args.no_landmarks or not given):
        raise argparse.ArgumentTypeError(
            f"--prior-poses {args.prior_poses} is about given poses that landmarks are built on: it"
            " needs --poses or --from-colmap, and no --no-landmarks"
        )
    if args.drift is not None:
        if args.no_landmarks or not given or args.prior_poses == "hold":
            raise argparse.ArgumentTypeError(
                "--drift is about given poses that landmarks correct: it needs --poses or"
                " --from-colmap, and neither --no-landmarks nor --prior-poses hold"
            )
    if args.no_landmarks and args.dense not in (None, "off"):
        raise argparse.ArgumentTypeError(
            f"--dense {args.dense} needs the cameras of landmarks, and no --no-landmarks"
        )
    if args.colmap_metric and args.from_colmap is None:
        raise argparse.ArgumentTypeError(
            "--colmap-metric says something about the model of --from-colmap; give both"
        )
    if args.from_colmap is None:
        return KnownCameras.from_files(args.poses, args.intrinsics, args.depth)
    for option, value in (
        ("--poses", args.poses),
        ("--intrinsics", args.intrinsics),
        ("--depth", args.depth),
    ):
        if value is not None:
            raise argparse.ArgumentTypeError(
                f"--from-colmap brings poses and calibration; leave {option} out"
            )
    return ColmapCameras.from_folder(args.from_colmap, args.colmap_metric)


def _check_given(
    args: argparse.Namespace, cameras: KnownCameras | ColmapCameras, frames: Sequence[Frame]
) -> None:
    """Raise `InputError` when something that was given has no effect on any of the frames."""
    cameras.check(len(frames))
    poses = args.poses or args.from_colmap
    if poses is not None and frames and not any(_has_pose(frame) for frame in frames):
        raise InputError(
            f"{poses}: none of the {len(frames)} images used has a pose of it; those that it"
            " belongs to were left out, or its poses are NaN"
        )
    if args.depth is not None and frames and all(frame.depth is None for frame in frames):
        raise InputError(
            f"--depth {args.depth}: none of the {len(frames)} images used has depth; others were"
            " left out"
        )


def _has_pose(frame: Frame) -> bool:
    return frame.prior_world_from_cam is not None and frame.prior_problem is None


def _account(
    frames: Sequence[Frame],
    reconstruction: Reconstruction,
    cameras: KnownCameras | ColmapCameras,
    left_out: int,
) -> Account:
    """What was used, with what; left_out counts the images that did not come as far as the
    reconstruction.
    """
    from vggt3_ros.cli.account import Account

    skipped = Counter(name for name, _ in reconstruction.skipped)
    account = Account(
        left_out=left_out, left_over=cameras.left_over, calibration=cameras.calibration_text
    )
    for frame in frames:
        if skipped[frame.label]:
            skipped[frame.label] -= 1
            account.left_out += 1
        else:
            account.add(frame)
    return account


def _anchor_settings(args: argparse.Namespace) -> AnchorSettings:
    """What ties the map to the world. Raises `InputError` for options that cannot be fulfilled."""
    from vggt3_ros.pipeline.map_frame_settings import AnchorSettings, landmark_settings

    if args.sfm:
        # missing, it should be missed now and not after the network has run
        import pycolmap  # noqa: F401
    return AnchorSettings(
        landmarks=None if args.no_landmarks else landmark_settings(args.prior_poses),
        sfm=args.sfm,
        camera_height_m=args.camera_height,
        priors_are_metric=args.from_colmap is None or args.colmap_metric,
        drift=args.drift,
    )


def _check_outputs(args: argparse.Namespace) -> Path:
    """The picture to write, once nothing that is written can harm what the user has.

    Raises `SceneError` and `InputError` for places that cannot be written,
    `argparse.ArgumentTypeError` for others.
    """
    from vggt3_ros.datasets.image_reader import input_files
    from vggt3_ros.scene.storage import check_target

    check_target(args.out)
    scene = args.out.resolve()
    picture: Path = args.picture or scene.with_name(scene.name + ".png")
    # save_scene makes the folder that the default lies in
    if args.picture is not None or picture.parent.exists():
        check_writable(picture, "--picture")
    if picture.suffix.lower() not in _PICTURE_SUFFIXES:
        raise argparse.ArgumentTypeError(
            f"--picture {picture} must end with {', '.join(_PICTURE_SUFFIXES)}"
        )
    if args.json is not None:
        check_writable(args.json, "--json")
        check_not_input(args.json, "--json", [picture])

    given = [Path(file) for file in (args.poses, args.intrinsics, args.model) if file is not None]
    for folder in (args.from_colmap, args.depth):
        if folder is not None:
            given += folder.glob("*")
    inputs = [*input_files(args.images), *given, *scene_files(scene), scene, *scene.parents]
    for option, file in (("--picture", picture), ("--json", args.json)):
        if file is not None:
            check_not_input(file, option, inputs)
    if (
        args.picture is None
        and picture.exists()
        and not any(file.exists() for file in scene_files(scene))
    ):
        raise argparse.ArgumentTypeError(
            f"{picture} exists, though there is no scene {scene} that it could be the picture of; "
            "name the picture with --picture"
        )
    return picture


def _summary(folder: Path, reconstruction: Reconstruction) -> dict[str, Any]:
    scene = reconstruction.scene
    return {
        "scene": str(folder),
        "scene_id": scene.scene_id,
        "model_id": scene.model_id,
        "keyframes": len(scene.keyframes),
        "views": reconstruction.views.report(),
        "points": len(scene.points),
        "metric": scene.is_metric,
        "metric_source": scene.metric_source,
        "metric_residual_m": scene.metric_residual_m,
        "prior_outliers": list(reconstruction.prior_outliers),
        "up_source": scene.up_source,
        "verification": scene.verification,
        "calibration": scene.calibration_entry,
        "landmark_bytes": sum(tensor.nbytes for tensor in scene.landmarks.values()),
    }


def _print(data: dict[str, Any], account: Account, frames: Sequence[str]) -> None:
    stages = ", ".join(
        f"{name} {seconds:.1f}" for name, seconds in data["seconds"].items() if name != "total"
    )
    residual = (
        "" if data["metric_residual_m"] is None else f", residual {data['metric_residual_m']:.3f} m"
    )
    scale = f"metric{residual}" if data["metric"] else "not metric"
    print(
        f"scene     {data['scene']}: {data['keyframes']} keyframes, {data['points']} points in"
        " points.ply"
    )
    print("\n".join(account.lines()))
    views = data["views"]
    if views["queried"] + views["repeated"]:
        print(
            f"network   fitted to {views['fitted']} frames; {views['queried']} show nothing new and"
            f" were localized in them, {views['repeated']} have the same image as one of them"
        )
    print(f"scale     {scale} ({data['metric_source']})")
    verdict = data["verification"]
    meaning = "poses can be verified" if verdict["verified"] else "none, poses stay unverified"
    print(f"landmarks {meaning}: {verdict['reason']}")
    print_parts(data, frames)
    if "loops" in verdict:
        loops = verdict["loops"]
        refused = ", ".join(f"{count} {why}" for why, count in loops["refused"].items() if count)
        print(
            f"loops     {loops['found']} of {loops['compared']} pairs of images close one; refused:"
            f" {refused or 'none'}"
        )
        print(
            f"          odometry was moved by {loops['moved_rms_m']:.2f} m rms,"
            f" {loops['moved_max_m']:.2f} m at most"
        )
    if "depth" in verdict:
        width, height = verdict["depth"]["size_wh"]
        shares = {
            name: f"{100 * fraction:.0f} %" for name, fraction in verdict["depth"]["shares"].items()
        }
        known = (
            f"{shares['agreed']} of pixels agreed on by several keyframes, {shares['plane']} on"
            " planes of those"
        )
        print(f"depth     refined at {width} x {height}: {known}, {shares['near']} near them")
    if "budget" in verdict:
        _print_budget(verdict["budget"])
    note = verdict.get("depth_given_up") or verdict.get("depth", {}).get("note")
    if note:
        print(f"          {note}")
    if data["prior_outliers"]:
        print(f"          poses not believed: {', '.join(data['prior_outliers'])}")
    if data["skipped"]:
        print(f"skipped   {len(data['skipped'])} images, see above")
    for reason, count in data["left_out_of_videos"].items():
        print(f"left out  {count} video frames: {reason}")
    print(f"picture   {data['picture']}")
    print(f"seconds   {data['seconds']['total']:.1f} ({stages})")


def _print_budget(budget: dict[str, Any]) -> None:
    expected = sum(budget["expected_s"].values())
    taken = budget["taken_s"]["total"] - budget["taken_s"].get("costs", 0.0)
    print(f"budget    {expected:.1f} s were expected, {taken:.1f} s taken")
    print(f"          planned: {budget['planned']['in_words']}")
    for trial in budget["steps_tried"][1:]:
        kept = "kept" if trial["kept"] else "given up"
        off = 100 * trial["disagreement"]
        print(f"          {trial['steps']} TTT steps {kept}: held-out frames {off:.1f} % off")
    for left_out in budget["left_out"]:
        print(f"          left out: {left_out}")
