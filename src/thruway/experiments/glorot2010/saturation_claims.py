"""What figs. 2, 3, 4 and 10 of the paper claim, as statistics of the nets of one seed."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from thruway.experiments.claims import Claim

__all__ = ["CLAIMS", "late_layers"]

Rows = Sequence[Mapping[str, Any]]

_FIG_2 = "Glorot & Bengio 2010, sec. 3.1, fig. 2"
_FIG_3 = "Glorot & Bengio 2010, sec. 3.2 and 3.3, fig. 3"
_FIG_4 = "Glorot & Bengio 2010, sec. 3.3, fig. 4"
_FIG_10 = "Glorot & Bengio 2010, sec. 4.3, fig. 10"

# Fewer updates than these cannot tell a net that stays where it is from one that has not had its time: at the rate of
# the laptop scale nets of width 100 needed about half of them.
_ENOUGH = 100_000


def _of(measure: Callable[..., float], *nets: str) -> Callable[[Rows], float]:
    """A measure of the rows of these nets; NaN if one is missing or has diverged."""

    def measured(rows: Rows) -> float:
        found = {row["net"]: row for row in rows if not row["diverged"]}
        return measure(*(found[net] for net in nets)) if set(nets) <= set(found) else math.nan

    return measured


def _number(name: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda row: math.nan if row[name] is None else float(row[name])


def _freed_in_time(row: Mapping[str, Any]) -> float:
    if row["freed"] is None or (row["escapes_at"] is None and row["updates"] < _ENOUGH):
        return math.nan
    return float(row["freed"])


def _freed_meanwhile(deep: Mapping[str, Any], shallow: Mapping[str, Any]) -> float:
    """Staying down says something of depth only while the shallower net comes up."""
    return math.nan if deep["freed"] is None or shallow["escapes_at"] is None else float(deep["freed"])


def late_layers(saturates_at: Sequence[int | None]) -> float:
    """How many layers are not later than the one below them; NaN if fewer than three have saturated.

    >>> late_layers([100, 300, 200, None, None]), late_layers([None, 100, 200])
    (1.0, nan)
    """
    known = [math.inf if at is None else at for at in saturates_at]
    if sum(math.isfinite(at) for at in known) < 3:
        return math.nan
    return float(sum(upper <= lower and math.isfinite(upper) for lower, upper in itertools.pairwise(known)))


def _largest(name: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], float]:
    return lambda one, other: max(one[name]) / max(max(other[name]), 1e-9)


def _peaks(row: Mapping[str, Any]) -> float:
    return min(float(row["ends"][0]), float(row["middle"][-1]))


CLAIMS = (
    Claim(
        id="top-sigmoid-falls",
        text="The top layer of a deep sigmoid net is driven to 0, its lower end, at once.",
        source=_FIG_2,
        statistic="4 hidden layers: lowest mean output of the top one in the first tenth of the updates",
        measure=_of(_number("early_top_mean"), "sigmoid-4"),
        holds_if="<=",
        threshold=0.1,
    ),
    Claim(
        id="other-sigmoids-stay",
        text="Meanwhile the other layers' mean outputs stay at 0.5 or above.",
        source=_FIG_2,
        # They begin within a few hundredths of 0.5, on either side.
        statistic="4 hidden layers: lowest mean output of another layer while the top one is down",
        measure=_of(_number("lowest_below"), "sigmoid-4"),
        holds_if=">=",
        threshold=0.45,
    ),
    Claim(
        id="lower-towards-the-input",
        text="And the nearer a layer is to the input, the lower is its mean output.",
        source=_FIG_2,
        statistic="4 hidden layers: smallest rise of the mean output from one of the others to the next above it",
        measure=_of(_number("smallest_rise"), "sigmoid-4"),
        holds_if=">=",
        threshold=0,
    ),
    Claim(
        id="four-sigmoids-escape",
        text="After a long time the top layer of 4 leaves its saturation.",
        source=_FIG_2,
        statistic="4 hidden layers: largest share of the top one's values that is above 0.05 after the fall",
        measure=_of(_freed_in_time, "sigmoid-4"),
        holds_if=">=",
        threshold=0.1,
    ),
    Claim(
        id="first-layer-saturates-then",
        text="Just then the first layer begins to saturate.",
        source=_FIG_2,
        statistic="4 hidden layers: growth of layer 1's saturated share from the fall to the escape",
        measure=_of(_number("first_layer_saturates"), "sigmoid-4"),
        holds_if=">=",
        threshold=0.05,
    ),
    Claim(
        id="five-sigmoids-do-not",
        text="The top layer of 5 never leaves it, in a run in which that of 4 does.",
        source="Glorot & Bengio 2010, sec. 3.1",
        statistic="5 hidden layers: largest share of the top one's values that is above 0.05 after the fall",
        measure=_of(_freed_meanwhile, "sigmoid-5", "sigmoid-4"),
        holds_if="<",
        threshold=0.1,
    ),
    Claim(
        id="tanh-layer-by-layer",
        text="With tanh and the standard start, layer 1 saturates first, then layer 2, then layer 3, and so on.",
        source=_FIG_3 + ", top",
        statistic="layers that saturate no later than the one below; a tenth of the values at either end counts",
        measure=_of(lambda row: late_layers(row["saturates_at"]), "tanh"),
        holds_if="<=",
        threshold=0,
    ),
    Claim(
        id="softsign-saturates-less",
        text="Softsign saturates less than tanh.",
        source=_FIG_3,
        statistic="saturated share of the most saturated layer at the end, softsign / tanh",
        measure=_of(_largest("saturated"), "softsign", "tanh"),
        holds_if="<=",
        threshold=0.5,
    ),
    Claim(
        id="softsign-together",
        text="Softsign's layers move together, where tanh's part.",
        source=_FIG_3,
        statistic="unevenness of the layers' standard deviations at the end, softsign / tanh",
        measure=_of(lambda softsign, tanh: softsign["unevenness"] / tanh["unevenness"], "softsign", "tanh"),
        holds_if="<",
        threshold=1,
    ),
    Claim(
        id="tanh-at-ends-and-zero",
        text="In the end tanh's values crowd at -1 and 1 in the lowest layer and at 0 in the top one.",
        source=_FIG_4 + ", top",
        statistic="values with |z| >= 0.9 in layer 1, |z| <= 0.1 in layer 5, against an even spread; the smaller",
        measure=_of(_peaks, "tanh"),
        holds_if=">=",
        threshold=2,
    ),
    Claim(
        id="softsign-at-the-knees",
        text="Softsign's values crowd at the knees, |z| from 0.6 to 0.8, between the linear part and the flat ends.",
        source=_FIG_4 + ", bottom",
        statistic="values with |z| from 0.6 to 0.8 against an even spread, layer with most of them",
        measure=_of(lambda row: max(row["knees"]), "softsign"),
        holds_if=">=",
        threshold=1.5,
    ),
    Claim(
        id="normalized-tanh-together",
        text="From the normalized start tanh's layers move together too.",
        source=_FIG_10,
        statistic="unevenness of the layers' standard deviations at the end, normalized / standard start",
        measure=_of(lambda n, standard: n["unevenness"] / standard["unevenness"], "tanh-n", "tanh"),
        holds_if="<",
        threshold=1,
    ),
)
"""In the order of the report."""
