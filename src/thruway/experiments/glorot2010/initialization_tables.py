"""The tables of the report: the paper's numbers with ours, equations, singular values, training."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from thruway.experiments.glorot2010.initialization import SCHEMES
from thruway.experiments.glorot2010.initialization_claims import factor_per_layer, mean_stretch, spreads
from thruway.experiments.glorot2010.initialization_figures import by_layer
from thruway.experiments.glorot2010.initialization_theory import MEAN_SINGULAR_VALUE
from thruway.report import TableData, paper_comparison

__all__ = ["equation_table", "paper_table", "stretch_table", "training_table"]

Rows = Sequence[Mapping[str, Any]]

_COLUMNS = {
    "z": "activation_variance",
    "z, eq. 5": "activation_predicted",
    "dC/ds": "gradient_variance",
    "dC/ds, eq. 2": "gradient_predicted",
    "eq. 6 as printed": "gradient_as_printed",
    "dC/dW": "single_weight_gradient_variance",
    "dC/dW, eq. 7": "single_weight_gradient_predicted",
}


def equation_table(rows: Rows, shape: str, activations: Sequence[str] = ("tanh", "linear")) -> TableData:
    """Measured mean squares beside the predicted ones, means over seeds."""
    lines = []
    for activation in activations:
        for scheme in SCHEMES:
            found = {name: by_layer(rows, scheme, key, shape, activation) for name, key in _COLUMNS.items()}
            for layer in found["z"]:
                lines.append((activation, scheme, layer, *(fmean(values[layer]) for values in found.values())))
    caption = (
        "Mean squares, means over seeds; dC/dW is of one example. The predictions of gradients start from what was "
        "measured at the top hidden layer."
    )
    return TableData(("activation", "start", "layer", *_COLUMNS), tuple(lines), caption)


def stretch_table(rows: Rows) -> TableData:
    """The mean singular value of every hidden layer's Jacobian, means over seeds, and what a random matrix has."""
    lines = []
    for activation in ("tanh", "linear"):
        for scheme, gain in (("standard", 1 / math.sqrt(3)), ("normalized", 1.0)):
            values = [fmean(each) for each in by_layer(rows, scheme, "singular_value", activation=activation).values()]
            if values:
                known = MEAN_SINGULAR_VALUE * gain if activation == "linear" else None
                lines.append((activation, scheme, *values, fmean(values[1:]), known))
    layers = max((len(line) - 4 for line in lines), default=0)
    columns = ("activation", "start", *(f"layer {n}" for n in range(1, layers + 1)), "mean of 2 and up", "theory")
    caption = "Theory: (8 / 3 pi) sigma sqrt(n) of a large square matrix with independent entries of std sigma."
    return TableData(columns, tuple(lines), caption)


def training_table(rows: Rows) -> TableData:
    """The spread over layers in each tenth of training, for every seed."""
    lines = []
    for scheme in SCHEMES:
        for seed in sorted({row["seed"] for row in rows if row["scheme"] == scheme}):
            mine = [row for row in rows if (row["scheme"], row["seed"]) == (scheme, seed)]
            losses, found = mine[0]["loss_by_tenth"], spreads(mine, scheme)
            lines.append((scheme, seed, found[0], max(found), found[-1], losses[0], losses[-1]))
    columns = ("start", "seed", "at first", "at most", "at last", "first loss", "last loss")
    caption = (
        "Largest / smallest std of dC/dW over the hidden layers, in tenths of training; losses are those of the "
        "batches trained on, in nats."
    )
    return TableData(columns, tuple(lines), caption)


def paper_table(start: Rows) -> TableData:
    """What the paper prints, beside the means over seeds."""

    def mean(measure: Any) -> float:
        seeds = sorted({row["seed"] for row in start})
        return fmean(measure([row for row in start if row["seed"] == seed]) for seed in seeds) if seeds else math.nan

    def gradient(scheme: str) -> float:
        return mean(lambda rows: factor_per_layer(rows, scheme, "gradient_variance", upwards=False))

    def activation(scheme: str) -> float:
        return mean(lambda rows: factor_per_layer(rows, scheme, "activation_variance", upwards=True))

    return paper_comparison(
        [
            ("mean singular value, standard", "about 0.5", mean(lambda rows: mean_stretch(rows, "standard")), "eq. 17"),
            (
                "mean singular value, normalized",
                "about 0.8",
                mean(lambda rows: mean_stretch(rows, "normalized")),
                "eq. 17",
            ),
            ("factor on Var z per layer, standard", "1/3", activation("standard"), "eqs. 5 and 15"),
            ("factor on Var z per layer, normalized", "1", activation("normalized"), "eqs. 5 and 12"),
            ("factor on Var dC/ds per layer, standard", "1/3", gradient("standard"), "eqs. 13 and 15"),
            ("factor on Var dC/ds per layer, normalized", "1", gradient("normalized"), "eqs. 6 and 12"),
        ],
        caption="Tanh, equally wide layers. The factors in the paper's column are those of its equations, which "
        "take tanh as linear; of figs. 6 to 9 it prints no numbers.",
    )
