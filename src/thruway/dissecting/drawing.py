"""Drawing of a dissected network."""

import plotly.graph_objects as go

from thruway.dissecting.finding.branches import Branch, nesting_depth
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.summary import short_count
from thruway.dissecting.tracing.lineage import Lineage
from thruway.errors import ConfigError
from thruway.figures.wiring import MAX_UNRAVELLED, Wire, residual_stream
from thruway.figures.wiring import unravelled as unravelled_figure

__all__ = ["draw", "wires_of"]


def draw(engine: Engine, *, unravelled: bool = False) -> go.Figure:
    """Draw the network as a stream with its branches, or unravelled into all its paths.

    Args:
        unravelled: If True, all paths are drawn, for at most six outermost branches. A branch within another is then
            part of the outer one's box.
    Raises:
        ConfigError: if there are too many branches to unravel.
    Source:
        Veit, Wilber & Belongie 2016, fig. 1.

    >>> import torch
    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> net = torch.nn.Sequential(*(Residual(torch.nn.Linear(2, 2)) for _ in range(3)))
    >>> figure = dissect(net, torch.ones(1, 2)).draw(unravelled=True)
    >>> sum(text.text.isdigit() for text in figure.layout.annotations)  # one for each path
    8
    """
    if not unravelled:
        return residual_stream(wires_of(engine, engine.branches))
    outermost = tuple(branch for branch in engine.branches if branch.parent is None)
    if len(outermost) > MAX_UNRAVELLED:
        raise ConfigError(
            f"{type(engine.model).__name__} has {len(outermost)} outermost branches, with up to 2^{len(outermost)} "
            f"paths; at most {MAX_UNRAVELLED} branches can be unravelled. Use draw() for the stream."
        )
    return unravelled_figure(wires_of(engine, outermost))


def wires_of(engine: Engine, branches: tuple[Branch, ...]) -> list[Wire]:
    """The wires of these branches, each with the joins that its shortcut and its input come from."""
    lineage = Lineage(engine.tape)
    places = {branch.join: place for place, branch in enumerate(branches)}
    return [
        Wire(
            name=branch.name,
            kind=branch.kind,
            shortcut=_join_above(lineage, branch.shortcut.value, places),
            source=None if branch.source is None else _join_above(lineage, _sum(lineage, branch.source), places),
            said=f"{short_count(branch.parameters)} parameters, {short_count(branch.flops)} flops",
            depth=nesting_depth(branch, engine.branches),
            shape=" x ".join(map(str, branch.output_shape)),
        )
        for branch in branches
    ]


def _sum(lineage: Lineage, join: int) -> int:
    return lineage.tape.calls[join].values[0]


def _join_above(lineage: Lineage, value: int, places: dict[int, int]) -> int | None:
    """The last of these joins whose output dominates a value."""
    while value != -1:
        place = places.get(call) if (call := lineage.tape.values[value].call) is not None else None
        if place is not None:
            return place
        value = lineage.dominator[value]
    return None
