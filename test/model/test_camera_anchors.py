"""Maps of more frames than anchors: the camera head stays linear, and localization constant."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from vggt3_ros.model import network as network_module
from vggt3_ros.model import querying
from vggt3_ros.model.anchors import choose_anchors
from vggt3_ros.model.camera_head import CameraHead

DIM = 48
FRAMES = 7


@pytest.fixture
def head() -> CameraHead:
    torch.manual_seed(0)
    head = CameraHead(DIM, 4, 2, 4)
    for parameter in head.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return head.eval().requires_grad_(False)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(1, FRAMES, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def three_anchors(monkeypatch) -> None:
    monkeypatch.setattr(network_module, "choose_anchors", lambda tokens: choose_anchors(tokens, 3))


def test_anchors_are_the_reference_and_those_that_differ_most() -> None:
    directions = torch.eye(DIM)
    alike = [directions[0] + 1e-3 * directions[number] for number in range(1, 4)]
    tokens = torch.stack([directions[0], *alike, directions[5], alike[0], directions[6]])
    assert choose_anchors(tokens, 3).tolist() == [0, 4, 6]
    assert choose_anchors(tokens, 7).tolist() == list(range(7))
    assert choose_anchors(tokens, 20).tolist() == list(range(7))
    assert choose_anchors(tokens[:1]).tolist() == [0]


def test_frames_that_are_all_alike_are_chosen_once_each() -> None:
    assert len(set(choose_anchors(torch.ones(6, DIM), 4).tolist())) == 4


def test_with_as_many_anchors_as_frames_all_attend_to_all(head, tokens) -> None:
    everyone = torch.arange(FRAMES)
    assert torch.equal(head.forward_anchored(tokens, everyone), head(tokens))


def test_every_frame_attends_to_anchors_and_itself(head, tokens) -> None:
    anchors = torch.tensor([0, 2, 5])
    allowed = torch.eye(FRAMES, dtype=torch.bool)
    allowed[:, anchors] = True

    def masked(call: int, block, x: torch.Tensor) -> torch.Tensor:
        q, k, v = block.attn.project(block.norm1(x))
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return block.finish(x, block.attn.proj(mixed.transpose(-2, -3).flatten(-2)))

    expected = head._answers(tokens, masked)[-1]
    anchored = head.forward_anchored(tokens, anchors)
    assert anchored.shape == (4, 1, FRAMES, 9)
    torch.testing.assert_close(anchored[-1][..., :7], expected[..., :7], rtol=1e-5, atol=1e-5)
    everyone = head(tokens)[-1]
    assert not torch.allclose(anchored[-1], everyone, rtol=1e-3, atol=1e-3)  # it makes a difference


def test_a_map_keeps_the_tokens_of_its_anchors(small_network, three_anchors) -> None:
    images = torch.rand(FRAMES, 3, 56, 70, generator=torch.Generator().manual_seed(2))
    prediction, memory = small_network.map(images)
    assert prediction.pose_encoding.shape == (FRAMES, 9)
    assert memory.camera_tokens.shape == (3, 2 * small_network.config.embed_dim)
    assert small_network.map(images[:5])[1].nbytes == memory.nbytes
    assert small_network.query(images[:2], memory).pose_encoding.isfinite().all()


def test_a_memory_with_a_token_of_every_frame_is_queried_by_its_anchors(
    small_network, monkeypatch
) -> None:
    images = torch.rand(FRAMES, 3, 56, 70, generator=torch.Generator().manual_seed(3))
    _, memory = small_network.map(images)
    assert len(memory.camera_tokens) == FRAMES  # as scenes were stored before
    seen = []
    forward = small_network.camera_head.forward

    def counting(tokens: torch.Tensor, wanted: int | None = None) -> torch.Tensor:
        seen.append(tokens.shape[1])
        return forward(tokens, wanted)

    monkeypatch.setattr(querying, "choose_anchors", lambda tokens: choose_anchors(tokens, 3))
    monkeypatch.setattr(small_network.camera_head, "forward", counting)
    small_network.query(images[:1], memory)
    assert seen == [4]
