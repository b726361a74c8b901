"""A quantity over depth, at the onset and before it, beside the line that theory expects."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from thruway.diagnosing.pictures.case import (
    AFTER,
    BEFORE,
    EXPECTED,
    SICK,
    Case,
    Draw,
    Picture,
    Source,
    halved,
    last_known,
)
from thruway.diagnosing.pictures.maps import chosen_sites, without_scalars
from thruway.diagnosing.reading import Reading, Values
from thruway.diagnosing.wording import number
from thruway.figures.lines import line
from thruway.figures.panels import add_note, axis_title, fit_legend, label, log_axis, small_multiples
from thruway.figures.theme import GREY

__all__ = ["Line", "depth_of"]

Numbers = NDArray[np.float64]
# Returns (names of the layers, expected numbers), or None, at a place among the recorded steps.
Line = Callable[[Reading, int], tuple[list[str], Numbers] | None]

MOST_POINTS = 1000
MARKERS_BELOW = 60  # layers; more markers would cover each other


def depth_of(
    *sources: Source,
    title: str,
    theory: Line | None = None,
    reference: float | str | None = None,
    reference_name: str = "",
    only: Callable[[Reading], set[str]] | None = None,
    name: str = "depth",
) -> Draw:
    """Return a function that draws the first of the sources that the trace has over depth.

    Args:
        sources: quantities, the preferred one first.
        title: heading of the picture.
        theory: line that theory expects for the measured weights.
        reference: a constant that a healthy network has; "first" or "last" for the measured number of that layer.
        reference_name: name of the reference in the legend.
        only: names of the sites to draw, as a function of the reading; if the trace has fewer than two of them, all.
        name: name of the picture.
    """

    def draw(case: Case) -> Picture | None:
        for source in sources:
            values = source.read(case.reading)
            if values is None or not np.isfinite(values.values).any():
                continue
            values = chosen_sites(case, without_scalars(values), only)
            found = _draw(case, source, values, title, theory, reference, reference_name)
            return None if found is None else Picture(name, title, found[1], found[0])
        return None

    return draw


def _draw(
    case: Case,
    source: Source,
    values: Values,
    title: str,
    theory: Line | None,
    reference: float | str | None,
    reference_name: str,
) -> tuple[go.Figure, str] | None:
    if len(values.sites) < 2:
        return None
    names = case.names(values.sites)
    x = np.arange(1.0, len(names) + 1)
    column, finding = case.column, case.finding
    lines: dict[str, tuple[Numbers, str, float]] = {}
    if finding.since[0] is not None:
        before = last_known(values.values, case.column_of(finding.since[0]))
        lines[f"before: step {finding.since[0]:,}"] = (before, BEFORE, 1.8)
    end = len(case.reading.steps) - 1 if finding.until is None else case.column_of(finding.until)
    if end > column and finding.since[0] is None:
        lines[f"later: step {int(case.reading.steps[end]):,}"] = (last_known(values.values, end), AFTER, 1.4)
    measured = last_known(values.values, column)
    lines[f"measured: step {finding.onset:,}"] = (measured, case.color, 2.6)
    expected = None if theory is None else theory(case.reading, column)
    log = source.log or (
        not source.is_share and _spans_decades(np.concatenate([each for each, _, _ in lines.values()]))
    )
    known = [float(v) for each, _, _ in lines.values() for v in each.tolist() if math.isfinite(v)]
    level = _level(reference, measured)
    if expected is not None:
        known += [float(v) for v in expected[1].tolist() if math.isfinite(v)]
    if level is not None:
        known.append(level)
    y_name = axis_title(source.quantity, source.unit)
    y_axis = log_axis(y_name, known) if log else {"title": {"text": y_name}, "rangemode": "tozero"}
    figure = small_multiples([""], [_depth_axis(names)], y_axis)
    if level is not None:
        ends = np.array([x[0], x[-1]])
        figure.add_trace(
            line(ends, np.full(2, level), title=reference_name, x_name="layer", color=EXPECTED, width=1.8).update(
                line={"dash": "dot"}, name=label(reference_name), showlegend=True
            )
        )
    if expected is not None:
        places = {site.name: place for place, site in enumerate(values.sites, 1)}
        at = [(places[each], v) for each, v in zip(*expected, strict=True) if each in places]
        figure.add_trace(
            line(
                np.array([p for p, _ in at], dtype=np.float64),
                _on_axis(np.array([v for _, v in at]), log),
                title="theory, for the measured weights",
                x_name="layer",
                color=GREY,
            ).update(line={"dash": "dash"}, name="theory, for the measured weights", showlegend=True)
        )
    for name, (each, color, width) in lines.items():
        _add_line(figure, x, _on_axis(each, log), names, name, color, width)
    zeros = _add_zeros(figure, x, measured, names, known) if log else 0
    affected = case.affected(values.sites)
    if 0 < len(affected) < len(names):
        _mark(figure, x, _on_axis(measured, log), affected, names)
    fit_legend(figure)
    notes = [f"Triangles at the bottom: {zeros:,} layers with 0."] if zeros else []
    if not np.isfinite(measured).all():
        notes.append("Gaps: no finite number.")
    return add_note(halved(figure), notes), _caption(case, source, len(affected), len(names), expected is not None)


def _level(reference: float | str | None, measured: Numbers) -> float | None:
    if reference is None or isinstance(reference, float | int):
        return reference
    known = measured[np.isfinite(measured) & (measured > 0)]
    return float(known[0 if reference == "first" else -1]) if known.size else None


def _spans_decades(values: Numbers) -> bool:
    known = values[np.isfinite(values)]
    positive = known[known > 0]
    return bool(positive.size and known.min() >= 0 and positive.max() >= 30 * positive.min())


def _on_axis(values: Numbers, log: bool) -> Numbers:
    """Replace numbers that have no place on the axis by gaps."""
    return np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)


def _add_line(figure: go.Figure, x: Numbers, y: Numbers, names: list[str], name: str, color: str, width: float) -> None:
    trace = line(x, y, title=label(name), x_name="layer", color=color, width=width)
    is_marked = len(x) <= MARKERS_BELOW and width > 2
    # A single layer between gaps is only visible as a marker.
    trace.update(
        name=label(name),
        showlegend=True,
        mode="lines+markers" if is_marked or _has_lonely(y) else "lines",
        marker={"size": 5, "color": color},
        customdata=[label(each) for each in names],
        hovertemplate="%{customdata}<br>%{meta[0]}: %{y:.3g}<extra></extra>",
    )
    figure.add_trace(trace)


def _has_lonely(y: Numbers) -> bool:
    known = np.concatenate([[False], np.isfinite(y), [False]])
    return bool((known[1:-1] & ~known[:-2] & ~known[2:]).any())


def _add_zeros(figure: go.Figure, x: Numbers, measured: Numbers, names: list[str], known: list[float]) -> int:
    """Draw layers with exactly 0, which has no place on a logarithmic axis, as triangles at its lower end."""
    rows = np.flatnonzero(measured == 0)
    positive = [each for each in known if each > 0]
    if not len(rows):
        return 0
    floor = min(positive, default=1.0) / 3
    figure.add_trace(
        go.Scatter(
            x=x[rows],
            y=np.full(len(rows), floor),
            mode="markers",
            marker={"symbol": "triangle-down-open", "size": 8, "color": SICK},
            showlegend=False,
            customdata=[label(names[row]) for row in rows],
            hovertemplate="%{customdata}: 0<extra></extra>",
        )
    )
    return len(rows)


def _mark(figure: go.Figure, x: Numbers, y: Numbers, affected: list[int], names: list[str]) -> None:
    """Put a ring around the affected layers; of many, shade the range instead."""
    runs = [list(group) for _, group in itertools.groupby(enumerate(affected), key=lambda pair: pair[1] - pair[0])]
    if len(affected) > 12:
        for run in runs[:20]:
            low, high = x[run[0][1]] - 0.5, x[run[-1][1]] + 0.5
            figure.add_shape(
                type="rect",
                xref="x",
                yref="paper",
                x0=low,
                x1=high,
                y0=0,
                y1=1,
                fillcolor=SICK,
                opacity=0.08,
                line_width=0,
            )
        return
    figure.add_trace(
        go.Scatter(
            x=x[affected],
            y=y[affected],
            mode="markers",
            name="affected",
            marker={"symbol": "circle-open", "size": 12, "color": SICK, "line": {"width": 2}},
            hoverinfo="skip",
        )
    )


def _depth_axis(names: list[str]) -> dict[str, object]:
    # Names of layers would overlap; the hover text has them.
    ends = f"1 = {names[0]}, {len(names):,} = {names[-1]}"
    is_clear = len(ends) < 40 and not names[0].isdigit()
    short = f"layer ({ends})" if is_clear else "layer, from the first to the last"
    return {
        "title": {"text": label(short, longest=60)},
        "range": [0.5 - 0.02 * len(names), len(names) + 0.5 + 0.02 * len(names)],
        "dtick": 1 if len(names) <= 8 else None,
        "tickformat": ",d",
    }


def _caption(case: Case, source: Source, affected: int, count: int, has_theory: bool) -> str:
    finding = case.finding
    parts = [f"The {source.quantity} of every layer at step {finding.onset:,}."]
    if has_theory:
        parts.append("Dashed: what theory predicts from the measured weights alone.")
    rates = [
        f"Measured {number(each.value)}, theory {number(each.expected)}."
        for each in finding.evidence
        if each.role == "theory" and each.expected is not None
    ]
    parts += rates[:1]
    if 0 < affected < count:
        parts.append("Rings: affected layers." if affected <= 12 else "Shaded: affected layers.")
    return " ".join(parts)
