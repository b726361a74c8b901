"""What fig. 8 claims about stochastic depth, as statistics of the rows. Thresholds were set before any run."""

import math

from thruway.experiments.claims import Claim
from thruway.experiments.veit2016.harm import Rows, mean_of
from thruway.experiments.veit2016.lesion_claims import harm_by_k

__all__ = ["CLAIMS", "advantage"]

_SOURCE = "Veit, Wilber & Belongie 2016, fig. 8"


def advantage(rows: Rows) -> float:
    """Mean harm over all numbers of deleted modules, with stochastic depth less without; below 0 it helps."""
    usual, stochastic = harm_by_k(rows, "resnet"), harm_by_k(rows, "stochastic")
    ks = sorted(usual.keys() & stochastic.keys() - {0})
    return mean_of(stochastic[k] - usual[k] for k in ks) if ks else math.nan


_STATISTIC = "mean harm over all numbers of deleted modules, trained with stochastic depth less trained without"

CLAIMS = (
    Claim(
        id="stochastic-depth-is-more-robust",
        text="A net trained with stochastic depth loses less when modules are deleted.",
        source=_SOURCE,
        statistic=_STATISTIC,
        measure=advantage,
        holds_if="<=",
        threshold=0.0,
    ),
    Claim(
        id="only-slightly",
        text="If it does, then only a little.",
        source=_SOURCE,
        statistic=_STATISTIC,
        measure=advantage,
        holds_if=">=",
        threshold=-0.2,
    ),
)
