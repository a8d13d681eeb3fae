"""The network's part of a map: which of its frames are fitted, and how, by a budget or without."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.pipeline.mapping import NetworkSettings, map_views
from vggt3_ros.pipeline.planning import Chosen, Planning
from vggt3_ros.pipeline.preprocess import PreparedFrames
from vggt3_ros.pipeline.views import Views, choose_views
from vggt3_ros.progress import StageProgress
from vggt3_ros.ranks import Ranks


def choose_frames(
    prepared: PreparedFrames,
    settings: NetworkSettings,
    planning: Planning | None,
    ranks: Ranks | None = None,
    announce: Callable[[str], None] | None = None,
) -> Chosen:
    """Which frames are used, and which of them the map is fitted to: all, those that show something
    new, or those that a budget suffices for. announce: told what is going to be done with one.
    """
    if planning is not None:
        chosen = planning.choose(prepared)
        if announce is not None:
            announce(planning.told())
        return chosen
    count = len(prepared.images)
    views = Views.all_fitted(count)
    if settings.redundant_views == "query":
        processes = 1 if ranks is None else min(ranks.world, count)
        views = choose_views(prepared.images, max(2, processes))
    return Chosen(torch.arange(count), prepared, views, None)


def map_chosen(
    network: Vggt3,
    chosen: Chosen,
    settings: NetworkSettings,
    planning: Planning | None,
    progress: StageProgress | None,
    ranks: Ranks | None = None,
) -> tuple[Prediction, SceneMemory]:
    """The network's prediction of chosen frames, and the memory, as map_views gives them. Raises
    InputError where there is too little memory for it.
    """
    views = chosen.views
    if planning is not None:
        settings = planning.settings
    fitted, queried = len(views.fitted), len(views.queried)
    if ranks is not None:
        fitted, queried = (len(range(*ranks.share(n).indices(n))) for n in (fitted, queried))
    fit = settings.fit(network, chosen.prepared.size_hw, fitted, queried)
    if planning is not None:
        return planning.map(chosen, fit, progress)
    return map_views(network, chosen.prepared.images, views, settings, fit, progress, ranks)
