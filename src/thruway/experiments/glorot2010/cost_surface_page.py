"""Rows, claims and report of the study of two cost surfaces."""

import math
from statistics import fmean
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from torch import Tensor

from thruway.experiments.glorot2010.cost_surface import SCALES, Config, axis_of, draws_of, prepare, run_study
from thruway.experiments.machinery import Claim, Rows, Study, StudyPage
from thruway.figures import run_curves, surface
from thruway.report import Section, TableData
from thruway.runs import RunReader

__all__ = ["STUDY", "claims", "page", "read_rows", "read_surfaces", "shares"]

Kind = Literal["flat", "stuck"]
_COSTS = ("cross-entropy", "quadratic")
_SOURCE = "Glorot & Bengio 2010, sec. 4.1, fig. 5"


def read_rows(reader: RunReader, config: Config) -> list[dict[str, Any]]:
    """Return one row per draw, square and cost, with the flat share of the surface for each fraction."""
    draws = draws_of(config)
    found: dict[tuple[int, float, str], dict[str, Any]] = {}
    for entry in reader.table(steps=0).rows():
        kind, _, fraction = entry["quantity"].partition("/")
        if kind not in ("flat", "stuck"):
            continue
        cost, _, reach = entry["site"].partition("/")
        draw = draws[entry["member"]]
        row = found.setdefault(
            (draw.member, float(reach), cost),
            {"seed": draw.seed, "draw": draw.number, "reach": float(reach), "cost": cost, "flat": {}, "stuck": {}},
        )
        row[kind][fraction] = entry["value"]
    return [found[key] for key in sorted(found)]


def read_surfaces(reader: RunReader, config: Config) -> dict[str, Tensor]:
    """Return both cost surfaces of the first draw, (points, points), by name; empty until the first set is stored."""
    name = f"draws-{config.seed}"
    return reader.load(name).tensors if name in reader.checkpoints() else {}


def shares(rows: Rows, cost: str, reach: float, fraction: float, kind: Kind = "flat") -> list[float]:
    """Return the flat (or stuck) share of each draw's surface, in the order of the draws."""
    mine = [row for row in rows if (row["cost"], row["reach"]) == (cost, reach)]
    return [row[kind][f"{fraction:g}"] for row in sorted(mine, key=lambda row: (row["seed"], row["draw"]))]


def claims(config: Config) -> tuple[Claim, ...]:
    """Return the claims, for the square and the fraction given in the config."""
    where = f"weights from {-config.reach:g} to {config.reach:g}, gradient below {config.fraction:g} of the steepest"

    def both(rows: Rows, kind: Kind = "flat") -> tuple[list[float], list[float]]:
        quadratic, entropy = (
            shares(rows, cost, config.reach, config.fraction, kind) for cost in ("quadratic", "cross-entropy")
        )
        return quadratic, entropy

    def ratio(rows: Rows) -> float:
        quadratic, entropy = both(rows)
        if not quadratic or not entropy:
            return math.nan
        return fmean(quadratic) / fmean(entropy) if fmean(entropy) else math.inf if fmean(quadratic) else math.nan

    def wins(rows: Rows) -> float:
        pairs = list(zip(*both(rows), strict=True))
        return fmean(quadratic > entropy for quadratic, entropy in pairs) if pairs else math.nan

    def stuck(rows: Rows) -> float:
        quadratic, entropy = both(rows, "stuck")
        return fmean(quadratic) - fmean(entropy) if quadratic and entropy else math.nan

    return (
        Claim(
            id="quadratic-flatter",
            text="The quadratic cost has the more severe plateaus.",
            source=_SOURCE,
            statistic=f"flat share of the surface, quadratic / cross-entropy, means over draws; {where}",
            measure=ratio,
            holds_if=">=",
            threshold=1.5,
        ),
        Claim(
            id="quadratic-flatter-in-most-draws",
            text="The quadratic cost has more plateaus in most draws, not just in one network.",
            source="Ours; the paper shows one network",
            statistic="share of the draws in which the quadratic cost is flat over more of the surface",
            measure=wins,
            holds_if=">=",
            threshold=0.8,
        ),
        Claim(
            id="quadratic-stuck",
            text="The plateaus of the quadratic cost also lie where the network is no better than guessing.",
            source="Ours; such plateaus stop the training of a network that has learned nothing",
            statistic="share of the surface that is flat at the cost of guessing or above, quadratic - cross-entropy",
            measure=stuck,
            holds_if=">=",
            threshold=0.05,
        ),
    )


# --- the report

_DIFFERS = (
    "the sizes of the network, the data and the square are ours: the paper does not state them",
    "the definition of a plateau is ours: the paper describes the surface in words",
    "both costs are computed from the same softmax outputs; the paper does not say which outputs its quadratic cost "
    "uses",
    "there are many draws; the paper shows one",
)


def page(reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the contents of the report."""
    table = _share_table(rows, config)
    seconds = sum(reader.table(site="draws", quantity="seconds")["value"].tolist())
    return StudyPage(
        title="Which cost is flat where it should be steep?",
        subtitle="Fig. 5 of Understanding the difficulty of training deep feedforward neural networks, Glorot & Bengio "
        "2010",
        lead=_lead(rows, config, reader.status),
        sections=(
            Section(
                "Two costs over two weights (fig. 5)",
                _surface_figure(reader, config),
                "The first draw. Where a surface is level, the gradient gives no direction.",
            ),
            Section(
                "Flat share of the surface",
                _share_figure(rows, config),
                "Means over all draws, and the middle 80 % of them. Near the origin no unit saturates; the larger the "
                "weights may be, the larger the share of plateaus of the quadratic cost.",
                table,
            ),
        ),
        table=table,
        facts={
            "scale": config.scale,
            "data": f"{config.examples} Gaussian inputs with random labels, for each draw",
            "net": f"{config.inputs} inputs, {config.hidden} tanh units, {config.classes} softmax outputs",
            "seeds": f"{config.seeds} sets of {config.draws} draws, starting with seed {config.seed}",
            "grid": f"{config.points} x {config.points} points on each square",
        },
        cost=f"{seconds / 60:.1f} minutes",
        differs=_DIFFERS,
    )


def _lead(rows: Rows, config: Config, status: str) -> str:
    flat = {cost: shares(rows, cost, config.reach, config.fraction) for cost in _COSTS}
    if not all(flat.values()):
        return f"No network has been drawn yet (the run is {status})."
    answer = (
        f"For two weights between {-config.reach:g} and {config.reach:g}, {fmean(flat['quadratic']):.0%} of the "
        f"surface of the quadratic cost is flat and {fmean(flat['cross-entropy']):.0%} of the cross-entropy, over "
        f"{len(flat['quadratic'])} random networks."
    )
    even = [
        reach
        for reach in config.reaches
        if fmean(shares(rows, "quadratic", reach, config.fraction))
        < 1.1 * fmean(shares(rows, "cross-entropy", reach, config.fraction))
    ]
    if even:
        answer += f" Up to weights of {max(even):g} the two are about equally flat."
    return answer if status == "done" else f"The run is {status}. {answer}"


def _surface_figure(reader: RunReader, config: Config) -> go.Figure:
    """Plot both costs of the first draw."""
    axis = axis_of(config, config.reach)
    found = read_surfaces(reader, config)
    units = {"cross-entropy": "cross-entropy (nats)", "quadratic": "quadratic"}
    heights = {named: found[cost].cpu() for cost, named in units.items() if cost in found}
    return surface(
        axis, axis, heights, x_name="W1, a weight of the first layer", y_name="W2, one of the second", z_name="cost"
    )


def _share_figure(rows: Rows, config: Config) -> go.Figure:
    """Plot the flat share of the surface against the size of the square."""
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


def _share_table(rows: Rows, config: Config) -> TableData:
    """Return a table of both costs for every square and fraction, as means over draws."""
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
        "the share of draws in which the quadratic cost is the flatter one. Stuck: flat, and no better than guessing."
    )
    return TableData(columns, tuple(lines), caption)


STUDY = Study(
    name="glorot2010.cost_surface",
    title="the quadratic cost of a classifier has more plateaus than its cross-entropy",
    source="Glorot & Bengio 2010, fig. 5",
    config=Config,
    scales=SCALES,
    prepare=prepare,
    run=run_study,
    rows=read_rows,
    claims=claims,
    page=page,
    example="--scale demo --reaches 2 8 --reach 8 --draws 5",
)
