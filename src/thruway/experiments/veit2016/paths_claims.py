"""What secs. 4.4 and 5 claim about paths, as statistics of the rows. The thresholds were set before any run."""

import math

import numpy as np

from thruway.experiments.claims import Claim
from thruway.experiments.veit2016.harm import Rows, only
from thruway.experiments.veit2016.paths import Config

__all__ = ["claims_for", "decay"]

_PAPER = "Veit, Wilber & Belongie 2016"


def _middling(rows: Rows, depth: int) -> float:
    found = only(rows, what="sampled")
    reach = 1.2 * math.sqrt(depth)
    return sum(row["paths"] for row in found if abs(row["length"] - depth / 2) <= reach) if found else math.nan


def decay(rows: Rows) -> tuple[float, float]:
    """(factor on a path's gradient per further module, R^2 of that law); NaN where there is no gradient."""
    found = [(row["length"], row["gradient"]) for row in only(rows, what="sampled") if row["gradient"] > 0]
    if len(found) < 3:
        return math.nan, math.nan
    lengths, logs = np.array([length for length, _ in found], float), np.log([gradient for _, gradient in found])
    slope, offset = np.polyfit(lengths, logs, 1)
    left = logs - (slope * lengths + offset)
    return float(np.exp(slope)), float(1 - left.var() / logs.var())


def _falls(rows: Rows) -> float:
    factor, fit = decay(rows)
    return fit if factor < 1 else -fit


def _whole(rows: Rows, what: str, key: str) -> float:
    found = only(rows, what=what)
    return float(found[0][key]) if found else math.nan


def claims_for(config: Config) -> tuple[Claim, ...]:
    """The claims, about a net of so many modules."""
    n = config.depth
    return (
        Claim(
            id="lengths-binomial",
            text="Nearly all paths are of middling length.",
            source=f"{_PAPER}, fig. 6a (19 to 35 of 54 modules: over 95 %)",
            statistic=f"share of the paths whose length is within {1.2 * math.sqrt(n):.1f} (1.2 sqrt(n)) of {n / 2:g}",
            measure=lambda rows: _middling(rows, n),
            holds_if=">=",
            threshold=0.95,
        ),
        Claim(
            id="gradient-falls-exponentially",
            text="The gradient along a path falls exponentially with its length.",
            source=f"{_PAPER}, fig. 6b",
            statistic="R^2 of a straight line through log(mean norm along a path) against length; negative if it rises",
            measure=_falls,
            holds_if=">=",
            threshold=0.9,
        ),
        Claim(
            id="short-paths-contribute",
            text="What all paths of a length carry comes from short ones.",
            source=f"{_PAPER}, fig. 6c (5 to 17 of 54: about 0.2 of the modules)",
            statistic="mean path length, weighted by mean norm x number of paths, over the number of modules "
            "(0.5 for all paths alike)",
            measure=lambda rows: _whole(rows, "sampled_whole", "depth") / n,
            holds_if="<=",
            threshold=0.35,
        ),
        Claim(
            id="few-paths-contribute",
            text="Those are few of all paths.",
            source=f"{_PAPER}, fig. 6c (0.45 %)",
            statistic="share of all paths that have the fewest lengths in a row that carry 95 %",
            measure=lambda rows: _whole(rows, "sampled_whole", "effective_paths"),
            holds_if="<=",
            threshold=0.1,
        ),
        Claim(
            id="short-paths-exactly",
            text="So it is when the gradients of all paths are added up, not sampled.",
            source="Ours; the paper multiplies the mean norm of single paths by their number",
            statistic="mean path length, weighted by the norm of the exact sum over all paths of a length, over the "
            "number of modules",
            measure=lambda rows: _whole(rows, "exact_whole", "depth") / n,
            holds_if="<=",
            threshold=0.35,
        ),
    )
