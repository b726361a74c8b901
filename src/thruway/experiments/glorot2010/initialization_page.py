"""Report of the initialization study: figs. 6 to 9, and the equations compared with the measurements."""

import math
from statistics import fmean

import numpy as np
import plotly.graph_objects as go

from thruway.experiments.glorot2010.initialization import MEAN_SINGULAR_VALUE, SCALES, SCHEMES, Config, load_parts
from thruway.experiments.glorot2010.initialization_claims import (
    START_CLAIMS,
    TRAINING_CLAIMS,
    by_layer,
    mean_factor,
    paper_table,
    spreads,
)
from thruway.experiments.glorot2010.initialization_start import SPREADS, read_histograms, read_start_rows
from thruway.experiments.glorot2010.initialization_training import (
    read_relative_spreads,
    read_training_rows,
    run_study,
)
from thruway.experiments.glorot2010.streams import data_in_words
from thruway.experiments.machinery import Rows, Study, StudyPage, judge, only
from thruway.experiments.machinery.study import differences
from thruway.figures import layer_histograms, run_curves, std_intervals
from thruway.report import ClaimVerdict, Section, TableData
from thruway.runs import RunReader

__all__ = ["STUDY", "page", "read_rows", "verdicts"]

_DIFFERS = (
    "the learning rate, the number of updates and the number of seeds are ours: the paper states none of them",
    "both initializations of a seed use the same random numbers, scaled, so that their differences are paired",
    "variances are mean squares about 0, since the equations assume means of 0; Var[x] is the inputs' mean square",
    "eq. 6 is tested in the form that eq. 2 implies, in which only the weights above s count: one factor fewer than "
    "printed; the table shows the printed form too",
    "eq. 7 is about one example and is tested with gradients of the cost of one example; fig. 8 shows those of all "
    "held-out examples",
    "eq. 13 is tested with the variance of the gradient at the top in place of the printed Var[x]",
)


def read_rows(reader: RunReader, config: Config) -> Rows:
    """Return one row per layer of every measured network, followed by one per layer of every trained network."""
    return [*read_start_rows(reader, config), *read_training_rows(reader, config)]


def verdicts(_reader: RunReader, _config: Config, rows: Rows) -> list[ClaimVerdict]:
    """Judge the claims of each stage on the rows of that stage, if there are any. Each stage has its own seeds."""
    start, training = only(rows, stage="start"), only(rows, stage="training")
    return [
        *(judge(claim, start) for claim in START_CLAIMS if start),
        *(judge(claim, training) for claim in TRAINING_CLAIMS if training),
    ]


def page(reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the contents of the report."""
    start, training = only(rows, stage="start"), only(rows, stage="training")
    table = paper_table(start)
    measured = sum(reader.table(site="start", quantity="seconds")["value"].tolist())
    trained = sum({(row["scheme"], row["seed"]): row["seconds"] for row in training}.values())
    return StudyPage(
        title="Do signals reach the top layer, and gradients the bottom layer?",
        subtitle="Figs. 6 to 9 and eqs. 4 to 17 of Understanding the difficulty of training deep feedforward neural "
        "networks, Glorot & Bengio 2010",
        lead=_lead(start, training, reader.status),
        sections=(
            Section("Comparison with the paper", None, "Means over all seeds.", table),
            *_start_sections(reader, config, start),
            *_training_section(reader, config, training),
            *_equation_sections(config, start),
        ),
        table=table,
        facts={
            "scale": config.scale,
            "data": data_in_words(config),
            "seeds": f"{config.seeds}, starting with seed {config.seed}; {config.trained_seeds} of them trained",
            "start": f"{config.depth} hidden layers of {config.width:,} units, tanh, on {config.probe} held-out "
            "examples",
            "training": f"{config.trained_width:,} units per layer, {config.updates:,} updates of {config.batch} "
            f"examples, learning rate {config.learning_rate:g}",
        },
        cost=f"{measured / 60:.1f} minutes of measuring, {trained / 60:.1f} of training",
        differs=[*differences(config, SCALES["paper"]), *_DIFFERS],
    )


def _lead(start: Rows, training: Rows, status: str) -> str:
    if not start:
        return f"No network has been measured yet (the run is {status})."
    standard, normalized = (mean_factor(start, scheme, _GRADIENT, upwards=False) for scheme in SCHEMES)
    answer = (
        f"Each hidden layer passes {standard:.2f} of the variance of the gradient down with standard "
        f"initialization, and {normalized:.2f} with normalized initialization."
    )
    seeds = sorted({row["seed"] for row in training})
    widest = {
        scheme: [max(found) for seed in seeds if (found := spreads(only(training, seed=seed), scheme))]
        for scheme in SCHEMES
    }
    if all(widest.values()):
        answer += (
            f" During training, the weight gradients of the layers differ by up to {fmean(widest['standard']):.1f} "
            f"times (standard) and {fmean(widest['normalized']):.1f} times (normalized)."
        )
    return answer if status == "done" else f"The run is {status}. {answer}"


# --- sections and figures

_GRADIENT, _ACTIVATION = "gradient_variance", "activation_variance"


def _start_sections(reader: RunReader, config: Config, start: Rows) -> tuple[Section, ...]:
    return (
        Section(
            "Activations before training (fig. 6)",
            _histogram_figure(reader, config, "activations"),
            "Standard: the higher the layer, the closer its units are to 0. Normalized: much less so. Each panel is in "
            "units of its most widely spread layer, and its density axis is logarithmic.",
        ),
        Section(
            "Back-propagated gradients before training (fig. 7)",
            _histogram_figure(reader, config, "gradients"),
            "Standard: the lower the layer, the smaller its gradients. Normalized: about the same in all layers.",
        ),
        Section(
            "Back-propagated gradients, layer by layer",
            _variance_figure(start, _GRADIENT, "gradient_predicted", "mean square of dC/ds"),
            "Dashed: predictions of the equations from the gradient of the top layer. With standard initialization "
            "each layer reduces it by a factor of three. Bands: the range over seeds.",
        ),
        Section(
            "Gradients of the weights before training (fig. 8)",
            _histogram_figure(reader, config, "weight gradients"),
            "About the same in every layer with either initialization: activations that shrink upwards and gradients "
            "that shrink downwards cancel.",
        ),
    )


def _histogram_figure(reader: RunReader, config: Config, what: str) -> go.Figure:
    """Plot the histogram of every hidden layer before training, with one panel per initialization.

    `what` is a key of SPREADS. Each panel is in units of the std of its widest layer, so that both fit on one axis.
    """
    edges, counts = {}, {}
    for scheme, (borders, found) in read_histograms(reader, config, what).items():
        middles = (borders[:, :-1] + borders[:, 1:]) / 2
        widths = np.sqrt((found * middles**2).sum(axis=1) / found.sum(axis=1))
        edges[scheme], counts[scheme] = borders / widths.max(), found
    if not edges:
        edges, counts = {"": np.zeros((0, 2))}, {"": np.zeros((0, 1))}
    return layer_histograms(edges, counts, quantity=SPREADS[what].name, unit="widest std", log=True)


def _variance_figure(rows: Rows, quantity: str, predicted: str, y_name: str) -> go.Figure:
    """Plot the mean square in every hidden layer of the tanh networks, with its range over seeds and the prediction."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    bands: dict[str, tuple[list[int], list[float], list[float]]] = {}
    references = []
    for scheme in SCHEMES:
        measured, expected = by_layer(rows, scheme, quantity), by_layer(rows, scheme, predicted)
        if not measured:
            continue
        layers = list(measured)
        curves[scheme] = (layers, [fmean(values) for values in measured.values()])
        bands[scheme] = (layers, [min(each) for each in measured.values()], [max(each) for each in measured.values()])
        references.append(f"{scheme}, predicted")
        curves[references[-1]] = (layers, [fmean(values) for values in expected.values()])
    x_name = "hidden layer, from the input"
    return run_curves(curves, bands=bands, references=references, x_name=x_name, y_name=y_name, log=True)


def _training_section(reader: RunReader, config: Config, training: Rows) -> tuple[Section, ...]:
    if not config.trained_seeds:
        return ()
    reading = (
        "Where the lines of a panel diverge, the layers learn at different speeds: in the paper they do with standard "
        "initialization, but not with normalized initialization. Values are relative to the mean over layers, which "
        "removes changes common to all layers."
    )
    updates, tables = read_relative_spreads(reader, config)
    names = [f"layer {layer}" for layer in range(1, config.depth + 1)]
    x_name = "training time (updates)"
    figure = std_intervals(tables, updates, names, quantity="dC/dW", unit="times the mean", x_name=x_name)
    title = "Gradients of the weights during training (fig. 9)"
    return (Section(title, figure, reading, _training_table(training)),)


def _equation_sections(config: Config, start: Rows) -> tuple[Section, ...]:
    sections = [
        Section(
            "Mean singular value of a layer's Jacobian (eq. 17)",
            None,
            "If it is below 1, the layer attenuates signals.",
            _stretch_table(start),
        ),
        Section(
            "Predictions of the equations and measurements",
            _variance_figure(start, _ACTIVATION, "activation_predicted", "mean square of z"),
            "The equations assume a linear activation. They therefore hold, up to sampling error, in the linear "
            "networks, and approximately in the tanh network with standard initialization, whose activations stay "
            "small, but not with normalized initialization. Eq. 6 as printed has one factor too many, and is wrong by "
            "a factor of three for the gradients of the standard network.",
            _equation_table(start, "equal"),
        ),
    ]
    for shape in config.shapes:
        if shape != "equal":
            reading = f"Hidden layers of {', '.join(f'{width:,}' for width in config.widths(shape))} units."
            title = f"Networks whose layers get {'wider' if shape == 'growing' else 'narrower'}"
            sections.append(Section(title, None, reading, _equation_table(start, shape)))
    return tuple(sections)


# --- tables

_COLUMNS = {
    "z": _ACTIVATION,
    "z, eq. 5": "activation_predicted",
    "dC/ds": _GRADIENT,
    "dC/ds, eq. 2": "gradient_predicted",
    "eq. 6 as printed": "gradient_as_printed",
    "dC/dW": "single_weight_gradient_variance",
    "dC/dW, eq. 7": "single_weight_gradient_predicted",
}


def _equation_table(rows: Rows, shape: str) -> TableData:
    """Return a table of measured and predicted mean squares, as means over seeds."""
    lines = []
    for activation in ("tanh", "linear"):
        for scheme in SCHEMES:
            found = {name: by_layer(rows, scheme, key, shape, activation) for name, key in _COLUMNS.items()}
            for layer in found["z"]:
                lines.append((activation, scheme, layer, *(fmean(values[layer]) for values in found.values())))
    caption = (
        "Mean squares, averaged over seeds; dC/dW is that of one example. Predictions of gradients start from the "
        "measured gradient of the top hidden layer."
    )
    return TableData(("activation", "initialization", "layer", *_COLUMNS), tuple(lines), caption)


def _stretch_table(rows: Rows) -> TableData:
    """Return a table of the mean singular value of every layer's Jacobian, and of that of a random matrix."""
    lines = []
    for activation in ("tanh", "linear"):
        for scheme, gain in (("standard", 1 / math.sqrt(3)), ("normalized", 1.0)):
            values = [fmean(each) for each in by_layer(rows, scheme, "singular_value", activation=activation).values()]
            if values:
                known = MEAN_SINGULAR_VALUE * gain if activation == "linear" else None
                lines.append((activation, scheme, *values, fmean(values[1:]), known))
    layers = max((len(line) - 4 for line in lines), default=0)
    columns = (
        "activation",
        "initialization",
        *(f"layer {n}" for n in range(1, layers + 1)),
        "mean of 2 and up",
        "theory",
    )
    caption = "Theory: (8 / 3 pi) sigma sqrt(n) for a large square matrix of independent entries with std sigma."
    return TableData(columns, tuple(lines), caption)


def _training_table(rows: Rows) -> TableData:
    """Return a table of the spread over layers at the beginning, at most and at the end of training, for every seed."""
    lines = []
    for scheme in SCHEMES:
        for seed in sorted({row["seed"] for row in rows if row["scheme"] == scheme}):
            mine = only(rows, scheme=scheme, seed=seed)
            losses, found = mine[0]["loss_by_tenth"], spreads(mine, scheme)
            lines.append((scheme, seed, found[0], max(found), found[-1], losses[0], losses[-1]))
    columns = ("initialization", "seed", "at first", "at most", "at last", "first loss", "last loss")
    caption = (
        "Largest / smallest std of dC/dW over the hidden layers, in tenths of training; losses are those of the "
        "training batches, in nats."
    )
    return TableData(columns, tuple(lines), caption)


STUDY = Study(
    name="glorot2010.initialization",
    title="with standard initialization signals shrink upwards and gradients downwards; with normalized they do not",
    source="Glorot & Bengio 2010, figs. 6 to 9, eqs. 4 to 17",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_study,
    rows=read_rows,
    claims=(*START_CLAIMS, *TRAINING_CLAIMS),
    page=page,
    verdicts=verdicts,
    example="--scale demo --data digits --depth 8 --width 100 --trained-seeds 0",
)
