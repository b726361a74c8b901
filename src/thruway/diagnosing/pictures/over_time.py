"""Loss and norms over the steps, with the onset marked."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from thruway.diagnosing.pictures.case import AFTER, BEFORE, EXPECTED, SICK, Case, Draw, Picture
from thruway.diagnosing.reading import Reading
from thruway.figures.downsampling import group_starts, mean
from thruway.figures.lines import line
from thruway.figures.panels import add_note, fit_legend, label, log_axis, small_multiples

__all__ = ["lines_of", "loss_curve", "two_softmaxes"]

Numbers = NDArray[np.float64]
Levels = Mapping[str, float]

MOST_POINTS = 800
DASHES = ("dot", "dash")
HEIGHT = 260  # pixels of the axes; a curve across the whole card need not be high


def loss_curve(levels: Callable[[Case], Levels] | None = None) -> Draw:
    """Return a function that draws the loss, with the onset and, optionally, levels to compare it with."""

    def draw(case: Case) -> Picture | None:
        loss = case.reading.loss
        if loss is None or len(loss) < 2 or not np.isfinite(loss).any():
            return None
        at = _expected(case) if levels is None else levels(case)
        figure = _figure(case, {"loss": loss}, "loss", at)
        mark = "" if case.is_healthy else f" The line marks step {case.finding.onset:,}."
        caption = f"The loss at every recorded step.{mark}"
        return Picture("loss", "The loss", caption, figure, is_wide=True)

    return draw


def _expected(case: Case) -> Levels:
    """Return the expected value and the limit of the finding's evidence about the loss."""
    found = [each for each in case.finding.evidence if each.quantity == "loss"]
    return {
        name: value
        for each in found[:1]
        for name, value in (("expected", each.expected), ("limit", each.threshold))
        if value is not None and math.isfinite(value)
    }


def two_softmaxes(case: Case) -> Levels:
    """Return the loss of guessing, ln K, and the lowest cross-entropy of K probabilities that pass softmax again.

    The largest difference of two probabilities is 1, so the lowest loss is ln(1 + (K - 1) / e).
    """
    sizes = [
        site.shape[-1]
        for site in case.reading.outputs
        if site.name in case.finding.sites and site.shape and site.shape[-1] > 1
    ]
    if not sizes:
        return _expected(case)
    classes = sizes[0]
    return {
        f"ln {classes}: all classes equally likely": math.log(classes),
        "lowest loss that two softmaxes allow": math.log1p((classes - 1) / math.e),
    }


def lines_of(read: Callable[[Reading], Mapping[str, Numbers]], *, title: str, y_name: str, caption: str) -> Draw:
    """Return a function that draws series over the steps, on a logarithmic axis if they span decades."""

    def draw(case: Case) -> Picture | None:
        series = {name: each for name, each in read(case.reading).items() if np.isfinite(each).sum() > 1}
        if not series or len(case.reading.steps) < 2:
            return None
        return Picture("lines", title, caption, _figure(case, series, y_name, {}), is_wide=True)

    return draw


def _figure(case: Case, series: Mapping[str, Numbers], y_name: str, levels: Levels) -> go.Figure:
    steps = case.reading.steps.astype(np.float64)
    known = [float(v) for each in series.values() for v in each[np.isfinite(each)].tolist()]
    log = min(known) > 0 and max(known) > 100 * min(known)
    y_axis = log_axis(y_name, [*known, *levels.values()]) if log else {"title": {"text": label(y_name)}}
    figure = small_multiples([""], [{"title": {"text": "step"}, "range": _range(steps)}], y_axis, height=HEIGHT)
    colors = [case.color, BEFORE, AFTER]
    starts, size = group_starts(len(steps), MOST_POINTS)
    for place, (name, each) in enumerate(series.items()):
        # A quantity that is not measured at every step is joined over the steps between.
        at = starts if np.isfinite(each).all() else np.flatnonzero(np.isfinite(each))
        y = mean(each, starts, 0) if size > 1 and at is starts else each[at]
        trace = line(steps[at], y, title=label(name), x_name="step", color=colors[place % len(colors)])
        is_few = len(at) <= 40
        trace.update(name=label(name), showlegend=len(series) > 1 or bool(levels))
        trace.update(mode="lines+markers" if is_few else "lines", marker={"size": 5})
        figure.add_trace(trace)
    for place, (name, value) in enumerate(levels.items()):
        ends = np.array([steps[0], steps[-1]])
        trace = line(ends, np.full(2, value), title=label(name), x_name="step", color=EXPECTED, width=1.8)
        trace.update(line={"dash": DASHES[place % 2]}, name=label(name), showlegend=True)
        figure.add_trace(trace)
    if not case.is_healthy:
        _mark_onset(figure, case)
    bad = [name for name, each in series.items() if not np.isfinite(each).all() and name == "loss"]
    notes = [f"Each point: the mean of {size} steps."] if size > 1 else []
    return add_note(fit_legend(figure), [*notes, *(["Gaps: not a finite number."] if bad else [])])


def _range(steps: Numbers) -> list[float]:
    margin = 0.015 * float(steps[-1] - steps[0])
    return [float(steps[0]) - margin, float(steps[-1]) + margin]


def _mark_onset(figure: go.Figure, case: Case) -> None:
    finding, steps = case.finding, case.reading.steps
    first, last = float(finding.onset), float(steps[-1] if finding.until is None else finding.until)
    if last > first:
        figure.add_shape(
            type="rect",
            xref="x",
            yref="y domain",
            x0=first,
            x1=last,
            y0=0,
            y1=1,
            fillcolor=SICK,
            opacity=0.07,
            line_width=0,
        )
    figure.add_shape(
        type="line",
        xref="x",
        yref="y domain",
        x0=first,
        x1=first,
        y0=0,
        y1=1,
        line={"color": SICK, "width": 1.6, "dash": "dot"},
    )
    is_left = first - float(steps[0]) < 0.7 * float(steps[-1] - steps[0])
    figure.add_annotation(
        text=f"<b>step {finding.onset:,}</b>",
        x=first,
        xref="x",
        y=1,
        yref="y domain",
        yanchor="bottom",
        xanchor="left" if is_left else "right",
        showarrow=False,
        font={"color": SICK, "size": 12},
    )
