"""What figs. 2 and 3 claim about gates, as statistics of the rows. The thresholds were set before any run.

But for one: that gates are low was a mean gate of 0.25 at most, which the start (0.12 from a bias of -2) fulfils before
anything has been learnt. After the run at laptop scale had been seen, it was measured against the start instead, which
is stricter at every scale of this study.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from thruway.dissecting.ranking.rank_correlation import spearman
from thruway.experiments.claims import Claim
from thruway.experiments.highway2015.gates import Config
from thruway.experiments.highway2015.gates_heard import gate_at

__all__ = ["bias_against_gate", "claims_for", "early_end", "layers_of", "mean_gate"]

Rows = Sequence[Mapping[str, Any]]

_FIRST = "Srivastava, Greff & Schmidhuber 2015 (Highway Networks), sec. 4, fig. 2"
_SECOND = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 4"


def early_end(config: Config) -> int:
    """The last of the early layers: the paper's 15 of 50.

    >>> early_end(Config()), early_end(Config(depth=20))
    (15, 6)
    """
    return round(15 * config.depth / 50)


def layers_of(rows: Rows) -> Rows:
    """The rows of layers, from the first on; none of a net that has hardly learnt, whose gates do nothing."""
    mine = [row for row in rows if row["what"] == "layer" and row["error"] < 0.5 * row["guessing"]]
    return sorted(mine, key=lambda row: int(row["layer"]))


def _mean(rows: Rows, key: str) -> float:
    found = [float(row[key]) for row in layers_of(rows)]
    return fmean(found) if found else math.nan


def _sparseness(rows: Rows) -> float:
    found = [row["sparseness"] for row in rows if row["what"] == "whole" and row["error"] < 0.5 * row["guessing"]]
    return fmean(found) if found else math.nan


def mean_gate(rows: Rows) -> float:
    """The transform gate, the mean over examples, layers and units; NaN of a net that has hardly learnt."""
    return _mean(rows, "gate")


def _gate_over_start(rows: Rows, gate_bias: float) -> float:
    start = gate_at(gate_bias)
    return mean_gate(rows) / start if start else math.nan


def bias_against_gate(rows: Rows) -> float:
    """Rank correlation over layers of the mean gate bias with the mean gate; NaN of a net that has hardly learnt."""
    found = layers_of(rows)
    return spearman([row["bias"] for row in found], [row["gate"] for row in found]) if found else math.nan


def _late_over_early(rows: Rows, end: int) -> float:
    early = [row["change"] for row in layers_of(rows) if row["layer"] <= end]
    late = [row["change"] for row in layers_of(rows) if row["layer"] > end]
    return fmean(late) / fmean(early) if early and late else math.nan


def _early_share(rows: Rows, end: int) -> float:
    found = layers_of(rows)
    whole = sum(row["difference"] for row in found)
    return sum(row["difference"] for row in found if row["layer"] <= end) / whole if whole else math.nan


def claims_for(config: Config) -> tuple[Claim, ...]:
    """The claims, about the early layers at the paper's share of this net's depth; one is about CIFAR-100 only."""
    end = early_end(config)
    selective = Claim(
        id="low-bias-selects",
        text="A low bias does not shut a gate but makes it selective: biases rise with depth while the mean gate "
        "falls.",
        source=f"{_SECOND}, fig. 2 (CIFAR-100)",
        statistic="rank correlation over layers of the mean gate bias with the mean gate",
        measure=bias_against_gate,
        holds_if="<=",
        threshold=0,
    )
    return (
        Claim(
            id="biases-fall",
            text="Most gate biases fall further while the net learns.",
            source=_FIRST,
            statistic=f"share of the gate biases that end below their start, {config.gate_bias:g}",
            measure=lambda rows: _mean(rows, "fallen"),
            holds_if=">=",
            threshold=0.5,
        ),
        Claim(
            id="gates-low",
            text="In the mean over the data gates are low: no wider open than they began.",
            source=_FIRST,
            statistic="mean transform gate over examples, layers and units / that of the bias it starts from, "
            f"sigmoid({config.gate_bias:g}) = {gate_at(config.gate_bias):.2g}",
            measure=lambda rows: _gate_over_start(rows, config.gate_bias),
            holds_if="<=",
            threshold=1,
        ),
        Claim(
            id="one-example-opens-few",
            text="For a single example few gates are open.",
            source=_FIRST,
            statistic="(mean T)^2 / mean(T^2) over layers and units, mean over examples: 1 if all gates are open "
            "alike, p if a share p of them is open and the others shut",
            measure=_sparseness,
            holds_if="<=",
            threshold=0.25,
        ),
        *((selective,) if config.data == "cifar100" else ()),
        Claim(
            id="outputs-stay",
            text="Outputs change in the first 15 of 50 layers, and then hardly.",
            source=f"{_SECOND}, fig. 2 (MNIST)",
            statistic="change of the output per layer (rms, as a share of what enters), mean over the layers after "
            f"{end} / mean over those up to it",
            measure=lambda rows: _late_over_early(rows, end),
            holds_if="<=",
            threshold=0.5,
        ),
        Claim(
            id="classes-differ-early",
            text="Classes use different gates mainly in the first 15 of 50 layers.",
            source=f"{_SECOND}, fig. 3 (MNIST, digits 0 and 7)",
            statistic="of the mean distance between the mean gate over a class and that over all, summed over layers, "
            f"the share of layers up to {end}",
            measure=lambda rows: _early_share(rows, end),
            holds_if=">=",
            threshold=0.5,
        ),
    )
