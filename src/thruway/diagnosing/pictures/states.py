"""A grid of parameters: frozen, not in the optimizer, without gradient, or unchanged at the onset."""

import numpy as np
import plotly.graph_objects as go

from thruway.diagnosing.pictures.case import SICK, Case, Picture
from thruway.diagnosing.reading import Parameter
from thruway.figures.downsampling import evenly_spaced
from thruway.figures.panels import add_margins, add_note, fit_legend, label, small_multiples
from thruway.figures.theme import FAINT, GREY
from thruway.figures.ticks import shortened

__all__ = ["parameter_states"]

MOST = 40  # parameters; more are not readable
TRAINABLE, OPTIMIZED, HAS_GRADIENT = 1, 2, 4  # bits of watching.ParameterState
COLUMNS = ("trainable", "in optimizer", "has gradient", "changes")


def parameter_states(case: Case) -> Picture | None:
    """Draw, for each parameter, if it is trainable, in the optimizer, has a gradient, and changes."""
    parameters = case.reading.parameters
    sick = {name for name in case.finding.sites}
    rows = _chosen(parameters, sick)
    if not rows:
        return None
    cells = np.array([_cells(each, case.column) for each in rows])
    if not np.isfinite(cells).any():
        return None
    names = [each.name for each in rows]
    whole = [label(name, longest=len(name)) for name in names]
    x_axis = {"side": "top", "tickangle": 0, "showgrid": False, "showline": False, "ticks": "", "type": "category"}
    y_axis = {
        "type": "category",
        "autorange": "reversed",
        "tickvals": whole,
        "ticktext": shortened(names, 34),
        "automargin": True,
        "showgrid": False,
        "showline": False,
        "ticks": "",
    }
    figure = small_multiples([""], [x_axis], y_axis, height=max(60, 22 * len(rows)))
    for answer, color, ink in ((0, SICK, "#ffffff"), (1, FAINT, GREY)):
        figure.add_trace(
            go.Heatmap(
                x=list(COLUMNS),
                y=whole,
                z=np.where(cells == answer, cells, np.nan),
                zmin=0,
                zmax=1,
                colorscale=[[0, color], [1, color]],
                showscale=False,
                xgap=3,
                ygap=3,
                text=[[("yes" if answer else "no") if c == answer else "" for c in row] for row in cells],
                texttemplate="%{text}",
                textfont={"color": ink, "size": 11},
                hovertemplate="%{y}<br>%{x}: %{text}<extra></extra>",
                hoverongaps=False,
            )
        )
    fit_legend(figure)
    meta = dict(figure.layout.meta)
    meta["narrow"] = {**meta["narrow"], "yaxis.ticktext": shortened(names, 14), "xaxis.tickfont.size": 9}
    meta["wide"] = {**meta["wide"], "yaxis.ticktext": shortened(names, 34), "xaxis.tickfont.size": 12}
    figure.layout.meta = meta
    add_margins(figure, below=-40)  # the axis is above the grid
    notes = [f"{len(rows)} of {len(parameters):,} parameters."] if len(rows) < len(parameters) else []
    return Picture(
        "states",
        "State of the parameters",
        f"Parameters at step {case.finding.onset:,}, the affected ones first. Training needs four times yes.",
        add_note(figure, notes),
        is_wide=True,
    )


def _chosen(parameters: tuple[Parameter, ...], sick: set[str]) -> list[Parameter]:
    """Return the affected parameters, then others, evenly spaced."""
    owners = tuple(f"{name}." for name in sick if name)
    first = [each for each in parameters if each.name in sick or each.name.startswith(owners)]
    if len(first) >= MOST:
        return [first[place] for place in evenly_spaced(len(first), MOST)]
    names = {each.name for each in first}
    others = [each for each in parameters if each.name not in names]
    room = min(MOST - len(first), max(8, len(first)))
    return first + ([others[place] for place in evenly_spaced(len(others), room)] if others else [])


def _cells(parameter: Parameter, column: int) -> list[float]:
    """Return (trainable, in the optimizer, has a gradient, changes) as 0, 1 or NaN if it is not known."""
    known = parameter.state[~np.isnan(parameter.state)]
    state = parameter.state[column] if not np.isnan(parameter.state[column]) else (known[-1] if len(known) else np.nan)
    bits = (
        [np.nan] * 3
        if np.isnan(state)
        else [float(bool(int(state) & bit)) for bit in (TRAINABLE, OPTIMIZED, HAS_GRADIENT)]
    )
    updates = parameter.update_norm[np.isfinite(parameter.update_norm)]
    changes = float((updates > 0).any()) if len(updates) else (np.nan if np.isnan(state) else 0.0)
    return [*bits, changes]
