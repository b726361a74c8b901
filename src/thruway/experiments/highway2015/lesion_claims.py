"""What fig. 4 claims about single layers, as statistics of the rows. The thresholds were set before any run."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from thruway.experiments.claims import Claim
from thruway.experiments.highway2015.lesion import Config

__all__ = ["IDLE", "claims_for", "rises"]

Rows = Sequence[Mapping[str, Any]]

_PAPER = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 4, fig. 4"

IDLE = 0.005
"""A layer whose loss raises the error by less is idle: half a percentage point."""


def rises(rows: Rows, gate: str = "closed", first: float = 1, last: float = math.inf) -> list[float]:
    """By how much the error rises with one layer's gate changed, for the layers from `first` to `last`.

    Empty for a net that has hardly learnt: it has nothing to lose, and that it loses nothing says nothing.
    """
    mine = [row for row in rows if row["gate"] == gate and first <= row["layer"] <= last]
    mine = [row for row in mine if row["intact"] < 0.5 * row["guessing"]]
    return [float(row["error"] - row["intact"]) for row in sorted(mine, key=lambda row: int(row["layer"]))]


def _median_rise(rows: Rows, first: float, last: float) -> float:
    found = rises(rows, first=first, last=last)
    return median(found) if found else math.nan


def _idle_share(rows: Rows) -> float:
    found = rises(rows)
    return sum(rise < IDLE for rise in found) / len(found) if found else math.nan


def _early_share(rows: Rows, early_end: float, end: float) -> float:
    # Below that, rises are chance, and their sum says nothing about where they are.
    early, whole = (sum(rise for rise in rises(rows, last=last) if rise >= IDLE) for last in (early_end, end))
    return early / whole if whole else math.nan


def claims_for(config: Config) -> tuple[Claim, ...]:
    """The claims, about the layers at the paper's shares of this net's depth."""
    from_15, to_45 = round(15 * config.depth / 50), round(45 * config.depth / 50)
    return (
        Claim(
            id="later-layers-idle",
            text="On MNIST layers 15 to 45 of 50 have almost no effect.",
            source=_PAPER,
            statistic=f"rise of the training error (share) when one of the layers {from_15} to {to_45} is shut, median",
            measure=lambda rows: _median_rise(rows, from_15, to_45),
            holds_if="<=",
            threshold=IDLE,
        ),
        Claim(
            id="most-layers-idle",
            text="About 60 % of all layers are idle.",
            source=_PAPER,
            statistic=f"share of the highway layers that raise the training error by less than {IDLE:g} when shut",
            measure=_idle_share,
            holds_if=">=",
            threshold=0.5,
        ),
        Claim(
            id="early-layers-matter",
            text="Of the layers up to 45, the early ones are those that matter.",
            source=_PAPER,
            statistic=f"of the rises by {IDLE:g} or more up to layer {to_45}, the part from layers up to {from_15}",
            measure=lambda rows: _early_share(rows, from_15, to_45),
            holds_if=">=",
            threshold=0.5,
        ),
    )
