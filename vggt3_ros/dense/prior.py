"""The network's depth with its scale corrected where landmarks tell, carried on to where they do
not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.dense.fill import carried_on
from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.se3 import se3_inverse, transform_points


def usable_prediction(keyframes: Keyframes) -> Tensor:
    """Predicted depth (S, h, w), with that of the median pixel (1 m if there is none) where it says
    nothing.
    """
    predicted = keyframes.predicted.float()
    known = predicted.isfinite() & (predicted > 0)
    middle = (
        torch.where(known, predicted, torch.nan).flatten(1).nanmedian(dim=1).values.nan_to_num(1.0)
    )
    return torch.where(known, predicted, middle[:, None, None])


def corrected(predicted: Tensor, keyframes: Keyframes, grey: Tensor, batch: Tensor) -> Tensor:
    """Depth (B, h, w) of the keyframes `batch` (B,), of usable predicted depth and grey images (S,
    h, w).
    """
    height, width = keyframes.size_hw
    logs = torch.zeros_like(predicted[batch])
    weight = torch.zeros_like(predicted[batch])
    for place, index in enumerate(batch.tolist()):
        points = keyframes.points[keyframes.observed[keyframes.observed_from == index]].double()
        cam_from_world = se3_inverse(keyframes.world_from_cam[index].double())
        pixels, z = project(
            transform_points(cam_from_world, points), keyframes.intrinsics[index].double()
        )
        column, row = (
            pixels.nan_to_num(-1.0).round().clamp(-1, max(height, width)).long().unbind(-1)
        )
        inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        column = column[inside]
        row = row[inside]
        z = z[inside].float()
        ratio = (z / predicted[index, row, column]).log()
        logs[place].index_put_((row, column), ratio, accumulate=True)
        weight[place].index_put_((row, column), torch.ones_like(ratio), accumulate=True)
    logs = logs / weight.clamp(min=1)
    correction = carried_on(logs[:, None], weight.clamp(max=1)[:, None], grey[batch][:, None])
    return predicted[batch] * correction[:, 0].exp()
