"""Measured number, expected number and limit of each piece of evidence, on one logarithmic axis."""

import math

import numpy as np
import plotly.graph_objects as go

from thruway.diagnosing.finding import Evidence
from thruway.diagnosing.pictures.case import EXPECTED, SICK, Case, Picture
from thruway.figures.panels import add_note, fit_legend, label, log_axis, small_multiples
from thruway.figures.theme import GREY
from thruway.figures.ticks import shortened

__all__ = ["evidence_figure"]


def evidence_figure(case: Case) -> Picture | None:
    """Draw the evidence that has a finite number and something to compare it with."""
    rows = [each for each in case.finding.evidence if _comparisons(each)]
    if not rows:
        return None
    numbers = [abs(v) for each in rows for v in (each.value, *_comparisons(each).values()) if v and math.isfinite(v)]
    if not numbers:
        return None
    names = [f"{each.quantity.replace('_', ' ')}{f', {each.site}' if each.site else ''}" for each in rows]
    unique = [name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names, 1)]
    y_axis = {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": [label(each, longest=200) for each in unique[::-1]],
        "tickvals": [label(each, longest=200) for each in unique],
        "ticktext": shortened(unique, 34),
        "automargin": True,
        "range": [-0.6, len(rows) - 0.4],
    }
    figure = small_multiples([""], [log_axis("size of the number", numbers)], y_axis, height=46 * len(rows) + 20)
    marks: dict[str, tuple[str, str, list[float | None]]] = {
        "measured": ("circle", SICK, [each.value for each in rows]),
        "expected": ("diamond-open", EXPECTED, [each.expected for each in rows]),
        "limit": ("line-ns-open", GREY, [each.threshold for each in rows]),
    }
    for name, (symbol, color, values) in marks.items():
        at = [(abs(v), label(n, longest=200), v) for v, n in zip(values, unique, strict=True) if v and math.isfinite(v)]
        if at:
            figure.add_trace(
                go.Scatter(
                    x=np.array([x for x, _, _ in at]),
                    y=[y for _, y, _ in at],
                    customdata=[v for _, _, v in at],
                    mode="markers",
                    name=name,
                    marker={"symbol": symbol, "color": color, "size": 12, "line": {"color": color, "width": 2}},
                    hovertemplate="%{y}<br>" + name + " %{customdata:.4g}<extra></extra>",
                )
            )
    fit_legend(figure)
    zero = sum(each.value == 0 for each in rows)
    notes = [f"Not shown: {zero} measured {'number' if zero == 1 else 'numbers'} equal to 0."] if zero else []
    figure.update_layout(showlegend=True)
    return Picture(
        "numbers",
        "The numbers of the evidence",
        "Each measured number beside the one that is expected and its limit.",
        add_note(figure, notes),
        is_wide=True,
    )


def _comparisons(evidence: Evidence) -> dict[str, float]:
    named = {"expected": evidence.expected, "limit": evidence.threshold}
    return {name: value for name, value in named.items() if value is not None}
