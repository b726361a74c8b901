"""What sec. 4.1 claims about the two costs, as statistics of the draws."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from thruway.experiments.claims import Claim
from thruway.experiments.glorot2010.cost_surface import Config

__all__ = ["claims_for", "shares"]

Rows = Sequence[Mapping[str, Any]]

_SOURCE = "Glorot & Bengio 2010, sec. 4.1, fig. 5"


def shares(
    rows: Rows, cost: str, reach: float, fraction: float, kind: Literal["flat", "stuck"] = "flat"
) -> list[float]:
    """The share of each draw's surface, in the order of the draws."""
    mine = [row for row in rows if (row["cost"], row["reach"]) == (cost, reach)]
    return [row[kind][f"{fraction:g}"] for row in sorted(mine, key=lambda row: (row["seed"], row["draw"]))]


def claims_for(config: Config) -> tuple[Claim, ...]:
    """The claims, about the square and the fraction that the config says."""
    where = f"weights from {-config.reach:g} to {config.reach:g}, gradient below {config.fraction:g} of the steepest"

    def both(rows: Rows, kind: Literal["flat", "stuck"] = "flat") -> tuple[list[float], list[float]]:
        quadratic, entropy = (
            shares(rows, cost, config.reach, config.fraction, kind) for cost in ("quadratic", "cross-entropy")
        )
        return quadratic, entropy

    def ratio(rows: Rows) -> float:
        quadratic, entropy = both(rows)
        if not quadratic or not entropy:
            return math.nan
        return fmean(quadratic) / fmean(entropy) if fmean(entropy) else math.inf if fmean(quadratic) else math.nan

    def wins(rows: Rows) -> float:
        pairs = list(zip(*both(rows), strict=True))
        return fmean(quadratic > entropy for quadratic, entropy in pairs) if pairs else math.nan

    def stuck(rows: Rows) -> float:
        quadratic, entropy = both(rows, "stuck")
        return fmean(quadratic) - fmean(entropy) if quadratic and entropy else math.nan

    return (
        Claim(
            id="quadratic-flatter",
            text="The quadratic cost has the more severe plateaus.",
            source=_SOURCE,
            statistic=f"flat share of the surface, quadratic / cross-entropy, means over draws; {where}",
            measure=ratio,
            holds_if=">=",
            threshold=1.5,
        ),
        Claim(
            id="quadratic-flatter-in-most-draws",
            text="That is no accident of one net.",
            source="Ours; the paper shows one net",
            statistic="share of the draws in which the quadratic cost is flat over more of the surface",
            measure=wins,
            holds_if=">=",
            threshold=0.8,
        ),
        Claim(
            id="quadratic-stuck",
            text="Its plateaus also lie where the net is no better than a guess.",
            source="Ours; what makes a plateau harmful",
            statistic="share of the surface that is flat at the cost of guessing or above, quadratic - cross-entropy",
            measure=stuck,
            holds_if=">=",
            threshold=0.05,
        ),
    )
