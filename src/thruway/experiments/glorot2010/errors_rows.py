"""The nets of a study as rows, and its error curves, read back from the run folder."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thruway.experiments.glorot2010.errors import FIXED_PAIR, Config
from thruway.runs import RunReader

__all__ = ["Curve", "Row", "final_curves", "read_majority_error", "read_rivals", "read_rows", "read_search"]

Row = dict[str, Any]
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Updates, and at each of them the test error of every seed, (updates, seeds); NaN where there is none."""

Values = Mapping[str, float]


def read_rows(reader: RunReader, config: Config) -> list[Row]:
    """One row per net that was tested: those of Table 1 (stage "final"), and those beside the SVM ("fixed").

    Of the fixed set's nets each seed has one: the rate, and the moment to stop, are those of lowest validation error.
    """
    return _final_rows(reader, config) + _fixed_rows(reader, config)


def read_search(reader: RunReader, config: Config) -> list[Row]:
    """One row per net of the search: pair, depth, learning rate, validation error at the end."""
    ends = _ends(reader, "search/", ("valid_error", "learning_rate", "seconds"), config.search_updates)
    rows = [_row("search", site, values, config.search_updates, config) for (site, _), values in ends.items()]
    return [row for row in rows if row["learning_rate"] is not None]


def final_curves(reader: RunReader, config: Config) -> dict[str, Curve]:
    """The test error of every pair at the greatest depth against updates, pairs in the order of Table 1."""
    table = reader.table(quantity="test_error")
    found: dict[str, dict[int, dict[int, float]]] = {}
    for site, member, step, value in zip(table["site"], table["member"], table["step"], table["value"], strict=True):
        stage, _, rest = str(site).partition("/")
        pair, _, depth = rest.partition("/")
        if stage == "final" and int(depth) == config.deepest:
            found.setdefault(pair, {}).setdefault(int(step), {})[int(member)] = float(value)
    curves: dict[str, Curve] = {}
    for pair in config.pairs:
        if pair in found:
            steps = sorted(found[pair])
            errors = [[found[pair][step].get(member, math.nan) for member in range(config.seeds)] for step in steps]
            curves[pair] = (np.array(steps, dtype=np.float64), np.array(errors, dtype=np.float64))
    return curves


def read_rivals(reader: RunReader) -> dict[tuple[str, str], list[int]]:
    """(pair, other) -> for each seed, the test examples that the pair's net gets right and the other's wrong."""
    table = reader.table()
    counts: dict[tuple[str, str], dict[int, int]] = {}
    columns = (table[name] for name in ("site", "member", "quantity", "value"))
    for site, member, quantity, value in zip(*columns, strict=True):
        if str(site).startswith("rivals/"):
            key = (str(site).partition("/")[2], str(quantity).partition("/")[2])
            counts.setdefault(key, {})[int(member)] = int(value)
    return {key: [each[member] for member in sorted(each)] for key, each in counts.items()}


def read_majority_error(reader: RunReader) -> float:
    """The error of always naming the most frequent class; NaN if the run has not begun."""
    table = reader.table(site="data", quantity="majority_error")
    return float(table["value"][0]) if len(table) else math.nan


def _final_rows(reader: RunReader, config: Config) -> list[Row]:
    wanted = ("valid_error", "test_error", "learning_rate", "seed", "seconds")
    chosen = {site: values["depth"] for (site, _), values in _ends(reader, "chosen/", ("depth",), 0).items()}
    rows = []
    for (site, _), values in _ends(reader, "final/", wanted, config.updates).items():
        if "seed" in values:
            row = _row("final", site, values, config.updates, config)
            rows.append(row | {"is_chosen_depth": chosen.get(f"chosen/{row['pair']}") == row["depth"]})
    return rows


def _fixed_rows(reader: RunReader, config: Config) -> list[Row]:
    site = f"fixed/{FIXED_PAIR}/{config.deepest}"
    ends = _ends(reader, site, ("learning_rate", "seed", "seconds"), config.fixed_updates)
    curves: dict[int, dict[int, dict[str, float]]] = {}
    table = reader.table(site=site, quantity=["valid_error", "test_error"])
    columns = (table[name] for name in ("member", "step", "quantity", "value"))
    for member, step, quantity, value in zip(*columns, strict=True):
        curves.setdefault(int(member), {}).setdefault(int(step), {})[str(quantity)] = float(value)
    svm = _best_svm(reader, config)
    best: dict[float, tuple[float, Row]] = {}
    for (_, member), values in ends.items():
        step, errors = min(curves[member].items(), key=lambda entry: (_or_inf(entry[1]["valid_error"]), entry[0]))
        row = _row("fixed", site, {**values, **errors}, step, config)
        row["seconds"] = sum(other["seconds"] for other in ends.values() if other["seed"] == values["seed"])
        rank = _or_inf(errors["valid_error"])
        if values["seed"] not in best or rank < best[values["seed"]][0]:
            best[values["seed"]] = (rank, row)
    return [row | {f"svm_{name}": number for name, number in svm.items()} for _, row in best.values()]


def _best_svm(reader: RunReader, config: Config) -> dict[str, float | None]:
    """The SVM of lowest validation error, once all of the grid are there."""
    fits = _ends(reader, "fixed/svm", ("cost", "gamma", "valid_error", "test_error", "seconds"), 0)
    if len(fits) < len(config.svm_costs) * len(config.svm_gammas):
        return {"error": None, "cost": None, "gamma": None, "seconds": None}
    best = min(fits.values(), key=lambda fit: fit["valid_error"])
    seconds = sum(fit["seconds"] for fit in fits.values())
    return {"error": best["test_error"], "cost": best["cost"], "gamma": best["gamma"], "seconds": seconds}


def _ends(reader: RunReader, start: str, quantities: tuple[str, ...], step: int) -> dict[tuple[str, int], Values]:
    """(site, member) -> quantity -> its value at a step, for the sites that begin with `start`."""
    table = reader.table(quantity=list(quantities), steps=step)
    found: dict[tuple[str, int], dict[str, float]] = {}
    columns = (table[name] for name in ("site", "member", "quantity", "value"))
    for site, member, quantity, value in zip(*columns, strict=True):
        if str(site).startswith(start):
            found.setdefault((str(site), int(member)), {})[str(quantity)] = float(value)
    return dict(found)


def _row(stage: str, site: str, values: Values, updates: int, config: Config) -> Row:
    _, pair, depth = site.split("/")
    errors = [values[name] for name in ("valid_error", "test_error") if name in values]
    return {
        "stage": stage,
        "pair": pair,
        "depth": int(depth),
        "width": config.width,
        "seed": int(values["seed"]) if "seed" in values else None,
        "learning_rate": values.get("learning_rate"),
        "updates": updates,
        "valid_error": values.get("valid_error", math.nan),
        "test_error": values.get("test_error", math.nan),
        "diverged": any(math.isnan(error) for error in errors),
        "seconds": values.get("seconds"),
    }


def _or_inf(error: float) -> float:
    return math.inf if math.isnan(error) else error
