"""Frames that show nothing new are localized in the map of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.pipeline.views import by_novelty, choose_views, descriptors, fitting

from ..conftest import make_network

MakeFrames = Callable[[int], list[Frame]]
FIT = ReconstructionSettings(redundant_views="fit")


def brighter(frame: Frame, by: float) -> Frame:
    """The same view, another exposure."""
    image = torch.from_numpy(frame.image).float().mul(by).clamp(0, 255).byte().numpy()
    return replace(frame, image=image, name=f"brighter {frame.name}")


def test_duplicated_views_change_nothing(small_network: Vggt3, make_frames: MakeFrames) -> None:
    frames = make_frames(3)
    once = reconstruct(frames, small_network)
    thrice = reconstruct([frames[i] for i in (0, 1, 0, 2, 1, 2, 2, 0, 1)], small_network)
    assert thrice.views.report() == {"fitted": 3, "queried": 0, "repeated": 6}
    for name, tensor in once.scene.memory.items():
        assert torch.equal(tensor, thrice.scene.memory[name])
    order = torch.tensor([0, 1, 0, 2, 1, 2, 2, 0, 1])
    assert torch.equal(once.prediction.pose_encoding[order], thrice.prediction.pose_encoding)
    assert torch.equal(once.prediction.depth[order], thrice.prediction.depth)
    assert len(thrice.scene.keyframes) == 9


def test_mapping_them_all_is_the_same_beyond_the_order_of_sums(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    frames = [frame for frame in make_frames(3) for _ in range(2)]
    fitted, chosen = (reconstruct(frames, small_network, how) for how in (FIT, None))
    assert fitted.views.is_all_fitted and len(chosen.views.fitted) == 3
    first = fitted.prediction.pose_encoding[2::2]  # the second of all is no reference frame
    torch.testing.assert_close(chosen.prediction.pose_encoding[2::2], first, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kinds", ["ttt", "softmax", "ttt,anchored,ttt+anchored,frame"])
def test_a_view_that_shows_nothing_new_is_localized(kinds: str, make_frames: MakeFrames) -> None:
    network = make_network(kinds)
    frames = make_frames(3)
    frames.insert(2, brighter(frames[1], 0.8))
    made = reconstruct(frames, network, ReconstructionSettings(chunk=1))
    assert made.views.fitted.tolist() == [0, 2, 3] and made.views.queried.tolist() == [1]
    images = prepare(frames, 70, 14).images
    mapped, memory = network.map(images[[0, 2, 3]])
    queried = network.query(images[1:2], memory)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(made.prediction.depth[[0, 2, 3]], mapped.depth, **close)
    torch.testing.assert_close(made.prediction.depth[1:2], queried.depth, **close)
    expected = queried.pose_encoding
    torch.testing.assert_close(made.prediction.pose_encoding[1:2], expected, **close)
    assert made.scene.keyframes.names == tuple(frame.name for frame in frames)
    assert made.scene.report["views"] == {"fitted": 3, "queried": 1, "repeated": 0}


def test_views_come_by_what_they_add() -> None:
    steps = torch.tensor([[0.0], [0.1], [5.0], [5.2], [2.0]])
    order, novelty = by_novelty(steps)
    assert order.tolist() == [0, 3, 4, 2, 1]
    torch.testing.assert_close(novelty[1:], torch.tensor([5.2, 2.0, 0.2, 0.1]))


def test_the_first_view_is_fitted_and_no_image_is_left_far_from_a_fitted_one() -> None:
    images = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(2)).repeat(9, 1, 1, 1)
    for index in range(9):
        images[index, :, :, :index] = 0.0
    views = choose_views(images)
    described = descriptors(images)
    assert views.fitted[0] == 0 and 2 < len(views.fitted) < 9
    assert torch.cdist(described, described[views.fitted]).amin(1).max() < 0.2
    apart = torch.cdist(described[views.fitted], described[views.fitted]).fill_diagonal_(9)
    assert apart.min() >= 0.2


def test_two_views_are_fitted_whatever_they_show() -> None:
    views = choose_views(torch.full((5, 3, 48, 64), 0.5))
    assert len(views.fitted) == 2 and views.repeats.unique().tolist() == [0]
    assert len(choose_views(torch.full((5, 3, 48, 64), 0.5), least=4).fitted) == 4
    with pytest.raises(InputError, match="there are 1 images; expected at least 2"):
        choose_views(torch.rand(1, 3, 48, 64))


def test_any_views_can_be_fitted_to() -> None:
    images = torch.rand(4, 3, 48, 64, generator=torch.Generator().manual_seed(3))
    images[3] = images[2]
    views = fitting(images, torch.tensor([2, 0]))
    parts = (views.fitted, views.queried, views.repeated, views.repeats)
    assert [part.tolist() for part in parts] == [[0, 2], [1], [3], [2]]


def test_anchors_are_those_of_the_memory(make_frames: MakeFrames, small_network: Vggt3) -> None:
    frames = make_frames(5)
    few, usual = (
        reconstruct(frames, make_network("anchored"), ReconstructionSettings(anchors=anchors))
        for anchors in (2, None)
    )
    for name, keys in few.scene.memory.items():
        if name.endswith("keys"):
            assert 5 * keys.shape[-2] == 2 * usual.scene.memory[name].shape[-2]
    with pytest.raises(InputError, match="no layer of small-ttt-0 attends to anchors"):
        reconstruct(frames, small_network, ReconstructionSettings(anchors=2))


def test_what_becomes_of_redundant_views_is_checked() -> None:
    with pytest.raises(InputError, match="redundant_views is 'skip'; expected 'query' or 'fit'"):
        ReconstructionSettings(redundant_views="skip")  # type: ignore[arg-type]
