"""What became of challenges, and what other limits of acceptance would let through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from itertools import chain

from vggt3_ros.evaluation.attempt import Attempt
from vggt3_ros.evaluation.blocks import figure

# Limits that the trade-offs try.
_INLIERS = tuple(range(6, 41))
_FRACTIONS = tuple(number / 20 for number in range(17))


@dataclass(frozen=True)
class ChallengeCounts:
    """Of the queries of a kind."""

    queries: int = field(metadata=figure("count"))
    accepted: int = field(metadata=figure("count"))
    wrong_accepted: int = field(metadata=figure("count"))


@dataclass(frozen=True)
class Failure:
    """A wrong pose that was accepted, and the kind of its query."""

    kind: str
    attempt: Attempt = field(metadata=figure(inline=True))


@dataclass(frozen=True)
class TradeOff:
    """For every value of a limit (limits: its name and the values) that might be asked for, how
    many of the answerable queries would be accepted, how many in all, and how many of these,
    queries and challenges, would be wrong.
    """

    limits: Mapping[str, tuple[float, ...]] = field(metadata=figure(inline=True))
    answerable_accepted: tuple[int, ...] = field(metadata=figure("count"))
    accepted: tuple[int, ...] = field(metadata=figure("count"))
    wrong_accepted: tuple[int, ...] = field(metadata=figure("count"))


@dataclass(frozen=True)
class ChallengeFigures:
    """Accepted and wrongly accepted challenges per kind and, with the plain queries, in all;
    failures; trade-offs.
    """

    challenges: dict[str, ChallengeCounts] = field(
        metadata=figure(
            "",
            "frames of the other folders evaluated together with this one, of other rooms"
            " (corridors, yards), of such of other layout painted like this one, answerable queries"
            " whose other half shows another room (a place that holds a copy of the first), and"
            " mirrored ones (every accepted pose is wrong); views of parts that no map frame shows,"
            " and answerable queries made black, dark, blurred or half covered; in_all: with the"
            " plain queries; trade_off, trade_off_support, trade_off_agreement: counts over the"
            " inliers, the support (where agreement is not strong) or the agreement that is asked"
            " for; failures: every wrong pose that was accepted",
        )
    )
    in_all: ChallengeCounts
    failures: tuple[Failure, ...]
    trade_off: TradeOff
    trade_off_support: TradeOff
    trade_off_agreement: TradeOff


def challenge_figures(
    queries: Items[Attempt], attempts: Mapping[str, Items[Attempt]]
) -> ChallengeFigures:
    """Of the plain queries, and of the attempts at challenges of each kind.

    Where a trade-off asks for less than was asked for, it includes attempts against which nothing
    else is known.
    """
    every_kind = {"query": queries, **attempts}
    everything = list(chain.from_iterable(every_kind.values()))
    return ChallengeFigures(
        challenges={kind: _counts(each) for kind, each in attempts.items()},
        in_all=_counts(everything),
        failures=tuple(_failures(every_kind)),
        trade_off=_trade_off("min_inliers", _INLIERS, everything),
        trade_off_support=_trade_off("min_support", _FRACTIONS, everything),
        trade_off_agreement=_trade_off("min_agreement", _FRACTIONS, everything),
    )


def _failures(attempts: Mapping[str, Items[Attempt]]) -> Iterator[Failure]:
    for kind, some in attempts.items():
        for each in some:
            if each.accepted and not each.is_right:
                yield Failure(kind, each)


def _trade_off(name: str, values: tuple[float, ...], attempts: Items[Attempt]) -> TradeOff:
    answerable: list[int] = []
    accepted: list[int] = []
    wrong: list[int] = []
    for least in values:
        passing = [each for each in attempts if each.passes(**{name: least})]
        answerable.append(sum(each.answerable for each in passing))
        accepted.append(len(passing))
        wrong.append(sum(not each.is_right for each in passing))
    return TradeOff({name: values}, tuple(answerable), tuple(accepted), tuple(wrong))


def _counts(attempts: Items[Attempt]) -> ChallengeCounts:
    accepted = [each for each in attempts if each.accepted]
    wrong = sum(not each.is_right for each in accepted)
    return ChallengeCounts(len(attempts), len(accepted), wrong)
