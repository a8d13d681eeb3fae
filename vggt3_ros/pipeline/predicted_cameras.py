"""The cameras that a network predicts, as the rest of the pipeline stores and reports them."""

from __future__ import annotations

import math

from torch import Tensor

from vggt3_ros.errors import Vggt3Error
from vggt3_ros.geometry.camera import decode_camera
from vggt3_ros.model.prediction import Prediction, QueriedCameras

_LEAST_VIEW, _LARGEST_VIEW = math.radians(1), math.radians(170)


def require_finite(prediction: Prediction) -> None:
    """Raise Vggt3Error for cameras that hold NaN or infinity."""
    if not bool(prediction.pose_encoding.isfinite().all()):
        raise Vggt3Error(
            "the network returned poses that are not finite: its weights are damaged or the precision is too low; "
            "try another checkpoint or fp32"
        )


def predicted_cameras(prediction: Prediction | QueriedCameras) -> tuple[Tensor, Tensor]:
    """cam_from_world (S, 3, 4) and intrinsics (S, 3, 3) in double, so that poses are rigid to 1e-15.

    Fields of view are limited to 1 to 170 degrees: a network may say 0, which no camera has. The prediction must
    be finite.
    """
    encoding = prediction.pose_encoding.double().clone()
    encoding[:, 7:] = encoding[:, 7:].clamp(_LEAST_VIEW, _LARGEST_VIEW)
    return decode_camera(encoding, prediction.size_hw)
