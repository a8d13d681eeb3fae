from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.scene.depth import KeyframeDepth
from vggt3_ros.scene.scene import Keyframes, Scene


def build_scene(value: float, frames: int = 3) -> Scene:
    """A small scene whose every part carries `value`, so that a mixture of two scenes would
    show.
    """
    poses = torch.eye(4, dtype=torch.float64)[:3].repeat(frames, 1, 1)
    poses[:, :, 3] = torch.linspace(0, value / 3, frames)[:, None].double()
    return Scene(
        memory={
            "fast.0.w0": torch.full((2, 8, 16), value),
            "camera_tokens": torch.full((frames, 32), value),
        },
        keyframes=Keyframes(
            names=tuple(f"frame {value} {i}" for i in range(frames)),
            stamps_ns=tuple(int(value) * 10**18 + i for i in range(frames)),
            cam_from_world=poses,
            intrinsics=intrinsics_matrix(value + 0.1, value + 0.2, value, value).repeat(
                frames, 1, 1
            ),
        ),
        points=PointCloud(
            points=torch.full((50, 3), value),
            colors=torch.full((50, 3), int(value), dtype=torch.uint8),
            confidence=torch.full((50,), value),
        ),
        bounds=((-value, 0.0, 0.0), (value, 1.0, 1.0)),
        model_id="small",
        model_fingerprint="0123456789abcdef",
        input_size=(56, 70),
        ttt_steps=2,
        map_from_scene=Sim3(value, torch.eye(3).double(), torch.full((3,), value / 7).double()),
        is_metric=True,
        metric_source="pose_priors",
        metric_residual_m=value / 3,
    )


def build_depth(frames: int = 3, images: bool = True) -> KeyframeDepth:
    """Depth of 4 x 5 pixels from 0.3 to 7 m, unknown in the first row; every number is another
    one.
    """
    generator = torch.Generator().manual_seed(0)
    depth = 0.3 + 6.7 * torch.rand(frames, 4, 5, generator=generator)
    depth[:, 0] = 0
    depth[0, 1, 0] = 7.0
    return KeyframeDepth(
        depth=depth,
        provenance=torch.randint(0, 5, (frames, 4, 5), generator=generator, dtype=torch.uint8),
        intrinsics=torch.rand(frames, 3, 3, generator=generator).double() / 3,
        world_from_cam=torch.rand(frames, 4, 4, generator=generator).double() / 3,
        images=torch.randint(0, 256, (frames, 3, 4, 5), generator=generator, dtype=torch.uint8)
        if images
        else None,
    )


@pytest.fixture
def make_depth() -> Callable[..., KeyframeDepth]:
    return build_depth


@pytest.fixture
def make_scene() -> Callable[..., Scene]:
    return build_scene
