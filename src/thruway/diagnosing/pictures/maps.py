"""Maps of a quantity, layers by steps, with a frame around the affected layers from the onset on."""

import itertools
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from thruway.diagnosing.pictures.case import SICK, Case, Draw, Picture, Source, halved
from thruway.diagnosing.reading import Reading, Values
from thruway.figures import heat_map
from thruway.figures.downsampling import evenly_spaced, group_starts
from thruway.figures.panels import add_margins
from thruway.figures.ticks import shortened

__all__ = ["chosen_sites", "frame", "map_of", "without_scalars"]

MOST_ROWS, MOST_COLUMNS = 420, 300  # about the pixels of the map; more cells would only make the page larger
DECADES = 100.0  # from this ratio of the largest to the smallest value on, colours are logarithmic
TICKS = 12
MOST_FRAMES = 8
MOST_BAR_TEXT = 32  # characters of all labels of the colour bar, which is about 240 pixels wide


def map_of(*sources: Source, title: str, only: Callable[[Reading], set[str]] | None = None) -> Draw:
    """Return a function that draws the first of the sources that the trace has, and None if it has none of them.

    A map needs two steps and two sites: of one step, the figure over depth shows everything.
    """

    def draw(case: Case) -> Picture | None:
        for source in sources:
            values = source.read(case.reading)
            if values is not None and np.isfinite(values.values).any():
                return _draw(case, source, chosen_sites(case, without_scalars(values), only), title)
        return None

    return draw


def chosen_sites(case: Case, values: Values, only: Callable[[Reading], set[str]] | None) -> Values:
    """Keep the sites with the chosen names, unless that would hide all affected sites."""
    if only is None:
        return values
    names = only(case.reading)
    rows = [row for row, site in enumerate(values.sites) if site.name in names]
    chosen = Values(tuple(values.sites[row] for row in rows), values.values[rows])
    hides = bool(case.affected(values.sites)) and not case.affected(chosen.sites)
    return values if len(rows) < 2 or hides else chosen


def without_scalars(values: Values) -> Values:
    """Remove outputs of one number, such as a loss that the model returns: they are no layers."""
    kept = [row for row, site in enumerate(values.sites) if site.kind != "output" or not _is_scalar(site.shape)]
    if len(kept) in (0, len(values.sites)):
        return values
    return Values(tuple(values.sites[row] for row in kept), values.values[kept])


def _is_scalar(shape: tuple[int, ...]) -> bool:
    return bool(shape) and int(np.prod(shape)) == 1


def _draw(case: Case, source: Source, values: Values, title: str) -> Picture | None:
    # A quantity that is measured at every tenth step has columns only there.
    measured = np.flatnonzero(~np.isnan(values.values).all(0))
    if len(measured) < 2 or len(values.sites) < 2:
        return None
    steps, table = case.reading.steps[measured], values.values[:, measured]
    known = table[np.isfinite(table)]
    log = source.log or (not source.is_share and _spans_decades(known))
    figure = heat_map(
        np.where(table < 0, np.nan, table) if log else table,
        steps,
        case.names(values.sites),
        quantity=source.quantity,
        unit=source.unit,
        log=log and bool((known > 0).any()),
        diverging=bool(known.size and known.min() < 0 < known.max() and not log),
        max_rows=MOST_ROWS,
        max_columns=MOST_COLUMNS,
        x_name="step",
    )
    if source.is_share and known.max(initial=0.0) <= 1:  # differences in the sixth digit of a share are no picture
        figure.update_layout(coloraxis={"cmin": 0, "cmax": 1})
    rows = case.framed(values.sites)
    frame(figure, rows, len(values.sites), steps, case.finding.onset, case.finding.until)
    return Picture("map", title, _caption(case, source, len(rows), len(values.sites)), _named(figure))


def _spans_decades(known: NDArray[np.float64]) -> bool:
    positive = known[known > 0]
    return bool(positive.size and known.min() >= 0 and positive.max() >= DECADES * positive.min())


def frame(
    figure: go.Figure, rows: list[int], count: int, steps: NDArray[np.int64], onset: int, until: int | None
) -> None:
    """Draw a frame around the affected layers, from the onset to the last step with the symptom, and name the onset.

    Args:
        figure: a heat map.
        rows: affected layers, in order; if empty, the frame holds all layers.
        count: number of layers before neighbours were put together in one row of the map.
        steps: steps before neighbours were put together in one column.
        onset: first step with the symptom.
        until: last step with it, or None.
    """
    x = np.asarray(figure.data[0].x, dtype=np.float64)
    per_row, per_column = group_starts(count, MOST_ROWS)[1], group_starts(len(steps), MOST_COLUMNS)[1]
    shown = [row // per_row for row in rows] or [0, (count - 1) // per_row]

    def place(step: int) -> int:
        return max(0, int(np.searchsorted(steps, step, side="right")) - 1) // per_column

    first, last = place(onset), len(x) - 1 if until is None else place(until)
    edges = np.concatenate([[1.5 * x[0] - 0.5 * x[1]], (x[1:] + x[:-1]) / 2, [1.5 * x[-1] - 0.5 * x[-2]]])
    for low, high in _runs(shown) if rows else [(shown[0], shown[-1])]:
        box = {"type": "rect", "x0": edges[first], "x1": edges[last + 1], "y0": low - 0.5, "y1": high + 0.5}
        # A light line inside a dark one is visible on every colour of the scale.
        figure.add_shape(**box, line={"color": "#ffffff", "width": 4}, layer="above")
        figure.add_shape(**box, line={"color": SICK, "width": 2}, layer="above")
    figure.add_annotation(
        text=f"<b>step {onset:,}</b>",
        x=float(edges[first]),
        xref="x",
        y=1,
        yref="paper",
        yanchor="bottom",
        # A label at the right end would leave the figure.
        xanchor="left" if first < 0.7 * len(x) else "right",
        xshift=-2 if first < 0.7 * len(x) else 2,
        showarrow=False,
        font={"color": SICK, "size": 12},
    )
    add_margins(figure, above=6)


def _runs(rows: list[int]) -> list[tuple[int, int]]:
    """Return the first and last row of each run of neighbours; of many runs, the one from the first to the last."""
    unique = sorted(set(rows))
    breaks = [place for place in range(1, len(unique)) if unique[place] > unique[place - 1] + 1]
    starts = [0, *breaks, len(unique)]
    runs = [(unique[start], unique[end - 1]) for start, end in itertools.pairwise(starts)]
    return runs if len(runs) <= MOST_FRAMES else [(unique[0], unique[-1])]


def _named(figure: go.Figure) -> go.Figure:
    """Label fewer layers, with shorter names: the map has half of the width of a page."""
    names = [str(name) for name in figure.data[0].y]
    shown = evenly_spaced(len(names), TICKS)
    # The categories of the axis are escaped already, and `shortened` escapes its result.
    plain = [_unescaped(names[row]) for row in shown]
    figure.layout.yaxis.tickvals = [names[row] for row in shown]
    meta = dict(figure.layout.meta)
    meta["narrow"] = {**meta["narrow"], "yaxis.ticktext": shortened(plain, 14)}
    figure.layout.meta = meta
    if "coloraxis2" in figure.layout:  # the logarithmic scale, with labels of its own
        bar = figure.layout.coloraxis2.colorbar
        while sum(len(_without_tags(text)) + 1 for text in bar.ticktext) > MOST_BAR_TEXT:
            bar.update(tickvals=bar.tickvals[::2], ticktext=bar.ticktext[::2])
    return halved(figure, yaxis__ticktext=shortened(plain, 20))


def _without_tags(text: str) -> str:
    return text.replace("<sup>", "").replace("</sup>", "")


def _unescaped(name: str) -> str:
    return name.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _caption(case: Case, source: Source, affected: int, count: int) -> str:
    finding = case.finding
    which = (
        "all layers" if not affected or affected == count else f"the affected {'layer' if affected == 1 else 'layers'}"
    )
    since = (
        f"from step {finding.onset:,} on" if finding.until is None else f"step {finding.onset:,} to {finding.until:,}"
    )
    return " ".join([f"Every layer at every recorded step. The frame holds {which}, {since}.", source.note]).strip()
