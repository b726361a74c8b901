"""Report of the study of 1,000 layers: training curves, mean gates, and statistics of every network."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from thruway.experiments.highway2015.recorded_gates import gate_at
from thruway.experiments.highway2015.very_deep import (
    SCALES,
    Config,
    claims,
    lowest_plain,
    measurements,
    rows_with_losses,
    setback,
)
from thruway.experiments.machinery import Rows, StudyPage, measured_study
from thruway.figures import run_curves
from thruway.networks import paired_width
from thruway.report import Cell, Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["STUDY", "page"]

_DIFFERS = (
    "the papers state neither the recipe nor the width of their network of 900 layers, nor its curve or error",
    "a gate bias of -7 and a learning rate of 0.1 are from pilot runs of one seed at 1,000 layers: with -4 and 0.02 "
    "neither relu nor tanh became better than guessing on the digits in 6 and 8 epochs; on 2,000 images of "
    "Fashion-MNIST relu learned with -7 and 0.1, and with gradients clipped at a norm of 1 so did tanh, both with "
    "0.05, and tanh with -10, the end of the range that the papers searched",
    "a setback is an increase of the loss by more than a tenth of the chance loss",
    "plain networks of this depth are ours; they use the same initialization and see the same examples, and the "
    "best of all is used",
    "the thresholds are ours, set before any run; the condition that plain networks are judged only if the "
    "highway network has learned was added afterwards",
)


def page(_reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the page of the report."""
    table = _table(rows)
    sections = (
        Section("Training curves", _curves(rows), _curves_reading(rows), table),
        *_gates(rows, config),
        Section(
            "Comparison with the paper",
            None,
            "The paper only states that its network trained.",
            _beside_the_paper(rows, config),
        ),
    )
    return StudyPage(
        title=f"Does a highway network of {config.depth:,} layers train?",
        subtitle="Highway Networks, sec. 3, Srivastava, Greff & Schmidhuber 2015",
        lead=_lead(rows, config),
        sections=sections if rows else (),
        table=table,
        facts={
            "nets": f"a highway network of {config.depth:,} layers with {config.width} {config.activation} units, "
            f"initial gate bias {config.gate_bias:g}; plain networks with as many layers of "
            f"{paired_width('plain', config.width)} units ({', '.join(config.plain_activations)}), with rates "
            f"{', '.join(f'{r:g}' for r in config.plain_rates)}"
        },
        differs=_DIFFERS,
    )


def _table(rows: Rows) -> TableData:
    """Return a table with one line per network."""
    lines = []
    for row in rows:
        losses, end = row["losses"], row["final_loss"]
        lines.append(
            (
                row["seed"],
                _label(row),
                losses[0] if losses else None,
                end if math.isfinite(end) else Cell(None, "diverged"),
                row["train_error"],
                row["test_error"],
                setback(losses) if len(losses) > 1 else None,
            )
        )
    columns = ("seed", "network", "loss, epoch 1", "final loss", "training error", "test error", "setback")
    return TableData(
        columns,
        tuple(lines),
        "Losses in nats. A setback is the largest increase of the loss above an earlier one. Errors are shares.",
    )


def _label(row: Mapping[str, Any]) -> str:
    return "highway" if row["block"] == "highway" else f"plain {row['activation']}, rate {row['learning_rate']:g}"


def _curves(rows: Rows) -> go.Figure:
    """Plot one curve per kind of network, up to the epoch before one of its seeds diverged."""
    curves, bands = {}, {}
    for label in dict.fromkeys(_label(row) for row in rows):
        together = zip(*(row["losses"] for row in rows if _label(row) == label), strict=False)
        epochs = [each if all(map(math.isfinite, each)) else (math.nan,) for each in together]
        x = list(range(1, len(epochs) + 1))
        curves[label] = (x, [fmean(each) for each in epochs])
        bands[label] = (x, [min(each) for each in epochs], [max(each) for each in epochs])
    is_several = len({row["seed"] for row in rows}) > 1
    return run_curves(
        curves, bands=bands if is_several else None, x_name="epochs", y_name="training loss (nats)", log=True
    )


def _curves_reading(rows: Rows) -> str:
    if not rows:
        return ""
    shown = "mean and range over seeds" if len({row["seed"] for row in rows}) > 1 else "one seed"
    return (
        f"The mean training loss of each epoch, {shown}. The chance loss is {rows[0]['chance_loss']:.2f} nats. A "
        "level line belongs to a network that does not start to learn."
    )


def _gates(rows: Rows, config: Config) -> list[Section]:
    gates = {f"seed {row['seed']}": row["gates"] for row in rows if row["block"] == "highway"}
    if not gates:
        return []
    together = max(1, round(config.depth / 100))
    figure = run_curves(
        {name: _in_groups(each, together) for name, each in gates.items()},
        x_name="layer; the first is plain",
        y_name="mean transform gate",
    )
    start = gate_at(config.gate_bias)
    reading = (
        f"Gates averaged over training examples and over groups of {together} layers; the initial value is "
        f"{start:.2g}. Their sum over all layers is {_open_layers(rows):.1f}, the same as that of as many fully open "
        "layers."
    )
    return [Section("Gates along the network", figure, reading)]


def _open_layers(rows: Rows) -> float:
    """Return the sum of the mean gates, averaged over seeds: the number of fully open layers with the same sum."""
    return fmean(sum(row["gates"]) for row in rows if row["block"] == "highway")


def _in_groups(values: Sequence[float], size: int) -> tuple[list[float], list[float]]:
    """Return the middle and the mean of each group of neighbouring layers. The first value belongs to layer 2.

    >>> _in_groups([1.0, 3.0, 4.0], 2)
    ([2.5, 4.0], [2.0, 4.0])
    """
    starts = range(0, len(values), size)
    groups = [values[start : start + size] for start in starts]
    middles = [start + 2 + (len(group) - 1) / 2 for start, group in zip(starts, groups, strict=True)]
    return middles, [fmean(group) for group in groups]


def _beside_the_paper(rows: Rows, config: Config) -> TableData:
    highway = [row for row in rows if row["block"] == "highway"]
    ours = None
    if highway:
        falls = [row["losses"][0] - row["losses"][-1] for row in highway if row["losses"]]
        ours = f"{config.depth:,} layers, loss down by {fmean(falls):.2f} nats in {config.epochs} epochs"
    entries = [
        (
            "a very deep highway network",
            "900 layers, 80 epochs without trouble (CIFAR-100)",
            ours,
            "Highway Networks, sec. 3",
        )
    ]
    return paper_comparison(entries, caption="Depths of highway networks that trained.")


def _lead(rows: Rows, config: Config) -> str:
    highway = [row for row in rows if row["block"] == "highway"]
    if not highway:
        return ""
    first, last = fmean(row["losses"][0] for row in highway), fmean(row["losses"][-1] for row in highway)
    error, guessing = (fmean(row[key] for row in highway) for key in ("train_error", "guessing"))
    sentences = [
        f"In {config.epochs} epochs the training loss of the highway network of {config.depth:,} layers goes from "
        f"{first:.2f} to {last:.2f} nats, and its training error is {error:.1%}; that of guessing is "
        f"{guessing:.1%}.",
        f"The sum of its gates is that of {_open_layers(rows):.1f} open layers: by that measure it is hardly deeper "
        "than a network with that number of layers.",
    ]
    lowest = lowest_plain(rows)
    if not math.isnan(lowest):
        chance = highway[0]["chance_loss"]
        sentences.append(
            f"The lowest loss of any plain network of that depth in any epoch is {lowest * chance:.2f} nats; the "
            f"chance loss is {chance:.2f}."
            if math.isfinite(lowest)
            else "Every plain network of that depth diverges."
        )
    return " ".join(sentences)


# The rows have the training losses too, for the claims about them.
STUDY = replace(
    measured_study(
        name="highway2015.very_deep",
        title="a highway network of 1,000 layers trains; a plain one does not start to learn",
        source="Srivastava, Greff & Schmidhuber 2015 (Highway Networks), sec. 3",
        config=Config,
        scales=SCALES,
        measurements=measurements,
        claims=claims,
        page=page,
        example="--scale demo --depth 500",
    ),
    rows=rows_with_losses,
)
