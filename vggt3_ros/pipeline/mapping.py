"""A map by the network of frames of which some show nothing new."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.model.streaming import chunks
from vggt3_ros.pipeline.budget import Budget
from vggt3_ros.pipeline.held_out import BETTER, HeldOut
from vggt3_ros.pipeline.memory_check import MapFit, bytes_within, fit_map
from vggt3_ros.pipeline.views import RedundantViews, Views
from vggt3_ros.progress import StageProgress
from vggt3_ros.ranks import Ranks


@dataclass(frozen=True)
class NetworkSettings:
    """How the network maps: TTT steps, frames that pass together (None: as many as memory permits),
    anchors (None: as many as it was trained with), what becomes of frames that show nothing new,
    whether its point head is run, the long side of its images in pixels (None: what it was trained
    at, or what a budget suffices for).

    budget: what the map may take. memory_limit_bytes replaces what the system says is available on
    the network's device.
    """

    steps: int
    chunk: int | None
    anchors: int | None
    redundant_views: RedundantViews
    budget: Budget | None
    pointmap: bool = False
    memory_limit_bytes: int | None = None
    image_size: int | None = None

    def image_sizes(self, network: Vggt3) -> tuple[int, ...]:
        """Long sides in pixels that images may have, the one that is wished first. Raises
        InputError where the network does not take the one that was given.
        """
        known = network.config.image_sizes
        if self.image_size is None:
            return known
        if self.image_size not in known:
            sides = " or ".join(map(str, known))
            raise InputError(
                f"image_size is {self.image_size}; images for {network.model_id} have a long side"
                f" of {sides} pixels"
            )
        return (self.image_size,)

    def fit(self, network: Vggt3, size_hw: tuple[int, int], fitted: int, queried: int) -> MapFit:
        """How the network maps `fitted` images of a size, and localizes `queried` ones in the map,
        in the memory that there is. Raises InputError where it does not suffice.
        """
        given = None if self.budget is None else self.budget.memory_bytes
        return fit_map(
            network,
            fitted,
            size_hw,
            self.chunk,
            bytes_within(network.device, given, self.memory_limit_bytes),
            self.pointmap,
            queried,
            self.anchors,
        )


def check_anchors(network: Vggt3, anchors: int | None) -> None:
    """Raise InputError where a number of anchors is given to a network that keeps none."""
    if anchors is not None and not network.config.has_anchors:
        raise InputError(
            f"anchors is {anchors}, but no layer of {network.model_id} attends to anchors; leave it"
            " out, or take a network with layers of kind anchored"
        )


def map_views(
    network: Vggt3,
    images: Tensor,
    views: Views,
    settings: NetworkSettings,
    fit: MapFit,
    progress: StageProgress | None = None,
    ranks: Ranks | None = None,
) -> tuple[Prediction, SceneMemory]:
    """Map the fitted ones of images (S, 3, h, w), and localize the queried ones in that map: the
    prediction of all in their order, on the CPU, and the memory. fit: that of the settings.

    ranks: processes that do it together; the first one's prediction is of all, that of others of
    what was theirs.
    """
    fitted = len(views.fitted)
    share = fitted / max(1, fitted + len(views.queried))

    def report(stage: str, fraction: float) -> None:
        if progress is not None:
            progress(stage, share * fraction)

    mapped, memory = network.map(
        images if views.is_all_fitted else images[views.fitted],
        settings.steps,
        fit.chunk,
        report,
        ranks,
        fit.resident,
        settings.pointmap,
        settings.anchors,
    )
    mapped = mapped.to("cpu")
    if ranks is not None:
        mapped = mapped.collected(ranks, fitted)
    if views.is_all_fitted:
        return mapped, memory
    own = views.queried if ranks is None else views.queried[ranks.share(len(views.queried))]
    parts = [mapped[:0]]
    for part in chunks(len(own), fit.chunk):
        found = network.query_undecoded(images[own[part]], memory, pointmap=settings.pointmap)
        parts.append(found.decode().to("cpu"))
        if progress is not None:
            progress("queries", share + (1 - share) * part.stop / len(own))
    queried = Prediction.joined(parts)
    if ranks is not None:
        queried = queried.collected(ranks, len(views.queried))
        if not ranks.first:
            return mapped, memory
    place = torch.empty(len(images), dtype=torch.int64)
    place[views.fitted] = torch.arange(fitted)
    place[views.queried] = fitted + torch.arange(len(views.queried))
    place[views.repeated] = place[views.repeats]
    return Prediction.joined([mapped, queried])[place], memory


@dataclass(frozen=True)
class Trial:
    """A map in so many TTT steps, how much held-out frames disagreed with it (see HeldOut), and
    whether it was the best so far.
    """

    steps: int
    disagreement: float
    kept: bool


def map_in_trials(
    network: Vggt3,
    images: Tensor,
    views: Views,
    held_out: HeldOut,
    settings: NetworkSettings,
    fit: MapFit,
    trials: int,
    may_go_on: Callable[[float], bool],
    progress: StageProgress | None = None,
) -> tuple[Prediction, SceneMemory, list[Trial]]:
    """As `map_views`, in up to `trials` further steps, each kept only if frames that are not
    fitted, and localized in the map, agree better with it. The first that does not ends it, or
    may_go_on(seconds that the next one is going to take).
    """

    def made(number: int) -> tuple[Prediction, SceneMemory, float]:
        def report(stage: str, fraction: float) -> None:
            if progress is not None:
                progress(stage, (number + fraction) / (trials + 1))

        how = replace(settings, steps=settings.steps + number)
        prediction, memory = map_views(network, images, views, how, fit, report)
        prediction.require_finite_cameras()
        return prediction, memory, held_out.disagreement(prediction)

    begin = time.perf_counter()
    prediction, memory, least = made(0)
    record = [Trial(settings.steps, least, True)]
    for number in range(1, trials + 1):
        now = time.perf_counter()
        if not may_go_on(1.2 * (now - begin)):
            break
        begin = now
        tried, its_memory, disagreement = made(number)
        kept = disagreement < BETTER * least
        record.append(Trial(settings.steps + number, disagreement, kept))
        if not kept:
            break
        prediction, memory, least = tried, its_memory, disagreement
    return prediction, memory, record
