"""Report of the study of gates: maps as in figs. 2 and 3, curves over layers, and statistics of every seed."""

import math
from collections.abc import Callable
from statistics import fmean

from thruway.experiments.highway2015.gates import (
    SCALES,
    Config,
    bias_against_gate,
    claims,
    early_end,
    layers_of,
    load_images_and_classes,
    mean_gate,
    measurements,
)
from thruway.experiments.machinery import Rows, StudyPage, measured_study, only
from thruway.figures import gate_maps, run_curves
from thruway.report import Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["STUDY", "lead", "page", "seed_table"]

_DIFFERS = (
    "learning rate, momentum and activation are ours, since the paper does not state the result of its search; they "
    "are those of highway2015.lesion, and so is the gate bias at demo scale, -3 instead of -2",
    "the workshop paper averages over 10,000 examples, the other paper and this study over the whole training set",
    "on CIFAR-100, which is not used here, the papers start from a bias of -4",
    "sparseness, the rank correlation and the split at layer 15 are our ways of turning a figure into a number",
    "the thresholds are ours, set before any run, except that of the mean gate: it was 0.25, which the initial gates "
    "meet, and was replaced by the initial value, which is stricter, after the run at laptop scale",
)


def page(_reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the page of the report."""
    table = seed_table(rows, config)
    sections = [
        *_maps(rows, config),
        *_class_maps(rows, config),
        *_by_layer(rows, config),
        Section(
            "Seed by seed",
            None,
            "For a network that has hardly learned, only the error is shown, since its gates are not meaningful.",
            table,
        ),
        Section(
            "Comparison with the paper",
            None,
            "The paper shows figures without numbers. Its descriptions of them are given here.",
            _beside_the_paper(config, rows),
        ),
    ]
    return StudyPage(
        title="What do the gates of a deep highway network do?",
        subtitle="Fig. 2 of Highway Networks, figs. 2 and 3 of Training Very Deep Networks, Srivastava, Greff & "
        "Schmidhuber 2015",
        lead=lead(rows, config),
        sections=sections if rows else (),
        table=table,
        facts={
            "nets": f"a highway network of {config.depth} layers with {config.width} {config.activation} units, the "
            f"first of which is plain; initial gate bias {config.gate_bias:g}"
        },
        differs=_DIFFERS,
    )


def lead(rows: Rows, config: Config) -> str:
    """Return the lead of the report: the main result in words. "" before anything has been measured."""
    ours = {name: _over_seeds(measure, rows) for name, measure in _statistics(config).items()}
    if any(value is None for value in ours.values()):
        return "No network has learned enough for its gates to be meaningful." if rows else ""
    end = early_end(config)
    return (
        f"On average over the data a gate is {ours['mean-gate']:.0%} open, {ours['gates-low']:.2g} times as far as at "
        f"initialization. The sparseness of the gates for one example is {ours['one-example-opens-few']:.2f}, where 1 "
        "means that all are equally open, however little: it measures how similar they are, not how many are open. "
        f"{ours['biases-fall']:.0%} of the biases ended below their initial value. A layer after the {end}th changes "
        f"its input {ours['outputs-stay']:.2g} times as much as one up to it, and {ours['classes-differ-early']:.0%} "
        f"of the differences between the gates of classes are in the layers up to {end}."
    )


def seed_table(rows: Rows, config: Config) -> TableData:
    """Return a table with one line per seed: the error and the statistic of every claim."""
    measures = _statistics(config)
    lines = []
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if row["seed"] == seed]
        whole = only(mine, what="whole")
        values = [measure(mine) for measure in measures.values()]
        lines.append((seed, whole[0]["error"] if whole else None, *(None if math.isnan(v) else v for v in values)))
    columns = (
        "seed",
        "training error",
        "biases fallen",
        "mean gate",
        "mean gate / start",
        "sparseness",
        "bias with gate",
        "late / early change",
        "early differences",
    )
    return TableData(
        columns,
        tuple(lines),
        "The statistics of the claims, and the rank correlation of bias and gate, about which the "
        "paper makes a claim for CIFAR-100.",
    )


def _statistics(config: Config) -> dict[str, Callable[[Rows], float]]:
    """Return the statistics in the columns of the table: those of the claims, and two more."""
    claimed = {claim.id: claim.measure for claim in claims(config)}
    return {
        "biases-fall": claimed["biases-fall"],
        "mean-gate": mean_gate,
        "gates-low": claimed["gates-low"],
        "one-example-opens-few": claimed["one-example-opens-few"],
        "bias-with-gate": bias_against_gate,
        "outputs-stay": claimed["outputs-stay"],
        "classes-differ-early": claimed["classes-differ-early"],
    }


def _over_seeds(measure: Callable[[Rows], float], rows: Rows) -> float | None:
    """Return the mean over the seeds whose network has learned; None if there are none."""
    values = [measure([row for row in rows if row["seed"] == seed]) for seed in sorted({row["seed"] for row in rows})]
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else None


# --- maps of layers and units


def _map_rows(rows: Rows) -> Rows:
    return sorted(only(rows, what="map"), key=lambda row: int(row["layer"]))


def _layer_names(found: Rows) -> list[int]:
    return [int(row["layer"]) for row in found]


def _maps(rows: Rows, config: Config) -> list[Section]:
    found = _map_rows(rows)
    if not found:
        return []
    keys = {
        "gate bias": "bias",
        "mean gate": "gate",
        "gate, one example": "gate_of_one",
        "output, same example": "output_of_one",
    }
    figure = gate_maps(
        {name: [row[key] for row in found] for name, key in keys.items()},
        _layer_names(found),
        # The outputs of relu layers are never negative.
        diverging=("output, same example",) if config.activation == "tanh" else (),
        limits={"gate, one example": (0.0, 1.0)},
    )
    reading = (
        f"The network of seed {found[0]['seed']}; every cell is one unit of one layer. From left to right: the bias of "
        f"the transform gate after training (initially {config.gate_bias:g}), the mean of the gate over the "
        f"data, the gate for training example {config.example} (class {found[0]['class_of_one']}), and the layer's "
        "output for it. Vertical stripes in the last map are units that several layers in a row leave unchanged."
    )
    return [Section("Biases, gates and outputs (fig. 2)", figure, reading)]


def _class_maps(rows: Rows, config: Config) -> list[Section]:
    found = _map_rows(rows)
    if not found:
        return []
    names = [
        f"class {number}" if name == str(number) else f"class {number}, {name}"
        for number, name in zip(config.classes, found[0]["classes"], strict=True)
    ]
    tables = {name: [row["differences"][i] for row in found] for i, name in enumerate(names)}
    most = max((abs(value) for table in tables.values() for row in table for value in row), default=0.0) or 1.0
    figure = gate_maps(tables, _layer_names(found), diverging=names, limits=dict.fromkeys(names, (-most, most)))
    reading = (
        "The mean gate over the examples of one class minus the mean over all, for two classes on one scale: red gates "
        "are further open for this class than for others."
    )
    return [Section("Gates that a class opens (fig. 3)", figure, reading)]


# --- curves over layers

_CURVES = {"gate": "transform gate", "change": "change of the output", "difference": "distance between classes"}


def _by_layer(rows: Rows, config: Config) -> list[Section]:
    """Plot each curve as a share of its sum over the layers, because the three quantities have different units."""
    seeds = sorted({row["seed"] for row in rows})
    found = [layers for seed in seeds if (layers := layers_of([row for row in rows if row["seed"] == seed]))]
    if not found:
        return []
    curves, bands = {}, {}
    for key, name in _CURVES.items():
        shares = [[row[key] / (sum(each[key] for each in layers) or 1.0) for row in layers] for layers in found]
        by_layer = list(zip(*shares, strict=True))
        curves[name] = (_layer_names(found[0]), [fmean(each) for each in by_layer])
        bands[name] = (_layer_names(found[0]), [min(each) for each in by_layer], [max(each) for each in by_layer])
    figure = run_curves(
        curves,
        bands=bands if len(found) > 1 else None,
        x_name="layer; the first is plain",
        y_name="share of the sum over layers",
    )
    even = 1 / len(found[0])
    reading = (
        f"The share of each layer, averaged over seeds; an even distribution would be {even:.1%}. In the paper, "
        f"changes and differences are in the layers up to {early_end(config)}."
    )
    return [Section("Where in the network", figure, reading)]


def _beside_the_paper(config: Config, rows: Rows) -> TableData:
    ours = {name: _over_seeds(measure, rows) for name, measure in _statistics(config).items()}
    first, second = "Highway Networks, fig. 2", "Training Very Deep Networks, fig. 2"
    entries = [
        ("share of the gate biases below their start", "most (MNIST)", ours["biases-fall"], first),
        ("mean transform gate", "low", ours["mean-gate"], first),
        ("sparseness of the gates for one example", "sparse", ours["one-example-opens-few"], first),
        ("rank correlation of bias with gate over layers", "below 0 (CIFAR-100)", ours["bias-with-gate"], second),
        (
            "change of the output, late / early layers",
            "stripes after layer 15 (MNIST)",
            ours["outputs-stay"],
            second,
        ),
        (
            "share of the differences between classes that is early",
            "mainly the first 15 layers (MNIST)",
            ours["classes-differ-early"],
            "Training Very Deep Networks, fig. 3",
        ),
    ]
    return paper_comparison(entries, caption="Means over the seeds whose network has learned.")


STUDY = measured_study(
    name="highway2015.gates",
    title="in a trained highway network gates are mostly closed, and each example opens only a few of them",
    source="Srivastava, Greff & Schmidhuber 2015, fig. 2 of both papers and fig. 3 of Training Very Deep Networks",
    config=Config,
    scales=SCALES,
    prepare=load_images_and_classes,
    measurements=measurements,
    claims=claims,
    page=page,
    example="--scale demo --example 3",
)
