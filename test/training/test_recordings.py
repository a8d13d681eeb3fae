"""Windows of posed RGB-D recordings: views that see the same, cropped exactly, unknown depth left
out of losses.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import avg_pool2d, grid_sample

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.model.network import Vggt3
from vggt3_ros.training.crop import cropped
from vggt3_ros.training.initialise import initialise
from vggt3_ros.training.losses import PatchHead, patch_truth, total_loss
from vggt3_ros.training.pool import ScenePool
from vggt3_ros.training.recordings import OVERLAP, draw_window
from vggt3_ros.training.scenes import Views, normalised

from .conftest import CPU, MINIATURE, photograph, train

pytestmark = pytest.mark.usefixtures("quickly_painted")

REAL = replace(MINIATURE, folders=("photographs",), real=1.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("span", [0.0, 1.0])
def test_views_of_a_window_see_the_same_surfaces_and_differ(recording, span) -> None:
    for seed in range(4):
        window = draw_window(recording, 5, span, seeded(seed))
        same = (recording.world_from_cam.float()[:, None] == window.world_from_cam).all((2, 3))
        frames = same.int().argmax(0).tolist()
        assert len(set(frames)) > 1
        pictures = [recording.read(i)[1] for i in frames]
        points = [recording.surface(i, depth) for i, depth in zip(frames, pictures, strict=True)]
        shared = [
            [recording.sees(i, d, p) for p in points] for i, d in zip(frames, pictures, strict=True)
        ]
        to_anchor = [min(min(shared[a][b], shared[b][a]) for b in range(5)) for a in range(5)]
        assert max(to_anchor) >= OVERLAP, "one of them overlaps with all others"


def test_wider_windows_are_farther_apart(recording) -> None:
    def spread(span: float) -> float:
        poses = [
            draw_window(recording, 3, span, seeded(seed)).world_from_cam[:, :3, 3]
            for seed in range(8)
        ]
        return float(torch.stack([torch.pdist(centres).median() for centres in poses]).median())

    assert spread(1.0) > 1.3 * spread(0.0)


def test_frames_that_see_nothing_of_one_another_are_refused(recording) -> None:
    apart = recording.world_from_cam.clone()
    apart[:, 0, 3] += 100 * torch.arange(len(apart))
    with pytest.raises(
        InputError, match="photographs: none of 8 frames tried shares 20% of its surface"
    ):
        draw_window(replace(recording, world_from_cam=apart), 3, 1.0, seeded())


@pytest.mark.parametrize(
    ("size_hw", "share"), [((48, 64), 1.0), ((24, 64), 1.0), ((64, 32), 0.9), ((96, 96), 0.8)]
)
def test_a_crop_keeps_the_ray_of_every_pixel(size_hw, share) -> None:
    camera = photograph(1, holes=False).intrinsics
    columns, rows = (camera[axis, axis].item() for axis in (0, 1))
    x = (torch.arange(80) - camera[0, 2]) / columns
    y = (torch.arange(60)[:, None] - camera[1, 2]) / rows
    views = Views(
        images=(torch.stack([x.expand(60, 80), y.expand(60, 80), x + y])[None] * 100 + 128).float(),
        depth=(2 + x + y)[None].float(),  # the depth of every pixel tells its ray
        world_from_cam=torch.eye(4)[None],
        intrinsics=camera,
        synthetic=True,
    )
    result = cropped(views, size_hw, share)
    height, width = size_hw
    k = result.intrinsics
    assert result.images.shape == (1, 3, height, width)
    ray_x = ((torch.arange(width) - k[0, 2]) / k[0, 0]).expand(size_hw)
    ray_y = ((torch.arange(height)[:, None] - k[1, 2]) / k[1, 1]).expand(size_hw)
    inner = (slice(2, -2), slice(2, -2))  # interpolation stops at the border
    # rounded to 1 / 100
    assert float(((result.images[0, 0] - 128) / 100 - ray_x)[inner].abs().max()) < 0.006
    assert float(((result.images[0, 1] - 128) / 100 - ray_y)[inner].abs().max()) < 0.006
    one_pixel = 1 / columns
    # nearest: half of it per axis
    assert float((result.depth[0] - 2 - ray_x - ray_y).abs().max()) < 1.1 * one_pixel
    off = (k[0, 2] - width / 2, k[1, 2] - height / 2)
    finest = max(1.0, float(k[0, 0]) / columns)
    assert all(abs(float(each)) <= 0.51 * finest + 0.5 for each in off), (
        "the principal point is in the middle"
    )


def test_a_principal_point_at_the_border_is_refused(recording) -> None:
    window = draw_window(recording, 2, 1.0, seeded())
    camera = window.intrinsics.clone()
    camera[0, 2] = -3.0
    with pytest.raises(
        InputError,
        match=r"the principal point \(-3.0, 28.0\) lies at the border of the 80x60 image",
    ):
        cropped(replace(window, intrinsics=camera), (48, 64))


def test_true_correspondences_between_photographs_show_the_same_surface(recording) -> None:
    batch = ScenePool(REAL, CPU, [recording]).batch(10_000, 1.0)
    truth = patch_truth(batch, MINIATURE.model.patch_size)
    assert not bool(batch.synthetic.any())
    assert truth.visible[:, 1:].float().mean() > 0.15
    assert not bool((truth.visible & ~truth.known).any())
    centres = se3_inverse(batch.cam_from_world)[..., :3, 3]
    assert float(centres[:, 1:].norm(dim=-1).max()) > 0.02
    scene, view, patch = (t[0] for t in truth.visible[:, 1:].nonzero(as_tuple=True))
    target = truth.target[scene, view + 1, patch]
    if truth.known[scene, 0, target]:
        there, here = truth.points[scene, 0, target], truth.points[scene, view + 1, patch]
        # within a patch or so; the scene's mean distance is 1
        assert float((there - here).norm()) < 0.5


def test_photographs_show_where_their_depth_and_poses_say() -> None:
    pair = cropped(draw_window(photograph(holes=False), 2, 1.0, seeded()), (48, 64))
    batch = normalised(pair.images[None].float() / 255, [pair], 2)
    truth = patch_truth(batch, 2)  # every other pixel
    grey = avg_pool2d(batch.images.mean(2)[0][:, None], 3, stride=1, padding=1)  # (2, 1, H, W)
    seen = truth.visible[0, 1]
    geometric, _ = project(truth.points[0, 1, seen], batch.intrinsics[0])

    def at(view: int, pixels: torch.Tensor) -> torch.Tensor:
        grid = 2 * pixels / torch.tensor([63, 47]) - 1
        return grid_sample(grey[view : view + 1], grid[None, None], align_corners=True)[0, 0, 0]

    here = at(1, truth.pixels[seen])
    matched, unmoved = (
        float(torch.corrcoef(torch.stack([here, at(0, pixels)]))[0, 1])
        for pixels in (geometric, truth.pixels[seen])
    )
    assert matched > 0.9 and matched > unmoved + 0.05


def test_what_is_estimated_where_depth_is_unknown_does_not_matter(recording) -> None:
    torch.manual_seed(0)
    model = replace(MINIATURE.model, point_head=True)
    weights = replace(MINIATURE.weights, points=1.0, shape=1.0, outliers=0.02)
    config = replace(REAL, model=model, weights=weights, dense_stride=1)
    network, aid = Vggt3(model), PatchHead(2 * model.embed_dim)
    initialise(network)
    batch = ScenePool(config, CPU, [recording]).batch(3, 0.0)
    unknown = batch.depth == 0
    assert 0.1 < float(unknown.float().mean()) < 0.9
    with torch.no_grad():
        output = network(batch.images, 2)
        wild = replace(
            output,
            depth=torch.where(unknown, 7.0, output.depth),
            depth_confidence=torch.where(unknown, 9.0, output.depth_confidence),
            pointmap=torch.where(unknown[..., None], 5.0, output.pointmap),
            pointmap_confidence=torch.where(unknown, 9.0, output.pointmap_confidence),
        )
        tame, _ = total_loss(network, aid, output, batch, config)
        assert torch.equal(tame, total_loss(network, aid, wild, batch, config)[0])
        wild = replace(output, depth=torch.where(unknown, output.depth, output.depth + 0.1))
        assert not torch.equal(tame, total_loss(network, aid, wild, batch, config)[0])


def test_points_made_of_unknown_depth_count_nowhere(recording) -> None:
    """Where depth is unknown, another value of it must not change any loss: poses, patches and
    matching included.
    """
    torch.manual_seed(0)
    network, aid = Vggt3(MINIATURE.model), PatchHead(2 * MINIATURE.model.embed_dim)
    initialise(network)
    batch = ScenePool(REAL, CPU, [recording]).batch(3, 0.0)
    with torch.no_grad():
        output = network(batch.images, 2)
        _, terms = total_loss(network, aid, output, batch, REAL)
        behind = replace(batch, depth=torch.where(batch.depth == 0, -1.0, batch.depth))
        _, again = total_loss(network, aid, output, behind, REAL)
    for name, value in terms.items():
        torch.testing.assert_close(again[name], value, msg=name)


def test_a_cut_run_on_rooms_and_photographs_ends_with_the_same_weights(tmp_path, recording) -> None:
    config = replace(REAL, real=0.5, softmax_steps=6, distil_steps=0, ttt_steps=0, validations=1)
    for folder, stops in (("whole", (None,)), ("cut", (2, 5, None))):
        for stop in stops:
            train(tmp_path / folder, stop, config, (recording,))
    whole, cut = (load_file(tmp_path / run / "network.safetensors") for run in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    kinds = torch.cat(
        [ScenePool(config, CPU, [recording]).batch(step, 0.0).synthetic for step in range(6)]
    )
    assert bool(kinds.any()) and not bool(kinds.all())


def test_photographs_are_read_only_when_wanted() -> None:
    def read(index: int) -> tuple[np.ndarray, np.ndarray]:
        raise AssertionError("nothing real was asked for")

    ScenePool(MINIATURE, CPU, [replace(photograph(2), read=read)]).batch(0, 0.0)
    with pytest.raises(InputError, match="real is 1.0, but there are no folders"):
        ScenePool(REAL, CPU)
    with pytest.raises(
        InputError, match="real is 0.5, expected within 0..1, and 0 without `folders`"
    ):
        replace(MINIATURE, real=0.5)
