"""Highway networks converge faster than plain ones of the same depth, for the top tenth of a random search.

Paper     Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.1, fig. 1, right
Protocol  for plain and highway networks of each depth, 100 random settings as in highway2015.depth; training
          cross-entropy against epoch, as the mean over the ten settings with the lowest final loss
Claims    averaged over the epochs, the loss of highway networks is lower than that of plain ones at every depth; at the
          greatest depth it ends an order of magnitude lower; networks of 50 layers and more end like shallow ones
Measured  results/highway2015.convergence-laptop
Cost      demo: 50 seconds on one busy core; laptop: 41 minutes on one busy core; paper: requires a GPU
Differs   as in highway2015.depth, whose search is used: the ranges of the search, and data, trials and epochs at demo
          and laptop scale; the mean is over at least two settings, even if that is more than a tenth
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thruway.experiments.highway2015.depth import Config, member_of
from thruway.experiments.highway2015.depth_search import read_curves, read_rows
from thruway.experiments.machinery.study import Claim, Rows
from thruway.runs import RunReader

__all__ = [
    "CLAIMS",
    "SCALES",
    "Kind",
    "epochs_to_tenth",
    "kinds",
    "lowest_mean",
    "mean_curve",
    "mean_over_epochs",
    "read_top",
    "top_of",
]

SCALES: dict[str, Config] = {
    "demo": Config(blocks=("plain", "highway"), trials=6, epochs=20),
    "laptop": Config(
        scale="laptop",
        data="fashion-mnist",
        examples=3000,
        blocks=("plain", "highway"),
        depths=(10, 20, 50),
        searches=3,
        trials=20,
        epochs=40,
    ),
    "paper": Config(
        scale="paper",
        data="mnist",
        blocks=("plain", "highway"),
        depths=(10, 20, 50, 100),
        searches=3,
        trials=100,
        epochs=400,
        device="cuda",
    ),
}


# --- rows

Kind = tuple[str, int]  # block, depth

# The paper's share: the best 10 of 100 settings.
_TOP_SHARE = 0.1


def top_of(config: Config) -> int:
    """Return the number of top settings, per search, block and depth, that are averaged.

    >>> top_of(SCALES["paper"]), top_of(SCALES["laptop"]), top_of(SCALES["demo"])
    (10, 2, 2)
    """
    return min(config.trials, max(2, round(_TOP_SHARE * config.trials)))


def read_top(reader: RunReader, config: Config) -> list[dict[str, Any]]:
    """Return one row per finished trial, as in highway2015.depth; the top trials of each search also have `losses`.

    The top trials are the tenth with the lowest final loss, for each block and depth.
    """
    rows, curves = read_rows(reader, config), read_curves(reader, config)
    for seed, block, depth in sorted({(row["seed"], row["block"], row["depth"]) for row in rows}):
        mine = [row for row in rows if (row["seed"], row["block"], row["depth"]) == (seed, block, depth)]
        alive = [row for row in mine if math.isfinite(row["final_loss"])]
        for row in sorted(alive, key=lambda row: float(row["final_loss"]))[: top_of(config)]:
            row["losses"] = curves[block, depth, member_of(config, seed - config.seed, row["trial"])].tolist()
    chance = reader.table(quantity="chance_loss")["value"]
    return [{"losses": None, **row, "chance_loss": float(chance[0])} for row in rows]


def kinds(rows: Rows) -> list[Kind]:
    """Return every (block, depth) in the rows."""
    return sorted({(row["block"], row["depth"]) for row in rows})


def mean_curve(rows: Rows, kind: Kind) -> NDArray[np.float64] | None:
    """Return the mean training loss of the top settings after every epoch, (epochs,); None if all diverged."""
    losses = [row["losses"] for row in rows if (row["block"], row["depth"]) == kind and row["losses"] is not None]
    return np.mean(np.array(losses, dtype=np.float64), axis=0) if losses else None


# --- claims. The thresholds were set before any run.
# The meaning of "faster" was settled after a demo on digits. In a first reading, highway networks had to reach the
# plain networks' final loss in fewer epochs, which the paper's own curves of shallow highway networks do not do.

_SOURCE = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.1, fig. 1, right"

# The paper's curves end here. Two lower losses count as equal: their ratio says nothing about depth.
_FLOOR = 1e-5


def lowest_mean(rows: Rows, block: str, depth: int) -> float:
    """Return the lowest mean training loss of the top settings in any epoch, but at least 1e-5.

    It is infinite if all settings diverged, and NaN if there are none.
    """
    if (block, depth) not in kinds(rows):
        return math.nan
    curve = mean_curve(rows, (block, depth))
    return math.inf if curve is None else max(float(curve.min()), _FLOOR)


def mean_over_epochs(rows: Rows, block: str, depth: int) -> float:
    """Return the mean over all epochs of the mean training loss of the top settings; lower means faster.

    It is infinite if all settings diverged, and NaN if there are none.
    """
    if (block, depth) not in kinds(rows):
        return math.nan
    curve = mean_curve(rows, (block, depth))
    return math.inf if curve is None else float(curve.mean())


def epochs_to_tenth(rows: Rows, block: str, depth: int) -> float:
    """Return the first epoch at which the mean of the top settings is a tenth of the chance loss; infinite if never."""
    curve = mean_curve(rows, (block, depth)) if (block, depth) in kinds(rows) else None
    if curve is None:
        return math.inf
    reached = np.flatnonzero(curve <= 0.1 * rows[0]["chance_loss"])
    return float(reached[0] + 1) if reached.size else math.inf


def _shared_depths(rows: Rows) -> list[int]:
    return sorted(
        {depth for block, depth in kinds(rows) if block == "plain"}
        & {depth for block, depth in kinds(rows) if block == "highway"}
    )


def _slowest(rows: Rows) -> float:
    # Infinity over infinity is NaN: if all networks of both kinds diverged, neither was faster.
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
        text="At every depth highway networks converge faster than plain ones.",
        source=_SOURCE,
        statistic="mean over the epochs of the mean training loss of the top settings, highway / plain, at the depth "
        "with the largest ratio",
        measure=_slowest,
        holds_if="<",
        threshold=1,
    ),
    Claim(
        id="highway-ends-lower",
        text="At the greatest depth the mean of the top highway networks ends at least an order of magnitude below "
        "that of the top plain ones.",
        source=f"{_SOURCE} (100 layers)",
        statistic="lowest mean training loss of the top settings at the greatest depth, highway / plain",
        measure=_deepest,
        holds_if="<=",
        threshold=0.1,
    ),
    Claim(
        id="deep-highway-like-shallow",
        text="Highway networks of 50 layers and more reach about the same loss as those of 10 and 20 layers.",
        source=_SOURCE,
        statistic="lowest mean training loss of the top highway networks, worst with at least 50 layers / best with "
        "up to 20",
        measure=_deep_over_shallow,
        holds_if="<=",
        threshold=3,
    ),
)
"""The claims in the order of the report."""
