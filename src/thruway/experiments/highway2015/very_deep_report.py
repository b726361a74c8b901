"""The report of the study: answer, verdicts, training curves, the gates along the net, provenance."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from thruway.experiments.highway2015.gates_heard import gate_at
from thruway.experiments.highway2015.very_deep import SCALES, Config
from thruway.experiments.highway2015.very_deep_claims import claims_for, lowest_plain, setback
from thruway.experiments.highway2015.very_deep_run import read_nets
from thruway.experiments.measured_report import Told, write_measured_report
from thruway.figures import run_curves
from thruway.networks import paired_width
from thruway.report import Cell, ClaimVerdict, Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["write_report"]

Rows = Sequence[Mapping[str, Any]]

_DIFFERENT = (
    "the papers print neither recipe nor width of their net of 900 layers, nor its curve or error",
    "a gate bias of -7 and a rate of 0.1 are from pilots of one seed at 1,000 layers: with -4 and 0.02 neither relu "
    "nor tanh left guessing on the digits in 6 and 8 epochs; on 2,000 images of Fashion-MNIST relu learnt at -7 and "
    "0.1, and with gradients clipped at a norm of 1 so did tanh, both at 0.05, and tanh at -10, the end of the range "
    "that the papers searched",
    "that the loss has no setback of more than a tenth of that of guessing is our reading of 'without trouble'",
    "plain nets of this depth are ours; they start from the same kind of weights, see the same examples, and the best "
    "of all tried counts",
    "thresholds are ours, set before any run; afterwards it was added that plain nets are judged only beside a highway "
    "net that has learnt",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    rows = read_nets(reader, config)
    table = net_table(rows)
    sections = (
        Section(
            "Training curves",
            _curves(rows),
            _curves_reading(rows),
            table,
        ),
        *_gates(rows, config),
        Section("Beside the paper", None, "The paper says in a sentence that its net trained.", _paper(rows, config)),
    )
    told = Told(
        title=f"Does a highway net of {config.depth:,} layers train?",
        subtitle="Highway Networks, sec. 3, Srivastava, Greff & Schmidhuber 2015",
        lead=_lead(rows, config),
        sections=sections if rows else (),
        table=table,
        nets=f"a highway net of {config.depth:,} layers of {config.width} {config.activation} units, gate bias "
        f"{config.gate_bias:g} at the start; plain nets of as many layers of {paired_width('plain', config.width)} "
        f"units ({', '.join(config.plain_activations)}), at rates {', '.join(f'{r:g}' for r in config.plain_rates)}",
        differs=_DIFFERENT,
    )
    return write_measured_report(reader, folder, config, SCALES["paper"], rows, claims_for(config), told)


def net_table(rows: Rows) -> TableData:
    """A line per net: what it was, and what it came to."""
    lines = []
    for row in rows:
        losses, end = row["losses"], row["final_loss"]
        lines.append(
            (
                row["seed"],
                _name(row),
                losses[0] if losses else None,
                end if math.isfinite(end) else Cell(None, "diverged"),
                row["train_error"],
                row["test_error"],
                setback(losses) if len(losses) > 1 else None,
            )
        )
    columns = ("seed", "net", "loss, epoch 1", "final loss", "training error", "test error", "setback")
    return TableData(
        columns,
        tuple(lines),
        "Losses in nats; a setback is the most by which one rose above any before. Errors are shares.",
    )


def _name(row: Mapping[str, Any]) -> str:
    return "highway" if row["block"] == "highway" else f"plain {row['activation']}, rate {row['learning_rate']:g}"


def _curves(rows: Rows) -> go.Figure:
    """A curve per kind of net, up to the epoch before any of its seeds diverged."""
    curves, bands = {}, {}
    for name in dict.fromkeys(_name(row) for row in rows):
        together = zip(*(row["losses"] for row in rows if _name(row) == name), strict=False)
        epochs = [each if all(map(math.isfinite, each)) else (math.nan,) for each in together]
        x = list(range(1, len(epochs) + 1))
        curves[name] = (x, [fmean(each) for each in epochs])
        bands[name] = (x, [min(each) for each in epochs], [max(each) for each in epochs])
    is_several = len({row["seed"] for row in rows}) > 1
    return run_curves(
        curves, bands=bands if is_several else None, x_name="epochs", y_name="training loss (nats)", log=True
    )


def _curves_reading(rows: Rows) -> str:
    if not rows:
        return ""
    shown = "mean and range over seeds" if len({row["seed"] for row in rows}) > 1 else "one seed"
    return (
        f"The mean training loss of each epoch, {shown}; guessing costs {rows[0]['chance_loss']:.2f} nats. A level "
        "line is a net that does not start."
    )


def _gates(rows: Rows, config: Config) -> list[Section]:
    gates = {f"seed {row['seed']}": row["gates"] for row in rows if row["block"] == "highway"}
    if not gates:
        return []
    together = max(1, round(config.depth / 100))
    figure = run_curves(
        {name: _neighbours(each, together) for name, each in gates.items()},
        x_name="layer; the first is a plain one",
        y_name="mean transform gate",
    )
    start = gate_at(config.gate_bias)
    reading = (
        f"The gates' mean over training examples and {together} layers at a time; they started near {start:.2g}. Added "
        f"up they come to {_open_layers(rows):.1f}, as much as that many layers with their gates wide open."
    )
    return [Section("Where the net works", figure, reading)]


def _open_layers(rows: Rows) -> float:
    """The gates of all layers added up, mean over seeds: as many layers with their gates wide open let as much in."""
    return fmean(sum(row["gates"]) for row in rows if row["block"] == "highway")


def _neighbours(values: Sequence[float], together: int) -> tuple[list[float], list[float]]:
    """(middle of so many layers, their mean), the first of the layers being the second of the net.

    >>> _neighbours([1.0, 3.0, 4.0], 2)
    ([2.5, 4.0], [2.0, 4.0])
    """
    groups = [values[start : start + together] for start in range(0, len(values), together)]
    middles = [
        start + 2 + (len(group) - 1) / 2 for start, group in zip(range(0, len(values), together), groups, strict=True)
    ]
    return middles, [fmean(group) for group in groups]


def _paper(rows: Rows, config: Config) -> TableData:
    highway = [row for row in rows if row["block"] == "highway"]
    ours = None
    if highway:
        falls = [row["losses"][0] - row["losses"][-1] for row in highway if row["losses"]]
        ours = f"{config.depth:,} layers, loss down by {fmean(falls):.2f} nats in {config.epochs} epochs"
    entries = [
        (
            "a very deep highway net",
            "900 layers, 80 epochs without trouble (CIFAR-100)",
            ours,
            "Highway Networks, sec. 3",
        )
    ]
    return paper_comparison(entries, caption="Depths of highway nets that trained.")


def _lead(rows: Rows, config: Config) -> str:
    """The answer in plain words, from the numbers."""
    highway = [row for row in rows if row["block"] == "highway"]
    if not highway:
        return ""
    first, last = fmean(row["losses"][0] for row in highway), fmean(row["losses"][-1] for row in highway)
    error, guessing = (fmean(row[key] for row in highway) for key in ("train_error", "guessing"))
    sentences = [
        f"In {config.epochs} epochs the training loss of the highway net of {config.depth:,} layers goes from "
        f"{first:.2f} to {last:.2f} nats, and it gets {error:.1%} of the training examples wrong; guessing gets "
        f"{guessing:.1%}.",
        f"All its gates together come to {_open_layers(rows):.1f} open layers: by that measure it is hardly deeper "
        "than a net of so few.",
    ]
    lowest = lowest_plain(rows)
    if not math.isnan(lowest):
        chance = highway[0]["chance_loss"]
        sentences.append(
            f"The best epoch of any plain net of that depth has {lowest * chance:.2f} nats, guessing {chance:.2f}."
            if math.isfinite(lowest)
            else "Every plain net of that depth diverges."
        )
    return " ".join(sentences)
