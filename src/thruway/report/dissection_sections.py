"""Sections of the report of a dissection, each with a figure, a caption and a table."""

from collections.abc import Iterator

import plotly.graph_objects as go
import torch

from thruway.dissecting import Dissection, DrawnLesions
from thruway.dissecting.paths.lengths import PathLengths
from thruway.dissecting.paths.results import PathGradients, SampledPaths
from thruway.figures import BLOCK_STYLES, deletion_bars, deletion_boxes, order_scatter, path_lengths
from thruway.figures.panels import fit_legend, small_multiples
from thruway.figures.path_lengths import LENGTH
from thruway.report import dissection_captions as captions
from thruway.report.content import Section, TableData
from thruway.report.dissection_findings import DissectionFindings
from thruway.report.dissection_tables import (
    agreement_table,
    branches_table,
    deletions_table,
    paths_table,
    refused_table,
)

__all__ = ["sections"]

DRAWN = 40  # maximum number of branches in a drawing


def sections(found: DissectionFindings) -> Iterator[Section]:
    """Yield the sections, starting with the measurements."""
    if found.is_measured:
        yield from _lesions(found)
    yield from _paths(found)
    if found.rankings is not None and found.is_measured:
        agreement = agreement_table(found)
        if agreement is not None:
            yield Section("Rankings compared with deletion", None, captions.agreement_caption(found), agreement)
    is_drawn = 0 < len(found.dissection.branches) <= DRAWN
    drawing = found.dissection.draw() if is_drawn else None
    yield Section("The branches", drawing, _structure_caption(found), branches_table(found.dissection))
    refused = refused_table(found.dissection)
    if refused is not None:
        yield Section(
            "Rejected candidates", None, "Adds, blends and layers that are not branches, with the reason.", refused
        )
    if found.notes:
        yield Section("Not measured", None, " ".join(found.notes))


def _lesions(found: DissectionFindings) -> Iterator[Section]:
    table: TableData | None = deletions_table(found)
    for each in found.deletions:
        figure = deletion_bars(
            [row.value for row in each],
            [row.name for row in each],
            intact=each.intact,
            low=[each.intact + row.low for row in each],
            high=[each.intact + row.high for row in each],
            kinds=[row.kind for row in each],
            first=0,
            boundaries=_boundaries(found.dissection),
            quantity=each.metric,
            unit=found.units.get(each.metric, ""),
        )
        yield Section(f"Without one branch: {each.metric}", figure, captions.deletions_caption(each), table)
        table = None  # one table holds all metrics
    unit = found.units.get(found.deletions[0].metric, "")
    if found.drawn is not None:
        boxes = deletion_boxes(_by_k(found.drawn), intact=found.drawn.intact, quantity=found.drawn.metric, unit=unit)
        yield Section("Without several branches", boxes, captions.drawn_caption(found.drawn))
    if found.reordered is not None:
        orders = found.reordered
        scatter = order_scatter(
            [row.tau for row in orders],
            [row.value for row in orders],
            swaps=[row.k for row in orders],
            intact=orders.intact,
            quantity=orders.metric,
            unit=unit,
        )
        yield Section("In another order", scatter, captions.reordered_caption(orders))


def _paths(found: DissectionFindings) -> Iterator[Section]:
    if found.paths is not None and found.gradients is None:
        yield Section("Path lengths", _lengths_figure(found.paths), captions.lengths_caption(found.paths))
    loss = f" The gradient is that of {found.path_loss}."
    table = paths_table(found)
    if found.sampled is not None:
        figure = _published_figure(found.sampled, found.path_unit)
        lengths = "" if found.paths is None else captions.lengths_caption(found.paths) + " "
        caption = lengths + captions.paths_caption(found.sampled) + loss
        yield Section("Gradient by path length, as published: random single paths", figure, caption)
    if found.gradients is not None:
        figure = _exact_figure(found.gradients, found.path_unit)
        yield Section(
            "Gradient by path length, exact: all paths", figure, captions.exact_caption(found.gradients) + loss, table
        )


def _published_figure(found: SampledPaths, unit: str) -> go.Figure:
    by_path = found.norms.mean(2)
    return path_lengths(
        list(found.lengths),
        _shares(found.paths),
        found.mean,
        found.contribution,
        effective=_effective(found),
        unit=unit,
        gradient_low=by_path.amin(1),
        gradient_high=by_path.amax(1),
        titles=("share of all paths", f"one path ({by_path.shape[1]} drawn: mean, range)", "norm × number of paths"),
    )


def _exact_figure(found: PathGradients, unit: str) -> go.Figure:
    return path_lengths(
        list(found.lengths),
        _shares(found.paths),
        found.mean,
        found.contribution,
        effective=_effective(found),
        unit=unit,
        titles=("share of all paths", "sum over all paths of a length", "share of the gradient"),
    )


def _lengths_figure(paths: PathLengths) -> go.Figure:
    axis = {"title": {"text": "share of the paths"}, "rangemode": "tozero"}
    figure = small_multiples([""], [{"title": {"text": LENGTH}}], axis)
    figure.add_trace(
        go.Bar(
            x=list(range(len(paths.counts))),
            y=list(paths.shares),
            marker={"color": BLOCK_STYLES["highway"].color, "line": {"width": 0}},
            showlegend=False,
            hovertemplate="%{x} branches: %{y:.3g}<extra></extra>",
        )
    )
    return fit_legend(figure)


def _effective(found: SampledPaths | PathGradients) -> tuple[float, float] | None:
    if not found.weights.sum() > 0:
        return None
    effective = found.effective_paths()
    return effective.shortest, effective.longest


def _shares(paths: tuple[int, ...]) -> torch.Tensor:
    whole = sum(paths)
    return torch.tensor([count / whole for count in paths], dtype=torch.float64)


def _by_k(drawn: DrawnLesions) -> dict[int, list[float]]:
    values: dict[int, list[float]] = {}
    for row in drawn:
        values.setdefault(row.k, []).append(row.value)
    return values


def _boundaries(dissection: Dissection) -> list[int]:
    """Return the indices of the branches at which the output shape changes."""
    shapes = [branch.output_shape for branch in dissection.branches]
    return [place for place in range(1, len(shapes)) if shapes[place] != shapes[place - 1]]


def _structure_caption(found: DissectionFindings) -> str:
    return f"Found by running an example through the model ({found.example})."
