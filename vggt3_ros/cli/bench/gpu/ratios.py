"""What follows from maps that were timed: ratios to the reference flow and to softmax, the growth
with frames, and whether targets are met.
"""

from __future__ import annotations

from collections.abc import Mapping

from vggt3_ros.cli.bench.command import growth_exponent
from vggt3_ros.cli.bench.gpu import targets
from vggt3_ros.cli.bench.gpu.bench import Bench
from vggt3_ros.cli.bench.gpu.flop import map_flop
from vggt3_ros.cli.bench.gpu.timed_map import STEPS, Pace, Timed
from vggt3_ros.cli.bench.machine import device_name


def of_card(bench: Bench, ours: Pace) -> None:
    """What is asked of the card at the goal's number of frames."""
    timed = ours.timed.get(bench.sizes.goal)
    if timed is None:
        return
    asked = targets.seconds_target(device_name(str(bench.device)))
    if asked is not None:
        asked.judge(bench, timed.seconds, f"{timed.frames} frames")
    targets.PEAK.judge(bench, timed.peak_bytes / 1e9, f"{timed.frames} frames, images included")


def beside_reference(bench: Bench, ours: Pace, theirs: Pace, counts: tuple[int, ...]) -> None:
    """Ratios for those of `counts` that both could map. Targets are held against the most frames
    that both could, once it is among `counts`.
    """
    both = sorted(ours.timed.keys() & theirs.timed.keys())
    for frames in both:
        if frames in counts:
            _ratios(bench, ours.timed[frames], theirs.timed[frames])
    if both and both[-1] in counts:
        mine, plain = ours.timed[both[-1]], theirs.timed[both[-1]]
        of = f"{mine.frames} frames"
        if mine.frames != bench.sizes.goal:
            of += ", the most that both could so far"
        targets.FASTER.judge(bench, plain.seconds / mine.seconds, of)
        targets.LEANER.judge(bench, _leaner(mine, plain), of)


def _ratios(bench: Bench, mine: Timed, plain: Timed) -> None:
    faster = plain.seconds / mine.seconds
    leaner = _leaner(mine, plain)
    apart = (plain.peak_bytes - plain.images_bytes) / max(1, mine.peak_bytes - mine.images_bytes)
    text = f"{faster:.2f} times faster, {leaner:.2f} times leaner than the reference flow"
    text += f" ({apart:.2f} without images)"
    figures = {"faster": faster, "leaner": leaner, "leaner_without_images": apart}
    bench.record(f"ratios at {mine.frames}", text, frames=mine.frames, **figures)


def _leaner(mine: Timed, plain: Timed) -> float:
    return plain.peak_bytes / max(1, mine.peak_bytes)


def exponent(bench: Bench, ours: Pace) -> None:
    """How seconds grow with frames, from where the start costs nothing any more."""
    rows = [timed for n, timed in sorted(ours.timed.items()) if n >= bench.sizes.exponent_from]
    slope = growth_exponent(rows)
    if slope is not None:
        targets.EXPONENT.judge(bench, slope, f"frames {', '.join(str(r.frames) for r in rows)}")


def beside_softmax(bench: Bench, ours: Pace, softmax: Pace) -> None:
    """The ratio at the goal's frames, which softmax is too slow for: its seconds are
    extrapolated.
    """
    goal = bench.sizes.goal
    if not softmax.timed or goal not in ours.timed:
        return
    seconds, how = softmax_seconds(bench, softmax.timed, goal)
    name = f"softmax at {goal}"
    bench.record(name, f"{seconds:.1f} s, {how}", frames=goal, seconds=seconds, extrapolated=True)
    targets.SOFTMAX.judge(bench, seconds / ours.timed[goal].seconds, f"{goal} frames, {how}")


def softmax_seconds(bench: Bench, timed: Mapping[int, Timed], frames: int) -> tuple[float, str]:
    """What mapping would take, and how that is known: b n + c n^2 through the shortest and the
    longest map, or in proportion to the operations where there is one map, or where that has no
    positive b and c.
    """
    few, most = min(timed), max(timed)
    if few < most:
        of_few, of_most = timed[few].seconds / few, timed[most].seconds / most  # a frame's
        c = (of_most - of_few) / (most - few)
        b = of_few - c * few
        if b >= 0 and c >= 0:
            how = f"extrapolated by b n + c n^2 from {few} and {most} frames"
            return b * frames + c * frames**2, how
    config, size = bench.sizes.softmax, bench.sizes.image_hw
    flop = map_flop(config, frames, size, STEPS) / map_flop(config, most, size, STEPS)
    return timed[most].seconds * flop, f"extrapolated by operations from {most} frames"
