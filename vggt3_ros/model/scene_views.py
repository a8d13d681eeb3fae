"""What a global layer knows of the whole scene: made from the tokens of all frames, chunk by chunk,
then asked by each chunk; or remembered of a scene that was mapped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vggt3_ros.model import fast_weights
from vggt3_ros.model.anchors import AnchorKeys, chosen_tokens
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.global_attention import (
    AnyGlobalAttention,
    GatedAttention,
    GlobalSoftmaxAttention,
)
from vggt3_ros.model.prediction import LayerMemory
from vggt3_ros.model.rope import RopeTable
from vggt3_ros.model.ttt_attention import TttAttention
from vggt3_ros.ranks import Ranks


class SceneView(Protocol):
    """All tokens x (s, P, C) are layer-normed, and s frames are a chunk."""

    def see(self, x: Tensor) -> None:
        """Take in a chunk."""

    def choose(self, anchors: Tensor, tokens: Callable[[], Tensor]) -> None:
        """Take in which frames (K,) of all are anchors, and their tokens (K, P, C), all frames
        having been seen.
        """

    def seen_all(self) -> None:
        """Learn from what was seen since the last call."""

    def attend(self, x: Tensor) -> Tensor:
        """The layer's attention output (s, P, C) for a chunk."""

    def memory(self) -> LayerMemory:
        """What a scene keeps of it."""


@dataclass(frozen=True, eq=False)
class Place:
    """What all views of a map or query share: how positions turn (rope), the patch grid, and the
    processes that map together, `frames` in all.
    """

    rope: RopeTable
    grid: tuple[int, int]
    ranks: Ranks | None = None
    frames: int = 0


class FastWeightsView:
    """Fast weights: a TTT step each time that all frames were seen, those of all ranks. Memory does
    not depend on the number of frames.
    """

    def __init__(
        self, attn: TttAttention, place: Place, weights: FastWeights | None = None
    ) -> None:
        self.attn = attn
        self.weights = attn.initial if weights is None else weights
        self._where = place.rope, place.grid
        self._norms: FastWeights | None = None  # of the weights that it began with
        self._total: FastWeights | None = None
        self._ranks = place.ranks

    def see(self, x: Tensor) -> None:
        """Add a chunk's part of the gradient."""
        part = self.attn.gradient(x, self.weights, *self._where)
        self._total = part if self._total is None else self._total + part

    def choose(self, anchors: Tensor, tokens: Callable[[], Tensor]) -> None:
        """Nothing: they are seen with the others."""

    def seen_all(self) -> None:
        """Take one TTT step with the gradient of all frames."""
        assert self._total is not None
        self._norms = self._norms or fast_weights.column_norms(self.weights)
        total = self._total if self._ranks is None else FastWeights(*self._ranks.sum(self._total))
        self.weights = self.attn.updated(self.weights, total, self._norms)
        self._total = None

    def attend(self, x: Tensor) -> Tensor:
        """Ask the fast weights."""
        return self.attn.answer(x, self.weights, *self._where)

    def memory(self) -> LayerMemory:
        """The fast weights."""
        return LayerMemory(fast_weights=self.weights)


class AnchorsView:
    """Softmax attention to the anchors' tokens, or to those that a scene keeps of them."""

    def __init__(
        self, attn: GlobalSoftmaxAttention, place: Place, known: AnchorKeys | None = None
    ) -> None:
        self.attn = attn
        self._place = place
        self._known = known

    def see(self, x: Tensor) -> None:
        """Nothing: anchors are seen by themselves."""

    def choose(self, anchors: Tensor, tokens: Callable[[], Tensor]) -> None:
        """Keep their keys and values."""
        self._known = self.attn.anchor_keys(tokens(), self._place.rope, self._place.grid)

    def seen_all(self) -> None:
        """Nothing is left to do."""

    def attend(self, x: Tensor) -> Tensor:
        """Attend to the anchors."""
        assert self._known is not None
        return self.attn.attend_keys(x, self._known, self._place.rope)

    def memory(self) -> LayerMemory:
        """Their keys and values."""
        assert self._known is not None
        return LayerMemory(anchors=AnchorKeys(*(part.half().contiguous() for part in self._known)))


class KeysView(AnchorsView):
    """Softmax attention to all tokens of all frames. A scene keeps those of its anchors."""

    def __init__(self, attn: GlobalSoftmaxAttention, place: Place) -> None:
        super().__init__(attn, place)
        self._chunks: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._all: list[Tensor] = []  # keys and values (h, S, P, d)

    def see(self, x: Tensor) -> None:
        """Keep a chunk's keys and values."""
        _, *projected = self.attn.project(x, self._place.rope)
        for part, seen in zip(projected, self._chunks, strict=True):
            seen.append(part.transpose(0, 1))

    def seen_all(self) -> None:
        """Put those of all ranks together."""
        for chunks in self._chunks:
            together = torch.cat(chunks, dim=1)
            chunks.clear()
            ranks = self._place.ranks
            if ranks is not None:
                whole = ranks.gather(together.transpose(0, 1), self._place.frames)
                together = whole.transpose(0, 1).contiguous()
            self._all.append(together)

    def choose(self, anchors: Tensor, tokens: Callable[[], Tensor]) -> None:
        """Take theirs out of all."""
        frame = self._all[0].shape[2]
        kept = chosen_tokens(self._place.grid, frame, self.attn.patch_stride)
        self._known = AnchorKeys(
            *(part[:, anchors][:, :, kept].flatten(1, 2) for part in self._all)
        )

    def attend(self, x: Tensor) -> Tensor:
        """Attend to all tokens."""
        every = AnchorKeys(*(part.flatten(1, 2) for part in self._all))
        return self.attn.attend_keys(x, every, self._place.rope)


class FrameView:
    """Softmax attention of every frame to itself: nothing of a scene is known."""

    def __init__(self, attn: GlobalSoftmaxAttention, place: Place) -> None:
        self.attn = attn
        self._rope = place.rope

    def see(self, x: Tensor) -> None:
        """Nothing."""

    def choose(self, anchors: Tensor, tokens: Callable[[], Tensor]) -> None:
        """Nothing."""

    def seen_all(self) -> None:
        """Nothing."""

    def attend(self, x: Tensor) -> Tensor:
        """Attend to the frame's own tokens."""
        return self.attn(x, self._rope)

    def memory(self) -> LayerMemory:
        """Nothing."""
        return LayerMemory()


class GatedView:
    """Anchors and fast weights, both."""

    def __init__(
        self, attn: GatedAttention, anchors: AnchorsView, fast_weights: FastWeightsView
    ) -> None:
        self._attn = attn
        self._anchors = anchors
        self._fast_weights = fast_weights

    def see(self, x: Tensor) -> None:
        """Let the fast weights see a chunk."""
        self._fast_weights.see(x)

    def choose(self, anchors: Tensor, tokens: Callable[[], Tensor]) -> None:
        """Keep the anchors' keys and values."""
        self._anchors.choose(anchors, tokens)

    def seen_all(self) -> None:
        """Take one TTT step."""
        self._fast_weights.seen_all()

    def attend(self, x: Tensor) -> Tensor:
        """Ask both."""
        return self._attn.together(self._anchors.attend(x), self._fast_weights.attend(x))

    def memory(self) -> LayerMemory:
        """That of both."""
        fast_weights = self._fast_weights.memory().fast_weights
        return LayerMemory(fast_weights, self._anchors.memory().anchors)


def make_view(attn: AnyGlobalAttention, place: Place) -> SceneView:
    """A layer's view of a scene that is to be mapped."""
    if isinstance(attn, GatedAttention):
        anchors = AnchorsView(attn.anchored, place)
        return GatedView(attn, anchors, FastWeightsView(attn.fast, place))
    if isinstance(attn, TttAttention):
        return FastWeightsView(attn, place)
    views = {"softmax": KeysView, "anchored": AnchorsView, "frame": FrameView}
    return views[attn.keys_of](attn, place)


def remembered_view(attn: AnyGlobalAttention, place: Place, memory: LayerMemory) -> SceneView:
    """A layer's view of a scene that was mapped."""
    if isinstance(attn, GatedAttention):
        anchors = AnchorsView(attn.anchored, place, memory.anchors)
        return GatedView(attn, anchors, FastWeightsView(attn.fast, place, memory.fast_weights))
    if isinstance(attn, TttAttention):
        return FastWeightsView(attn, place, memory.fast_weights)
    if attn.keys_of == "frame":
        return FrameView(attn, place)
    return AnchorsView(attn, place, memory.anchors)
