"""Maps a folder of images whose poses are known, and localizes other images in that map.

    python3 examples/map_and_localize.py MAP_IMAGES QUERY_IMAGES
        --poses FILE --intrinsics FILE --out SCENE

docs/files.md tells which pose files and calibrations are read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vggt3_ros import Localizer, load_network, read_frames, reconstruct, save_scene


def main() -> None:
    """Map, save, localize."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("map_images", type=Path)
    parser.add_argument("query_images", type=Path)
    parser.add_argument(
        "--poses", type=Path, required=True, help="camera to world, metres, OpenCV axes"
    )
    parser.add_argument("--intrinsics", type=Path, required=True, help="calibration of all images")
    parser.add_argument("--out", type=Path, required=True, help="scene folder to write")
    args = parser.parse_args()

    # "tiny" is inside the package; "nvidia/vgg-ttt" and device="cuda" are for real places.
    network = load_network("tiny")

    # The poses make the map metric and upright. They may be those of odometry: where the images
    # predict each other better with adjusted poses, they are adjusted.
    frames = read_frames(args.map_images, poses=args.poses, intrinsics=args.intrinsics)
    reconstruction = reconstruct(frames, network)
    scene = reconstruction.scene
    for name, reason in reconstruction.skipped:
        print(f"{name} was not used: {reason}")
    print(
        f"{len(scene.keyframes)} keyframes, {len(scene.points)} points, metric: {scene.is_metric}"
    )
    print(f"poses can be verified: {scene.verdict.verified} ({scene.verdict.reason})")
    save_scene(scene, args.out)

    # Of the images to be found only the calibration is known.
    localizer = Localizer(scene, network)
    for frame in read_frames(args.query_images, intrinsics=args.intrinsics):
        answer = localizer.localize(frame)
        if answer.map_from_cam is None:
            print(f"{frame.name}: {answer.status.name}, {answer.reason}")
            continue
        x, y, z = answer.map_from_cam[:3, 3].tolist()
        print(f"{frame.name}: {answer.status.name} at {x:.3f} {y:.3f} {z:.3f} m, {answer.reason}")
        if answer.covariance is not None:
            sigma_cm = 100 * float(answer.covariance[:3, :3].trace()) ** 0.5
            print(f"    standard deviation of the position: {sigma_cm:.1f} cm")


if __name__ == "__main__":
    main()
