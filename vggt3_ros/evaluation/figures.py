"""The figures of an evaluation, of its map and of its queries, and those of several sequences
together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vggt3_ros.evaluation.attempt import Attempt, VerifiedErrors
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.challenge_figures import ChallengeFigures
from vggt3_ros.evaluation.clouds import CloudFigures
from vggt3_ros.evaluation.depth import DepthFigures, LiveDepthFigures
from vggt3_ros.evaluation.drive_figures import DriveFigures
from vggt3_ros.evaluation.metrics import LocalizationErrors
from vggt3_ros.geometry.sim3 import Sim3


@dataclass(frozen=True)
class MapErrors:
    """Errors of the network's poses of all map frames, each after the alignment that makes it
    least.
    """

    frames: float = field(metadata=figure("count"))
    keyframes_with_landmarks: float = field(
        metadata=figure(
            "count",
            "map frames that landmarks tie to each other; position_rms_m, position_max_m and "
            "rotation_median_deg below verified.map are of these alone",
        )
    )
    ate_m: float = field(
        metadata=figure(
            "m",
            "rms position error of the network's map frames after the best Sim(3) of positions;"
            " percent of trajectory_extent_m; null where that Sim(3) draws the positions together",
            named="ate",
        )
    )
    ate_percent: float = field(metadata=figure("% of the extent"))
    pair_rotation_deg: float = field(metadata=figure("deg", "median over all pairs of map frames"))
    pair_direction_deg: float = field(
        metadata=figure(
            "deg", "median over the pairs of map frames at least 1 % of trajectory_extent_m apart"
        )
    )


@dataclass(frozen=True)
class SkippedFrame:
    """A map frame that was not used, and why."""

    frame: str
    reason: str


@dataclass(frozen=True)
class MapFigures:
    """Of the map, with what it took: seconds by the wall and of the processor, in all and per
    stage.
    """

    errors: MapErrors = field(metadata=figure(inline=True))
    depth: DepthFigures = field(metadata=figure(inline=True))
    seconds: float = field(metadata=figure("s"))
    cpu_seconds: float = field(metadata=figure("s"))
    stages: dict[str, float] = field(metadata=figure("s"))
    cpu_stages: dict[str, float] = field(metadata=figure("s"))
    peak_rss_bytes: float = field(metadata=figure("bytes", "of the whole process since its start"))
    peak_cuda_bytes: float | None = field(metadata=figure("bytes", optional=True))
    skipped: tuple[SkippedFrame, ...] | None = field(metadata=figure(optional=True))


@dataclass(frozen=True)
class Baselines:
    """What localization must beat."""

    mean_pose: LocalizationErrors = field(
        metadata=figure(definition="every query is given the mean true pose of the map frames")
    )
    nearest_image: LocalizationErrors = field(
        metadata=figure(
            definition=(
                "every query is given the true pose of the map frame with the most similar 32x24"
                " grey thumbnail"
            )
        )
    )


@dataclass(frozen=True)
class QueryFigures:
    """What became of a query: by the network alone, and verified by landmarks."""

    frame: str
    status: str
    confidence: float = field(metadata=figure("0 to 1"))
    position_m: float = field(metadata=figure("m"))
    rotation_deg: float = field(metadata=figure("deg"))
    verified: Attempt


@dataclass(frozen=True)
class QueryCounts:
    """How many queries were answered by the network alone."""

    total: int = field(metadata=figure("count"))
    answered: int = field(metadata=figure("count"))
    lost: int = field(metadata=figure("count"))


@dataclass(frozen=True)
class Queries(QueryCounts):
    """reasons: of those that were lost, and how often each was given."""

    reasons: dict[str, int] = field(metadata=figure("count"))
    median_seconds: float = field(metadata=figure("s"))
    each: tuple[QueryFigures, ...]


@dataclass(frozen=True)
class VerifiedMap:
    """The landmarks and what they say of the map (report), and errors of the keyframes that carry
    some.

    verified: whether poses can be verified; of several maps, how many can. reason: why, or why not.
    """

    verified: bool | int
    reason: str | None = field(metadata=figure(optional=True))
    report: Mapping[str, Any] = field(metadata=figure(inline=True))
    landmarks: float = field(metadata=figure("count"))
    bytes: float = field(metadata=figure("bytes"))
    position_rms_m: float = field(metadata=figure("m"))
    position_max_m: float = field(metadata=figure("m"))
    rotation_median_deg: float = field(metadata=figure("deg"))


@dataclass(frozen=True)
class VerifiedFigures:
    """Of queries, the landmarks that they were verified with, and challenges if any were posed.

    chi_square_reason: why errors cannot be compared with the covariances, None if they can.
    """

    errors: VerifiedErrors = field(metadata=figure(inline=True))
    chi_square_reason: str | None
    map: VerifiedMap
    challenges: ChallengeFigures | None = field(metadata=figure(optional=True, inline=True))


@dataclass(frozen=True)
class AlignmentFigures:
    """How estimates were aligned to the truth, and why that means nothing where it does; see
    MappedFrames.
    """

    source: str
    collapsed: bool = field(
        metadata=figure(
            definition=(
                "the estimated positions do not follow the truth, so that the Sim(3) draws them"
                " together and errors would be those of the mean pose: every error is infinite"
                " (null), no pose is a success, accepted ones are wrong; alignment.reason tells"
                " why, alignment.network_reason where that holds for the network alone"
            ),
        )
    )
    reason: str | None
    network_reason: str | None
    true_from_estimated: Sim3
    true_from_map: Sim3


@dataclass(frozen=True)
class EvaluationFigures:
    """Of one sequence. input_size (h, w) in pixels. Figures may be infinite or NaN."""

    sequence: str
    split: str
    model: str
    model_fingerprint: str
    device: str
    ttt_steps: int = field(metadata=figure("count"))
    input_size: tuple[int, int] = field(metadata=figure("px"))
    priors: str = field(
        metadata=figure(
            definition=(
                "none; given: the true poses of the map frames, errors are absolute, in the map's"
                " own metres and axes; noisy: true poses with isotropic Gaussian noise, a"
                " displacement and a turn about the camera of these rms lengths; drift: odometry"
                " that measures paths too long or too short by this fraction and turns too far by"
                " this angle per metre, to one side on average, drawn anew every 5 m with as large"
                " a deviation; with noisy or drifting priors or none, errors are measured after"
                " the Sim(3) from the (adjusted) poses of the"
                " keyframes with landmarks to the true ones (of all keyframes where fewer than"
                " three carry some; alignment.source tells)"
            ),
        )
    )
    propose: str = field(
        metadata=figure(
            definition=(
                "what the network's own poses of queries (localization) are made of: the scene's"
                " memory; local: the keyframes most like the query, which pass the network together"
                " with it; both: these where landmarks did not confirm a pose without"
            ),
        )
    )
    neighbours: int = field(
        metadata=figure("count", "keyframes that pass the network together with a query then")
    )
    seed: int
    trajectory_extent_m: float = field(
        metadata=figure(
            "m",
            "diagonal of the axis-parallel bounding box of the true positions of map and query"
            " frames",
        )
    )
    map: MapFigures
    localization: LocalizationErrors = field(
        metadata=figure(
            definition=(
                "the network alone; success and medians count every query, a LOST one as a failure"
                " of infinite error; means are of answered queries; null = infinite or not defined"
            ),
        )
    )
    baselines: Baselines
    queries: Queries
    verified: VerifiedFigures = field(
        metadata=figure(
            definition=(
                "poses refined and accepted by the landmarks; medians and means are of accepted"
                " poses, success_* are shares of all queries; wrong: beyond 0.5 m or 15 degrees;"
                " several sequences: all their queries together"
            ),
        )
    )
    live_depth: LiveDepthFigures = field(
        metadata=figure(
            definition=(
                "the same two of the depth of verified queries, in the map's own metres or those of"
                " its alignment: the network's, or what keyframes know there, as --query-depth"
                " says; ms: mean of refining it"
            ),
        )
    )
    cloud: CloudFigures | None = field(
        metadata=figure(
            definition=(
                "points of the scene against the true surface, which is the fused true depth of the"
                " map frames and of up to 100 others; in metres of the map or of its alignment."
                " Positions are averaged in cubes, the cloud's of side voxel_m (2 cm; 0.8 cm where"
                " the median true depth is below 0.5 m; more where the true surface would take over"
                " four million), the truth's half as large (true_voxel_m). Of more than 150,000"
                " points so many, drawn with a fixed seed, are asked for their nearest one."
                " accuracy_cm: from points to the nearest true ones; completeness_cm: from the true"
                " ones that two map frames or more see (seen_share of all) to the nearest points;"
                " chamfer_cm: mean of both means; normal_consistency: mean |cos| between the"
                " normals of such neighbours, both ways, each told from the nearest 20 points in"
                " cubes of voxel_m; within: shares of points (precision) and of seen true points"
                " (recall) no farther than that, and their harmonic mean (f_score). No such block"
                " without true depth, or where the map does not follow the truth"
            ),
            optional=True,
        )
    )
    cloud_network: CloudFigures | None = field(
        metadata=figure(
            definition=(
                "the same of the points that the network's own depth gives, where those of the"
                " scene are of refined depth"
            ),
            optional=True,
        )
    )
    alignment: AlignmentFigures
    drive: DriveFigures | None = field(metadata=figure(optional=True))
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CollapsedSequences:
    """How many of several sequences have a map that does not follow the truth; the reasons name
    them.
    """

    collapsed: int = field(metadata=figure("count"))
    reason: str | None
    network_reason: str | None


@dataclass(frozen=True)
class AggregateFigures:
    """Of several sequences: medians, but for queries, which are summed, and `verified`, which is of
    all together.
    """

    sequence: str
    sequences: tuple[str, ...]
    propose: str
    trajectory_extent_m: float = field(metadata=figure("m"))
    map: MapFigures
    localization: LocalizationErrors
    baselines: Baselines
    cloud: CloudFigures | None = field(metadata=figure(optional=True))
    cloud_network: CloudFigures | None = field(metadata=figure(optional=True))
    live_depth: LiveDepthFigures
    queries: QueryCounts
    verified: VerifiedFigures
    alignment: CollapsedSequences
