"""The run folder read back: a row per draw, cost and square."""

from typing import Any

from torch import Tensor

from thruway.experiments.glorot2010.cost_surface import Config, draws_of
from thruway.runs import RunReader

__all__ = ["read_rows", "read_surfaces"]

Row = dict[str, Any]


def read_rows(reader: RunReader, config: Config) -> list[Row]:
    """One row per draw, square and cost: which shares of the surface are flat, at each fraction."""
    draws = draws_of(config)
    found: dict[tuple[int, float, str], Row] = {}
    table = reader.table(steps=0)
    for member, site, quantity, value in zip(
        *(table[name] for name in ("member", "site", "quantity", "value")), strict=True
    ):
        kind, _, fraction = str(quantity).partition("/")
        if kind not in ("flat", "stuck"):
            continue
        cost, _, reach = str(site).partition("/")
        draw = draws[int(member)]
        row = found.setdefault(
            (draw.member, float(reach), cost),
            {"seed": draw.seed, "draw": draw.number, "reach": float(reach), "cost": cost, "flat": {}, "stuck": {}},
        )
        row[kind][fraction] = float(value)
    return [found[key] for key in sorted(found)]


def read_surfaces(reader: RunReader, config: Config) -> dict[str, Tensor]:
    """Cost -> its values for the first draw, (points, points); empty if that is not there yet."""
    name = f"draws-{config.seed}"
    return reader.load(name).tensors if name in reader.checkpoints() else {}
