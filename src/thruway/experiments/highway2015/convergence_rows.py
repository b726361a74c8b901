"""The rows of the search, with the training curves of those that the means are over."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thruway.experiments.highway2015.convergence import top_of
from thruway.experiments.highway2015.depth import Config, member_of
from thruway.experiments.highway2015.depth_rows import read_curves, read_rows
from thruway.runs import RunReader

__all__ = ["Kind", "Rows", "kinds", "mean_curve", "read_top"]

Rows = Sequence[Mapping[str, Any]]
Kind = tuple[str, int]  # block, depth


def read_top(reader: RunReader, config: Config) -> list[dict[str, Any]]:
    """A row per finished trial as in highway2015.depth; those at the top of their search have their `losses` too.

    The top of a search are, for each block and depth, the trials of lowest final loss; a tenth of them.
    """
    rows, curves = read_rows(reader, config), read_curves(reader, config)
    for seed, block, depth in sorted({(row["seed"], row["block"], row["depth"]) for row in rows}):
        mine = [row for row in rows if (row["seed"], row["block"], row["depth"]) == (seed, block, depth)]
        alive = [row for row in mine if math.isfinite(row["final_loss"])]
        for row in sorted(alive, key=lambda row: float(row["final_loss"]))[: top_of(config)]:
            row["losses"] = curves[block, depth, member_of(config, seed - config.seed, row["trial"])].tolist()
    chance = reader.table(quantity="chance_loss")["value"]
    return [{"losses": None, **row, "chance_loss": float(chance[0])} for row in rows]


def kinds(rows: Rows) -> list[Kind]:
    """Every block and depth in the rows."""
    return sorted({(row["block"], row["depth"]) for row in rows})


def mean_curve(rows: Rows, kind: Kind) -> NDArray[np.float64] | None:
    """The mean training loss of the top settings after every epoch, (epochs,); None if all diverged."""
    losses = [row["losses"] for row in rows if (row["block"], row["depth"]) == kind and row["losses"] is not None]
    return np.mean(np.array(losses, dtype=np.float64), axis=0) if losses else None
