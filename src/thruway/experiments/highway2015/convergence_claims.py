"""What the right of fig. 1 claims, as statistics of the rows. The thresholds were set before any run.

What "faster" means was settled after a demo on digits: a first reading, fewer epochs to where plain nets end, asked of
shallow highway nets more than the paper's own curves give.
"""

import math

import numpy as np

from thruway.experiments.claims import Claim
from thruway.experiments.highway2015.convergence_rows import Rows, kinds, mean_curve

__all__ = ["CLAIMS", "epochs_to_tenth", "lowest_mean", "mean_over_epochs"]

_SOURCE = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.1, fig. 1, right"

# Where the paper's curves end. Below it two losses count as equal: their ratio says nothing about depth.
_FLOOR = 1e-5


def lowest_mean(rows: Rows, block: str, depth: int) -> float:
    """The lowest mean training loss of the top settings in any epoch, not below 1e-5.

    Infinite if all settings diverged; NaN if there was none.
    """
    if (block, depth) not in kinds(rows):
        return math.nan
    curve = mean_curve(rows, (block, depth))
    return math.inf if curve is None else max(float(curve.min()), _FLOOR)


def mean_over_epochs(rows: Rows, block: str, depth: int) -> float:
    """The mean over all epochs of the mean training loss of the top settings: the lower, the sooner it fell.

    Infinite if all settings diverged; NaN if there was none.
    """
    if (block, depth) not in kinds(rows):
        return math.nan
    curve = mean_curve(rows, (block, depth))
    return math.inf if curve is None else float(curve.mean())


def epochs_to_tenth(rows: Rows, block: str, depth: int) -> float:
    """Epochs until the mean of the top settings is a tenth of the loss of guessing; infinite if it never is."""
    curve = mean_curve(rows, (block, depth)) if (block, depth) in kinds(rows) else None
    if curve is None:
        return math.inf
    there = np.flatnonzero(curve <= 0.1 * rows[0]["chance_loss"])
    return float(there[0] + 1) if there.size else math.inf


def _shared_depths(rows: Rows) -> list[int]:
    return sorted(
        {depth for block, depth in kinds(rows) if block == "plain"}
        & {depth for block, depth in kinds(rows) if block == "highway"}
    )


def _slowest(rows: Rows) -> float:
    # Infinity over infinity is no number: where all nets of both kinds diverged, neither was faster.
    found = [
        mean_over_epochs(rows, "highway", depth) / mean_over_epochs(rows, "plain", depth)
        for depth in _shared_depths(rows)
    ]
    return math.nan if not found or any(map(math.isnan, found)) else max(found)


def _deepest(rows: Rows) -> float:
    depths = _shared_depths(rows)
    return lowest_mean(rows, "highway", depths[-1]) / lowest_mean(rows, "plain", depths[-1]) if depths else math.nan


def _deep_over_shallow(rows: Rows) -> float:
    depths = sorted(depth for block, depth in kinds(rows) if block == "highway")
    deep, shallow = [depth for depth in depths if depth >= 50], [depth for depth in depths if depth <= 20]
    if not deep or not shallow:
        return math.nan
    worst, best = (
        pick(lowest_mean(rows, "highway", depth) for depth in chosen) for pick, chosen in ((max, deep), (min, shallow))
    )
    return worst / best


CLAIMS = (
    Claim(
        id="highway-is-faster-everywhere",
        text="At every depth highway nets converge faster than plain ones.",
        source=_SOURCE,
        statistic="mean over the epochs of the mean training loss of the top settings, highway / plain, at the depth "
        "where that is largest",
        measure=_slowest,
        holds_if="<",
        threshold=1,
    ),
    Claim(
        id="highway-ends-lower",
        text="At the greatest depth the mean of the top highway nets ends at least an order of magnitude below that of "
        "the top plain ones.",
        source=f"{_SOURCE} (100 layers)",
        statistic="lowest mean training loss of the top settings at the deepest depth, highway / plain",
        measure=_deepest,
        holds_if="<=",
        threshold=0.1,
    ),
    Claim(
        id="deep-highway-like-shallow",
        text="Highway nets of 50 layers and more end about where those of 10 and 20 do.",
        source=_SOURCE,
        statistic="lowest mean training loss of the top highway nets, worst of 50 layers and more / best of up to 20",
        measure=_deep_over_shallow,
        holds_if="<=",
        threshold=3,
    ),
)
"""In the order of the report."""
