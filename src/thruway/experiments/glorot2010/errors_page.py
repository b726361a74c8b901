"""Report of the study of errors: Table 1, error curves, the SVM, and the search."""

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from thruway.experiments.glorot2010.errors import PAIRS, SCALES, Config, load_parts
from thruway.experiments.glorot2010.errors_claims import (
    PAPER,
    choice_table,
    claims,
    error_table,
    errors_of,
    svm_table,
)
from thruway.experiments.glorot2010.errors_training import read_majority_error, read_rivals, read_rows, run_study
from thruway.experiments.glorot2010.streams import data_in_words
from thruway.experiments.machinery import Rows, Study, StudyPage, judge, only
from thruway.experiments.machinery.study import differences
from thruway.figures import run_curves
from thruway.figures.panels import axes_of, empty_figure, fit_legend, label, legend_key, small_multiples
from thruway.figures.theme import BLOCK_STYLES, GREY, OTHER_STYLES
from thruway.report import ClaimVerdict, Section
from thruway.runs import RunReader

__all__ = ["STUDY", "Curve", "error_curves", "final_curves", "page", "verdicts"]

_DIFFERS = (
    "the grid of learning rates and the number of seeds are ours: the paper states neither",
    "the learning rate and the depth are chosen once, on networks of one seed; the tested networks have other weights "
    "and see other examples; the paper does not say whether its tested networks are those used for the choice",
    "all pairs of a seed start from the same random numbers, scaled by their initializer, and see the same examples, "
    "so that their differences are paired",
    "the learning rate multiplies the gradient of the mean loss over a batch",
    "pre-training: masking noise, transposed weights, a linear decoder, squared error, one rate for all layers; "
    "the paper states none of these",
    "the grid of C and gamma for the SVM is ours; the network compared with it is stopped at its lowest validation "
    "error",
    "our Shapeset counts hidden pixels exactly; the authors' generator estimates their number",
)


def verdicts(reader: RunReader, config: Config, rows: Rows) -> list[ClaimVerdict]:
    """Judge the claims on the tested networks; returns no verdict before the first of them is fully trained."""
    tested = [row for row in rows if row["stage"] != "search"]
    if not only(tested, stage="final"):
        return []
    return [judge(claim, tested) for claim in claims(config, read_majority_error(reader))]


def page(reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the contents of the report."""
    table = error_table(rows, read_rivals(reader), config)
    errors: dict[str, list[float]] = {
        pair: found for pair in config.pairs if (found := errors_of(rows, pair, config.deepest))
    }
    seconds = sum(row["seconds"] or 0.0 for row in rows)
    return StudyPage(
        title="How do activation and initialization affect the error of a deep network?",
        subtitle="Table 1 and figs. 11 and 12 of Understanding the difficulty of training deep feedforward neural "
        "networks, Glorot & Bengio 2010",
        lead=_lead(rows, config, reader.status),
        sections=(
            Section(
                "Test errors, compared with the paper's",
                _table_figure(errors, PAPER.get(config.data, {}), read_majority_error(reader)),
                _reading(config),
                table,
            ),
            Section(
                "Test error during training",
                error_curves(final_curves(reader, config), config.batch),
                f"Networks with {config.deepest} hidden layers, mean over seeds. Dashed: standard initialization. "
                "Solid: normalized initialization. Grey: pre-trained. A curve that stays at the top belongs to "
                "networks that do not learn.",
            ),
            *_svm_section(rows, config),
            Section(
                "The choice of learning rate and depth",
                _search_figure(only(rows, stage="search")),
                "Validation error at the end of the search. A pair that is easy to train has a low error over a wide "
                "range.",
                choice_table(rows, config),
            ),
        ),
        table=table,
        facts={
            "scale": config.scale,
            "data": data_in_words(config),
            "seeds": f"{config.seeds}, from {config.seed} to {config.seed + config.seeds - 1}",
            "search": f"{len(config.learning_rates)} learning rates at {len(config.depths)} depths, "
            f"{config.search_updates:,} updates of {config.batch} examples",
            "tested nets": f"{config.width} units per layer, {config.updates:,} updates of {config.batch} examples",
            "significance": "exact McNemar test on the test examples of each seed, the largest p of the seeds; and "
            "Student's paired t over seeds; the paper's level is 0.005, and it does not say which test it used",
        },
        cost=f"{seconds / 60:.1f} minutes of training",
        differs=[*differences(config, SCALES["paper"]), *_DIFFERS],
    )


def _lead(rows: Rows, config: Config, status: str) -> str:
    sentences = []
    for pair in config.pairs:
        errors = [error for error in errors_of(rows, pair, config.deepest) if not math.isnan(error)]
        if errors:
            sentences.append(f"{PAIRS[pair].title} {100 * statistics.fmean(errors):.1f} %")
    if not sentences:
        return f"No network has been trained to the end yet (the run is {status})."
    answer = f"With {config.deepest} hidden layers the test errors are: {', '.join(sentences)}."
    return answer if status == "done" else f"The run is {status}. {answer}"


def _reading(config: Config) -> str:
    if config.data not in PAPER:
        return "The paper has no numbers for this data set; compare the order of the pairs with its Table 1."
    if config.scale == "paper":
        return "One mark per seed; the bar is the paper's number."
    return (
        "One mark per seed; the bar is the paper's number. Its networks are wider and saw many more examples, so "
        "compare the order of the pairs, not the values."
    )


def _svm_section(rows: Rows, config: Config) -> tuple[Section, ...]:
    if not config.fixed_examples:
        return ()
    reading = (
        f"Both are trained on the same {config.fixed_examples:,} examples, with settings chosen on the same validation "
        "examples."
    )
    return (Section("Comparison with an SVM", None, reading, svm_table(rows, config)),)


# --- figures

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Updates, (updates,), and the test error of every seed at each of them, (updates, seeds); NaN if unknown."""


def final_curves(reader: RunReader, config: Config) -> dict[str, Curve]:
    """Return the curve of the test error at the greatest depth for each pair, in the order of the config."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for entry in reader.table(quantity="test_error").rows():
        stage, _, rest = entry["site"].partition("/")
        pair, _, depth = rest.partition("/")
        if stage == "final" and int(depth) == config.deepest:
            found.setdefault(pair, {}).setdefault(entry["step"], {})[entry["member"]] = entry["value"]
    curves: dict[str, Curve] = {}
    for pair in config.pairs:
        if pair in found:
            steps = sorted(found[pair])
            errors = [[found[pair][step].get(member, math.nan) for member in range(config.seeds)] for step in steps]
            curves[pair] = (np.array(steps, dtype=np.float64), np.array(errors, dtype=np.float64))
    return curves


# An activation has a colour, an initialization a dash and a marker.
_COLOURS = {
    "tanh": BLOCK_STYLES["plain"].color,
    "softsign": BLOCK_STYLES["highway"].color,
    "sigmoid": OTHER_STYLES[0].color,
}
_STANDARD, _NORMALIZED, _PRETRAINED = ("dash", "circle-open"), ("solid", "circle"), ("dot", "diamond")


def error_curves(curves: Mapping[str, Curve], batch: int) -> go.Figure:
    """Draw figs. 11 and 12: test error against training examples, as the mean and the range over seeds."""
    lines, bands = {}, {}
    for pair, (updates, errors) in curves.items():
        # NaN is a seed that has diverged or is still in training: then there is no mean.
        percent, name = 100 * errors, PAIRS[pair].title
        lines[name] = (updates * batch, percent.mean(axis=1))
        if percent.shape[1] > 1:
            bands[name] = (updates * batch, percent.min(axis=1), percent.max(axis=1))
    figure = run_curves(
        lines,
        bands=bands,
        references=[PAIRS[pair].title for pair in curves if PAIRS[pair].is_pretrained],
        x_name="training examples seen",
        y_name="test error (%)",
    )
    for pair in curves:
        colour, dash, symbol = _style(pair)
        for trace in figure.data:
            if trace.legendgroup == label(PAIRS[pair].title):
                is_band = trace.fill == "toself"
                trace.update(fillcolor=colour) if is_band else trace.update(
                    line={"color": colour, "dash": dash}, marker={"color": colour, "symbol": symbol}
                )
    return figure


def _table_figure(
    errors: Mapping[str, Sequence[float]], paper: Mapping[str, float], majority_error: float
) -> go.Figure:
    """Plot the test error of every pair, 0 to 1, with one mark per seed, and the paper's error in percent."""
    if not errors:
        return empty_figure("No error to draw: no network has been trained to the end yet.")
    titles = [PAIRS[pair].title for pair in errors]
    axis = {"type": "category", "range": [-0.5, len(titles) - 0.5], "categoryarray": titles, "categoryorder": "array"}
    figure = small_multiples([""], [axis], {"title": {"text": "test error (%)"}, "rangemode": "tozero"})
    for pair, seeds in errors.items():
        colour, _, symbol = _style(pair)
        style = {"color": colour, "symbol": symbol, "size": 11, "line": {"width": 1.5, "color": colour}}
        figure.add_scatter(
            x=[PAIRS[pair].title] * len(seeds),
            y=[100 * error for error in seeds],
            mode="markers",
            marker=style,
            showlegend=False,
            hovertemplate="%{x}: %{y:.2f} %<extra>this run</extra>",
        )
    if paper:
        known = [pair for pair in errors if pair in paper]
        figure.add_scatter(
            x=[PAIRS[pair].title for pair in known],
            y=[paper[pair] for pair in known],
            mode="markers",
            name="the paper",
            marker={"symbol": "line-ew-open", "size": 26, "color": GREY, "line": {"width": 2.5, "color": GREY}},
            hovertemplate="%{x}: %{y:.2f} %<extra>the paper</extra>",
        )
    if math.isfinite(majority_error):
        figure.add_hline(y=100 * majority_error, line={"color": GREY, "dash": "dot", "width": 1})
        dotted = {"dash": "dot", "color": GREY}
        figure.add_trace(legend_key("always the most frequent class", mode="lines", line=dotted))
    figure.add_trace(legend_key("this run, each seed", mode="markers", marker={"symbol": "circle", "size": 11}))
    return fit_legend(figure)


def _search_figure(rows: Rows) -> go.Figure:
    """Plot the validation error against the learning rate, with one panel per depth."""
    if not rows:
        return empty_figure("No search to draw: its networks have not been trained to the end yet.")
    depths = sorted({row["depth"] for row in rows})
    rates = sorted({row["learning_rate"] for row in rows})
    axis = {"type": "log", "title": {"text": "learning rate"}, "tickvals": rates, "ticktext": [f"{r:g}" for r in rates]}
    titles = [f"{depth} hidden layer{'s' * (depth != 1)}" for depth in depths]
    figure = small_multiples(titles, [axis] * len(depths), {"title": {"text": "validation error (%)"}})
    named: set[str] = set()
    for pair in (pair for pair in PAIRS if any(row["pair"] == pair for row in rows)):
        colour, dash, symbol = _style(pair)
        for number, depth in enumerate(depths):
            mine = sorted((row["learning_rate"], row["valid_error"]) for row in only(rows, pair=pair, depth=depth))
            if not mine:
                continue
            x, y = axes_of(number)
            figure.add_scatter(
                x=[rate for rate, _ in mine],
                y=100 * np.array([error for _, error in mine]),
                mode="lines+markers",
                line={"color": colour, "dash": dash},
                marker={"color": colour, "symbol": symbol, "size": 8},
                name=label(PAIRS[pair].title),
                legendgroup=pair,
                showlegend=pair not in named,
                xaxis=x,
                yaxis=y,
                meta=label(PAIRS[pair].title),
                hovertemplate="%{meta}<br>learning rate %{x}: %{y:.2f} %<extra></extra>",
            )
            named.add(pair)
    return fit_legend(figure)


def _style(pair: str) -> tuple[str, str, str]:
    """Return the colour, dash and marker of a pair."""
    entry = PAIRS[pair]
    start = _PRETRAINED if entry.is_pretrained else _STANDARD if entry.scheme == "standard" else _NORMALIZED
    return (GREY if entry.is_pretrained else _COLOURS[entry.activation], *start)


STUDY = Study(
    name="glorot2010.errors",
    title="the error of a deep network depends on its activation and its initialization",
    source="Glorot & Bengio 2010, Table 1, figs. 11 and 12",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_study,
    rows=read_rows,
    claims=claims,
    page=page,
    verdicts=verdicts,
    example="--scale demo --data digits --pairs tanh tanh-n --depths 1 3 --learning-rates 0.03 0.1",
)
