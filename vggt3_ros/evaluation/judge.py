"""From what a localizer answers to what it is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.evaluation.attempt import Attempt, chi_square, transformed_covariance
from vggt3_ros.evaluation.metrics import pose_errors
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.acceptance import LocateSettings
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus


@dataclass(frozen=True, eq=False)
class Judge:
    """Compares localizations in a map with the truth; `gate` is what poses were asked to show.

    true_from_map: None where the map's positions do not follow the truth, and every error is
    infinite.
    """

    true_from_map: Sim3 | None
    gate: LocateSettings

    def attempt(
        self, name: str, localization: Localization, true: Tensor | None, answerable: bool = False
    ) -> Attempt:
        """The attempt at query `name` whose true world_from_cam (4, 4) is known, or None if it
        shows another place.
        """
        located = localization.located
        if located is None:
            return Attempt(
                name,
                False,
                answerable,
                reason=localization.reason,
                seconds=localization.seconds,
                cpu_seconds=localization.cpu_seconds,
            )
        accepted = localization.status is LocalizationStatus.VERIFIED
        position = math.inf
        rotation = math.inf
        square = math.nan
        if (
            located.world_from_cam is not None
            and true is not None
            and self.true_from_map is not None
        ):
            estimated = self.true_from_map.poses(torch.from_numpy(located.world_from_cam))
            errors = pose_errors([estimated], true[None])
            position = float(errors[0][0])
            rotation = float(errors[1][0])
            # otherwise of the map's shape alone
            if localization.covariance is not None and localization.metric:
                covariance = transformed_covariance(localization.covariance, self.true_from_map)
                square = chi_square(estimated, covariance, true)
        return Attempt(
            name=name,
            accepted=accepted,
            answerable=answerable,
            position_m=position,
            rotation_deg=rotation,
            chi_square=square,
            evidence=located.evidence,
            gate=self.gate,
            source=located.source,
            reason=localization.reason,
            seconds=localization.seconds,
            cpu_seconds=localization.cpu_seconds,
        )
