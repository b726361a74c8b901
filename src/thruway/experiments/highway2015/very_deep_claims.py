"""What the papers say about nets of 900 layers and more, as statistics of the rows; thresholds from before any run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thruway.experiments.claims import Claim
from thruway.experiments.highway2015.gates_heard import gate_at
from thruway.experiments.highway2015.very_deep import Config

__all__ = ["best_plain", "claims_for", "lowest_plain", "setback"]

Rows = Sequence[Mapping[str, Any]]

_LEARNT = 0.5  # of the error of guessing
_FIRST = "Srivastava, Greff & Schmidhuber 2015 (Highway Networks), sec. 3"


def setback(losses: Sequence[float]) -> float:
    """How far a loss rises above the lowest before it, nats; infinite if it is ever no number, NaN if it is one only.

    >>> setback([2.0, 1.0, 1.5, 0.5]), setback([2.0, 1.0]), setback([1.0, float("nan")])
    (0.5, 0.0, inf)
    """
    if not all(math.isfinite(loss) for loss in losses):
        return math.inf
    if len(losses) < 2:
        return math.nan
    lowest, most = losses[0], 0.0
    for loss in losses[1:]:
        most, lowest = max(most, loss - lowest), min(lowest, loss)
    return most


def lowest_plain(rows: Rows) -> float:
    """The lowest mean training loss that any plain net had in any epoch, over the loss of guessing.

    Infinite if none was ever a number; NaN without a plain net.
    """
    found = [loss / row["chance_loss"] for row in rows if row["block"] == "plain" for loss in row["losses"]]
    if not found:
        return math.nan
    return min((each for each in found if math.isfinite(each)), default=math.inf)


def best_plain(rows: Rows) -> float:
    """`lowest_plain` of one seed; NaN unless its highway net is down to half of the error of guessing.

    Where that has not learnt either, plain nets that do not tell nothing about plain nets.
    """
    return lowest_plain(rows) if _error_over_guessing(rows) <= _LEARNT else math.nan


def _highway(rows: Rows) -> Mapping[str, Any] | None:
    return next((row for row in rows if row["block"] == "highway"), None)


def _error_over_guessing(rows: Rows) -> float:
    row = _highway(rows)
    return math.nan if row is None else float(row["train_error"] / row["guessing"])


def _setback_over_guessing(rows: Rows) -> float:
    row = _highway(rows)
    return math.nan if row is None else setback(row["losses"]) / float(row["chance_loss"])


def claims_for(config: Config) -> tuple[Claim, ...]:
    """The claims, about nets of this depth."""
    depth = f"{config.depth:,}"
    open_at_first = (config.depth - 1) * gate_at(config.gate_bias)  # the first layer is a plain one
    return (
        Claim(
            id="highway-learns",
            text=f"A highway net of {depth} layers learns.",
            source=f"{_FIRST} (900 layers, CIFAR-100)",
            statistic="training error at the end / that of always saying the most frequent class; it does not tell how "
            f"many layers work: with gates that begin at a bias of {config.gate_bias:g} all of them together begin as "
            f"{open_at_first:.1f} open ones, and a net that stays nearly so shallow can pass",
            measure=_error_over_guessing,
            holds_if="<=",
            threshold=_LEARNT,
        ),
        Claim(
            id="without-trouble",
            text="It does so without trouble.",
            source=f"{_FIRST} (no optimisation trouble in 80 epochs)",
            statistic="the most by which the training loss of an epoch is above that of any before / loss of guessing",
            measure=_setback_over_guessing,
            holds_if="<=",
            threshold=0.1,
        ),
        Claim(
            id="plain-does-not",
            text=f"Plain nets of {depth} layers do not.",
            source="Ours; the papers' plain nets end at 100 layers, where they already stall",
            statistic="lowest training loss of any plain net in any epoch / loss of guessing",
            measure=best_plain,
            holds_if=">=",
            threshold=0.9,
        ),
    )
