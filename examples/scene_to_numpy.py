"""Takes a stored scene apart into numpy arrays: points, colours, keyframe poses, landmarks.

    python3 examples/scene_to_numpy.py SCENE --out FOLDER

Everything is in the frame of the map: metres and Z up as far as the scene is metric and upright.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vggt3_ros import load_scene


def main() -> None:
    """Load, convert, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scene", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for one .npy file each")
    args = parser.parse_args()

    # Depth of the keyframes is most of a scene's bytes, and nothing here needs it.
    scene = load_scene(args.scene, with_depth=False)

    # Tensors are on the CPU, so .numpy() copies nothing.
    arrays = {
        "points": scene.points.points.numpy(),  # (N, 3)
        "colors": scene.points.colors.numpy(),  # (N, 3) uint8 RGB
        # (N,): 0.01 / the expected error in metres, where depth was refined
        "confidence": scene.points.confidence.numpy(),
        "map_from_keyframes": scene.map_from_keyframes.numpy(),  # (S, 4, 4), OpenCV camera axes
        "stamps_ns": np.array(scene.keyframes.stamps_ns),  # (S,)
        "names": np.array(scene.keyframes.names),  # (S,)
    }
    if scene.landmarks:  # maps whose keyframes could not be tied to each other have none
        arrays["landmarks"] = scene.landmarks["positions"].numpy()  # (L, 3)
        arrays["descriptors"] = scene.landmarks["descriptors"].numpy()  # (L, 128) uint8, SIFT

    print(f"made by {scene.model_id}, metric: {scene.is_metric}, frame: {scene.map_frame}")
    args.out.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        print(f"{name}: {array.shape} {array.dtype}")
        np.save(args.out / f"{name}.npy", array)


if __name__ == "__main__":
    main()
