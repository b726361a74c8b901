"""What fig. 1 of the two highway papers claims, as statistics of the search."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from thruway.experiments.claims import Claim

__all__ = ["CLAIMS", "best_loss"]

Rows = Sequence[Mapping[str, Any]]

_FIRST = "Srivastava, Greff & Schmidhuber 2015 (Highway Networks), sec. 3.1, fig. 1"
_SECOND = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.1, fig. 1"

# Where the paper's curves end. Below it two losses count as equal: their ratio says nothing about depth.
_FLOOR = 1e-5


def best_loss(rows: Rows, block: str, depth: int) -> float:
    """The lowest final training loss of the search at (block, depth), not below 1e-5.

    Infinite if every trial diverged: nothing is worse. NaN if there was no trial.
    """
    losses = [r["final_loss"] for r in rows if (r["block"], r["depth"]) == (block, depth)]
    if not losses:
        return math.nan
    finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    return max(min(finite), _FLOOR) if finite else math.inf


def _depths(rows: Rows, block: str) -> list[int]:
    return sorted({row["depth"] for row in rows if row["block"] == block})


def _deepest_over_shallowest(rows: Rows, block: str) -> float:
    depths = _depths(rows, block)
    if len(depths) < 2:
        return math.nan
    return best_loss(rows, block, depths[-1]) / best_loss(rows, block, depths[0])


def _worst_deep_highway(rows: Rows) -> float:
    depths = _depths(rows, "highway")
    # The shallowest is what the others are measured by; against itself it says nothing.
    deep = [best_loss(rows, "highway", depth) for depth in depths[1:] if depth >= 50]
    if not deep or any(math.isnan(loss) for loss in deep):
        return math.nan
    return max(deep) / best_loss(rows, "highway", depths[0])


def _over_plain(rows: Rows, block: str) -> float:
    shared = sorted(set(_depths(rows, block)) & set(_depths(rows, "plain")))
    if not shared:
        return math.nan
    return best_loss(rows, block, shared[-1]) / best_loss(rows, "plain", shared[-1])


def _epochs_over_plain(rows: Rows) -> float:
    def fastest(block: str, depth: int) -> float:
        return min(float(r["epochs_to_tenth"]) for r in rows if (r["block"], r["depth"]) == (block, depth))

    ratios = []
    for depth in sorted(set(_depths(rows, "highway")) & set(_depths(rows, "plain"))):
        highway, plain = fastest("highway", depth), fastest("plain", depth)
        # Neither got there: NaN. Only plain did not: infinitely faster, which is 0.
        ratios.append(highway / plain)
    known = [ratio for ratio in ratios if not math.isnan(ratio)]
    return statistics.median(known) if known else math.nan


CLAIMS = (
    Claim(
        id="plain-degrades",
        text="Plain nets become much harder to optimise as they get deeper.",
        source=_SECOND,
        statistic="best final loss of plain nets, deepest / shallowest",
        measure=lambda rows: _deepest_over_shallowest(rows, "plain"),
        holds_if=">=",
        threshold=10,
    ),
    Claim(
        id="highway-depth-is-free",
        text="Highway nets of 50 layers and more reach the loss of the shallowest one, or better.",
        source=_SECOND,
        statistic="worst best loss of highway nets of 50 layers or more / that of the shallowest",
        measure=_worst_deep_highway,
        holds_if="<=",
        threshold=1,
    ),
    Claim(
        id="highway-beats-plain",
        text="At the greatest depth the highway net is at least an order of magnitude better than the plain one.",
        source=_SECOND,
        statistic="best final loss at the deepest depth, highway / plain",
        measure=lambda rows: _over_plain(rows, "highway"),
        holds_if="<=",
        threshold=0.1,
    ),
    Claim(
        id="highway-is-faster",
        text="Highway nets converge faster than plain ones of the same depth.",
        source=_SECOND,
        statistic="epochs to a tenth of the loss of guessing, highway / plain, median over depths",
        measure=_epochs_over_plain,
        holds_if="<",
        threshold=1,
    ),
    Claim(
        id="residual-beats-plain",
        text="Residual nets, which the papers did not have, are as far ahead of plain ones.",
        source="Ours; after He et al. 2015",
        statistic="best final loss at the deepest depth, residual / plain",
        measure=lambda rows: _over_plain(rows, "residual"),
        holds_if="<=",
        threshold=0.1,
    ),
)
"""In the order of the report."""
