"""A quantity over depth, at the onset and before it, beside the line that theory expects."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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
from thruway.diagnosing.wording import count
from thruway.figures.lines import line
from thruway.figures.panels import add_note, axis_title, fit_legend, label, log_axis, small_multiples
from thruway.figures.theme import GREY

__all__ = ["Line", "Reference", "depth_of"]

Numbers = NDArray[np.float64]
Expected = tuple[list[str], Numbers]  # names of the layers, and their expected numbers
Line = Callable[[Reading, int], Expected | None]  # of a reading, at a place among its steps

MARKERS_BELOW = 60  # layers; more markers would cover each other


@dataclass(frozen=True)
class Reference:
    """A number that a healthy network has in every layer: a constant, or that of the first or last layer."""

    value: float | Literal["first", "last"]
    name: str

    def of(self, measured: Numbers) -> float | None:
        """Return the number; None if the first or last layer has no positive one."""
        if isinstance(self.value, float):
            return self.value
        known = measured[np.isfinite(measured) & (measured > 0)]
        return float(known[0 if self.value == "first" else -1]) if known.size else None


def depth_of(
    *sources: Source,
    title: str,
    theory: Line | None = None,
    reference: Reference | None = None,
    only: Callable[[Reading], set[str]] | None = None,
    name: str = "depth",
) -> Draw:
    """Return a function that draws the first of the sources that the trace has over depth.

    Args:
        sources: quantities, the preferred one first.
        title: heading of the picture.
        theory: line that theory expects for the measured weights.
        reference: a number that a healthy network has in every layer.
        only: names of the sites to draw, as a function of the reading; if the trace has fewer than two of them, all.
        name: name of the picture.
    """

    def draw(case: Case) -> Picture | None:
        for source in sources:
            values = source.read(case.reading)
            if values is None or not np.isfinite(values.values).any():
                continue
            values = chosen_sites(case, without_scalars(values), only)
            if len(values.sites) < 2:
                return None
            expected = None if theory is None else theory(case.reading, case.column)
            figure, caption = _draw(case, source, values, expected, reference)
            return Picture(name, title, caption, figure)
        return None

    return draw


def _draw(
    case: Case, source: Source, values: Values, expected: Expected | None, reference: Reference | None
) -> tuple[go.Figure, str]:
    names = case.names(values.sites)
    x = np.arange(1.0, len(names) + 1)
    lines = _lines(case, values, is_crowded=expected is not None or reference is not None)
    measured = last_known(values.values, case.column)
    level = None if reference is None else reference.of(measured)
    drawn = np.concatenate([each for each, _, _ in lines.values()])
    log = source.log or (not source.is_share and _spans_decades(drawn))
    known = [*drawn[np.isfinite(drawn)].tolist(), *([] if level is None else [level])]
    if expected is not None:
        known += expected[1][np.isfinite(expected[1])].tolist()
    y_name = axis_title(source.quantity, source.unit)
    y_axis = log_axis(y_name, known) if log else {"title": {"text": y_name}, "rangemode": "tozero"}
    figure = small_multiples([""], [_depth_axis(names)], y_axis)
    if reference is not None and level is not None:
        _add_flat(figure, np.array([x[0], x[-1]]), np.full(2, level), reference.name, EXPECTED, "dot")
    for name, (each, color, width) in lines.items():
        _add_line(figure, x, _on_axis(each, log), names, name, color, width)
    if expected is not None:
        places = {site.name: place for place, site in enumerate(values.sites, 1)}
        at = [(float(places[each]), v) for each, v in zip(*expected, strict=True) if each in places]
        line_x, line_y = np.array([p for p, _ in at]), _on_axis(np.array([v for _, v in at]), log)
        _add_flat(figure, line_x, line_y, "theory, for the measured weights", GREY, "dash")
    zeros = _add_zeros(figure, x, measured, names, known) if log else 0
    affected = case.framed(values.sites)
    if 0 < len(affected) < len(names):
        _mark(figure, x, _on_axis(measured, log), affected)
    fit_legend(figure)
    notes = [f"Triangles at the bottom: {count(zeros, 'layer')} with 0."] if zeros else []
    if not np.isfinite(measured).all():
        notes.append("Gaps: no finite number.")
    caption = _caption(case, source, len(affected), len(names), expected is not None)
    return add_note(halved(figure), notes), caption


def _lines(case: Case, values: Values, *, is_crowded: bool) -> dict[str, tuple[Numbers, str, float]]:
    """Return (numbers, colour, width) of the step before the onset, of the last step, and of the onset."""
    finding, steps = case.finding, case.reading.steps
    found: dict[str, tuple[Numbers, str, float]] = {}
    if finding.since[0] is not None:
        before = last_known(values.values, case.column_of(finding.since[0]))
        found[f"before: step {finding.since[0]:,}"] = (before, BEFORE, 1.8)
    end = len(steps) - 1 if finding.until is None else case.column_of(finding.until)
    if end > case.column and (finding.since[0] is None or not is_crowded):
        found[f"later: step {int(steps[end]):,}"] = (last_known(values.values, end), AFTER, 1.4)
    found[f"measured: step {finding.onset:,}"] = (last_known(values.values, case.column), case.color, 2.6)
    return found


def _add_flat(figure: go.Figure, x: Numbers, y: Numbers, name: str, color: str, dash: str) -> None:
    trace = line(x, y, title=label(name), x_name="layer", color=color, width=1.8)
    figure.add_trace(trace.update(line={"dash": dash}, name=label(name), showlegend=True))


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


def _mark(figure: go.Figure, x: Numbers, y: Numbers, affected: list[int]) -> None:
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
    is_clear = len(ends) < 28 and not names[0].isdigit()
    short = f"layer ({ends})" if is_clear else "layer, from the first to the last"
    return {
        "title": {"text": label(short, longest=60)},
        "range": [0.5 - 0.02 * len(names), len(names) + 0.5 + 0.02 * len(names)],
        "dtick": 1 if len(names) <= 8 else None,
        "tickformat": ",d",
    }


def _caption(case: Case, source: Source, affected: int, total: int, has_theory: bool) -> str:
    finding = case.finding
    parts = [f"The {source.quantity} of every layer at step {finding.onset:,}."]
    if has_theory:
        parts.append("Dashed: what theory predicts from the measured weights alone.")
    parts += [source.note] if source.note else []
    if 0 < affected < total:
        parts.append("Rings: affected layers." if affected <= 12 else "Shaded: affected layers.")
    return " ".join(parts)
