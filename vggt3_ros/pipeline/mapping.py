"""A map by the network of frames of which some show nothing new."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.model.streaming import chunks
from vggt3_ros.pipeline.memory_check import MapFit
from vggt3_ros.pipeline.views import Views
from vggt3_ros.progress import StageProgress
from vggt3_ros.ranks import Ranks


@dataclass(frozen=True)
class NetworkSettings:
    """How the network maps: TTT steps, anchors (None for as many as it was trained with), whether
    its point head is run, and what memory permits.
    """

    steps: int
    anchors: int | None
    pointmap: bool
    fit: MapFit


def map_views(
    network: Vggt3,
    images: Tensor,
    views: Views,
    settings: NetworkSettings,
    progress: StageProgress | None = None,
    ranks: Ranks | None = None,
) -> tuple[Prediction, SceneMemory]:
    """Map the fitted ones of images (S, 3, h, w), and localize the queried ones in that map: the
    prediction of all in their order, on the CPU, and the memory.

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
        settings.fit.chunk,
        report,
        ranks,
        settings.fit.resident,
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
    for part in chunks(len(own), settings.fit.chunk):
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
