"""The trials of a depth search as rows, and its curves, read back from the run folder."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thruway.experiments.highway2015.depth import Case, Config, cases, trial_of
from thruway.networks import paired_width
from thruway.runs import RunReader

__all__ = ["Curves", "read_curves", "read_rows", "top_curves"]

# (block, depth, member) -> mean training loss of epoch 1, 2, ...; NaN once diverged
Curves = dict[tuple[str, int, int], NDArray[np.float64]]


def read_curves(reader: RunReader, config: Config) -> Curves:
    """The training loss of every trial after every epoch that has run."""
    table = reader.table(quantity="train_loss")
    curves: Curves = {}
    for site, member, step, value in zip(table["site"], table["member"], table["step"], table["value"], strict=True):
        block, depth = str(site).split("/")
        key = (block, int(depth), int(member))
        # A killed and resumed run logs some epochs twice, with the same numbers.
        curves.setdefault(key, np.full(config.epochs, math.nan))[int(step) - 1] = value
    return curves


def read_rows(reader: RunReader, config: Config) -> list[dict[str, Any]]:
    """One row per finished trial: block, depth, seed, trial, what it drew, and what came of it."""
    curves = read_curves(reader, config)
    chance = reader.table(quantity="chance_loss")["value"]
    fast_enough = 0.1 * float(chance[0]) if len(chance) else math.nan
    final: dict[tuple[str, int, str], float] = {}
    table = reader.table(quantity=["final_loss", "test_error", "diverged_at", "seconds"])
    columns = (table["site"], table["member"], table["quantity"], table["value"])
    for site, member, quantity, value in zip(*columns, strict=True):
        final[str(site), int(member), str(quantity)] = float(value)
    rows = []
    for case in cases(config):
        for member in case.members:
            if (case.site, member, "final_loss") not in final:
                continue
            seed, trial, drawn = trial_of(config, member)
            row = _row(case.block, case.depth, seed, trial, drawn, config)
            rows.append(row | _outcome(case, member, final, curves, fast_enough))
    return rows


def _row(block: str, depth: int, seed: int, trial: int, drawn: Mapping[str, Any], config: Config) -> dict[str, Any]:
    return {
        "block": block,
        "depth": depth,
        "width": paired_width(block, config.highway_width),
        "seed": seed,
        "trial": trial,
        "learning_rate": drawn["learning_rate"],
        "momentum": drawn["momentum"],
        "decay": drawn["rate_left"] ** (1 / config.epochs),
        "activation": drawn["activation"],
        "gate_bias": drawn["gate_bias"] if block == "highway" else None,
        "epochs": config.epochs,
    }


def _outcome(
    case: Case, member: int, final: Mapping[tuple[str, int, str], float], curves: Curves, fast_enough: float
) -> dict[str, Any]:
    site, curve = case.site, curves[case.block, case.depth, member]
    reached = np.flatnonzero(curve <= fast_enough)
    finite = curve[np.isfinite(curve)]
    return {
        "final_loss": final[site, member, "final_loss"],
        "best_loss": float(finite.min()) if finite.size else math.nan,
        "test_error": final[site, member, "test_error"],
        # The last update of all may be the one that breaks a net: no later step is there to see it.
        "diverged": final[site, member, "diverged_at"] >= 0 or not math.isfinite(final[site, member, "final_loss"]),
        "epochs_to_tenth": float(reached[0] + 1) if reached.size else math.inf,
        "seconds": final[site, member, "seconds"],
    }


def top_curves(
    curves: Curves, rows: Sequence[Mapping[str, Any]], config: Config, top: int
) -> tuple[dict[tuple[str, int], Any], dict[tuple[str, int], Any]]:
    """(best, mean of the `top` best) training curve of each block and depth, each as (epochs, losses).

    The best are those of lowest final loss over all searches.
    """
    epochs = np.arange(1, config.epochs + 1)
    best, mean = {}, {}
    for block, depth in sorted({(row["block"], row["depth"]) for row in rows}):
        mine = [r for r in rows if (r["block"], r["depth"]) == (block, depth) and math.isfinite(r["final_loss"])]
        ranked = sorted(mine, key=lambda row: row["final_loss"])[:top]
        chosen = [curves[block, depth, (r["seed"] - config.seed) * config.trials + r["trial"]] for r in ranked]
        if chosen:
            best[block, depth] = (epochs, chosen[0])
            mean[block, depth] = (epochs, np.mean(chosen, axis=0))
    return best, mean
