"""A dissected net as a drawing."""

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.summary import in_short
from thruway.dissecting.tracing.lineage import Lineage
from thruway.errors import ConfigError
from thruway.figures.wiring import MAX_UNRAVELLED, Wire, residual_stream
from thruway.figures.wiring import unravelled as unravelled_figure

if TYPE_CHECKING:
    from thruway.dissecting.dissection import Dissection

__all__ = ["draw", "wires_of"]


def draw(dissection: "Dissection", *, unravelled: bool = False) -> go.Figure:
    """The net as a stream with its branches, or unravelled into all its paths.

    Unravelled, only the outermost branches are drawn: one within another is part of its box.

    Args:
        dissection: of the net.
        unravelled: all paths, for nets of at most six outermost branches.
    Raises:
        ConfigError: if there are more to unravel.
    Source:
        Veit, Wilber & Belongie 2016, fig. 1.

    >>> import torch
    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> net = torch.nn.Sequential(*(Residual(torch.nn.Linear(2, 2)) for _ in range(3)))
    >>> figure = draw(dissect(net, torch.ones(1, 2)), unravelled=True)
    >>> sum(text.text.isdigit() for text in figure.layout.annotations)  # one for each path
    8
    """
    if not unravelled:
        return residual_stream(wires_of(dissection, dissection.branches))
    outermost = tuple(branch for branch in dissection.branches if branch.parent is None)
    if len(outermost) > MAX_UNRAVELLED:
        raise ConfigError(
            f"{type(dissection.model).__name__} has {len(outermost)} branches, which unravel into up to "
            f"2^{len(outermost)} paths; {MAX_UNRAVELLED} can be drawn. Use draw() for the stream."
        )
    return unravelled_figure(wires_of(dissection, outermost))


def wires_of(dissection: "Dissection", branches: tuple[Branch, ...]) -> list[Wire]:
    """Each of these branches with the joins that its shortcut and its input come from."""
    lineage = Lineage(dissection.tape)
    places = {branch.join: place for place, branch in enumerate(branches)}
    return [
        Wire(
            name=branch.name,
            kind=branch.kind,
            shortcut=_join_above(lineage, branch.shortcut.value, places),
            source=None if branch.source is None else _join_above(lineage, _sum(lineage, branch.source), places),
            said=f"{in_short(branch.parameters)} parameters, {in_short(branch.flops)} flops",
            depth=_depth(branch, dissection.branches),
            shape=" x ".join(map(str, branch.output_shape)),
        )
        for branch in branches
    ]


def _sum(lineage: Lineage, join: int) -> int:
    return lineage.tape.calls[join].values[0]


def _join_above(lineage: Lineage, value: int, places: dict[int, int]) -> int | None:
    """The last of these joins that all of a value comes through."""
    while value != -1:
        place = places.get(call) if (call := lineage.tape.values[value].call) is not None else None
        if place is not None:
            return place
        value = lineage.above[value]
    return None


def _depth(branch: Branch, branches: tuple[Branch, ...]) -> int:
    depth = 0
    while branch.parent is not None:
        branch, depth = branches[branch.parent], depth + 1
    return depth
