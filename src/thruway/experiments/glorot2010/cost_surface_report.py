"""The report of the study: answer, verdicts, fig. 5, plateaus by square and fraction, provenance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import plotly.graph_objects as go

from thruway.experiments.claims import judge
from thruway.experiments.glorot2010.cost_surface import Config
from thruway.experiments.glorot2010.cost_surface_claims import claims_for, shares
from thruway.experiments.glorot2010.cost_surface_rows import read_rows, read_surfaces
from thruway.experiments.glorot2010.cost_surface_run import axis_of
from thruway.experiments.glorot2010.provenance import origin
from thruway.figures import run_curves, surface
from thruway.report import ClaimVerdict, Page, Section, TableData, write_page, write_summary
from thruway.runs import RunReader

__all__ = ["write_report"]

Rows = Sequence[Mapping[str, Any]]

_COSTS = ("cross-entropy", "quadratic")
_DIFFERENT = (
    "sizes of net, data and square are ours: the paper prints none of them",
    "what counts as a plateau is ours: the paper speaks of the surface's look",
    "both costs are of the same softmax outputs; the paper does not say which outputs its quadratic cost has",
    "many draws, where the paper shows one",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    rows = read_rows(reader, config)
    verdicts = tuple(judge(claim, rows) for claim in claims_for(config)) if rows else ()
    table = share_table(rows, config)
    provenance = _provenance(reader, config)
    page = Page(
        title="Which cost is flat where it should be steep?",
        subtitle="Fig. 5 of Understanding the difficulty of training deep feedforward neural networks, Glorot & Bengio "
        "2010",
        lead=_lead(rows, config, reader.status),
        claims=verdicts,
        sections=(
            Section(
                "Two costs over two weights (fig. 5)",
                surface_figure(reader, config),
                "The first draw. Where a surface is level, the gradient does not say where to go.",
            ),
            Section(
                "How much of the surface is flat",
                share_figure(rows, config),
                "Means over all draws, and the middle 80 % of them. Near the origin nothing saturates; the farther out "
                "the weights may go, the more of the quadratic cost is plateau.",
                table,
            ),
        ),
        provenance=provenance,
    )
    write_page(page, folder / "report.html")
    write_summary(folder / "summary.json", experiment=reader.name, rows=rows, claims=verdicts, meta=provenance)
    return table, verdicts


def surface_figure(reader: RunReader, config: Config) -> go.Figure:
    """Both costs of the first draw."""
    axis = axis_of(config, config.reach)
    found = read_surfaces(reader, config)
    heights = {_named(cost): found[cost].cpu() for cost in _COSTS if cost in found}
    return surface(
        axis, axis, heights, x_name="W1, a weight of the first layer", y_name="W2, one of the second", z_name="cost"
    )


def share_figure(rows: Rows, config: Config) -> go.Figure:
    """The flat share of the surface against the size of the square."""
    reaches = sorted({row["reach"] for row in rows})
    curves, bands = {}, {}
    for cost in _COSTS if reaches else ():
        of_draws = [shares(rows, cost, reach, config.fraction) for reach in reaches]
        curves[cost] = (reaches, [fmean(each) for each in of_draws])
        low, high = (np.array([np.percentile(each, at) for each in of_draws]) for at in (10, 90))
        bands[cost] = (reaches, low, high)
    return run_curves(
        curves, bands=bands, x_name="reach: the weights go from -reach to reach", y_name="flat share of the surface"
    )


def share_table(rows: Rows, config: Config) -> TableData:
    """Both costs at every square and every fraction, means over draws."""
    lines: list[tuple[Any, ...]] = []
    for reach in sorted({row["reach"] for row in rows}):
        for fraction in config.fractions:
            flat = [shares(rows, cost, reach, fraction) for cost in ("quadratic", "cross-entropy")]
            stuck = [shares(rows, cost, reach, fraction, "stuck") for cost in ("quadratic", "cross-entropy")]
            wins = fmean(quadratic > entropy for quadratic, entropy in zip(*flat, strict=True))
            lines.append((reach, fraction, *map(fmean, flat), wins, *map(fmean, stuck)))
    columns = ("reach", "flat below", "quadratic", "cross-ent.", "draws won", "quadratic, stuck", "cross-ent., stuck")
    caption = (
        "Shares of the surface, means over draws. Flat: the gradient is below that share of the steepest. Draws won: "
        "the share in which the quadratic cost is the flatter one. Stuck: flat, and no better than guessing."
    )
    return TableData(columns, tuple(lines), caption)


def _named(cost: str) -> str:
    return "cross-entropy (nats)" if cost == "cross-entropy" else cost


def _lead(rows: Rows, config: Config, status: str) -> str:
    """The answer in plain words, from the numbers."""
    flat = {cost: shares(rows, cost, config.reach, config.fraction) for cost in _COSTS}
    if not all(flat.values()):
        return f"No net has been drawn yet (the run is {status})."
    told = (
        f"With two weights between {-config.reach:g} and {config.reach:g}, {fmean(flat['quadratic']):.0%} of the "
        f"quadratic cost is flat and {fmean(flat['cross-entropy']):.0%} of the cross-entropy, over "
        f"{len(flat['quadratic'])} random nets."
    )
    even = [
        reach
        for reach in config.reaches
        if fmean(shares(rows, "quadratic", reach, config.fraction))
        < 1.1 * fmean(shares(rows, "cross-entropy", reach, config.fraction))
    ]
    if even:
        told += f" Up to weights of {max(even):g} the two are about equally flat."
    return told if status == "done" else f"The run is {status}. {told}"


def _provenance(reader: RunReader, config: Config) -> dict[str, str | Sequence[str]]:
    seconds = sum(reader.table(site="draws", quantity="seconds")["value"].tolist())
    return {
        "scale": config.scale,
        "data": f"{config.examples} Gaussian inputs with random labels, for each draw",
        "net": f"{config.inputs} inputs, {config.hidden} tanh units, {config.classes} softmax outputs",
        "seeds": f"{config.seeds} sets of {config.draws} draws, from seed {config.seed} on",
        "grid": f"{config.points} x {config.points} points on each square",
    } | origin(reader, cost=f"{seconds / 60:.1f} minutes", differs=_DIFFERENT)
