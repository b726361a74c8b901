"""What the layers of each net did over time, read back from the run folder."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thruway.experiments.glorot2010.saturation import Case, Config, cases
from thruway.experiments.glorot2010.saturation_watching import BINS
from thruway.runs import RunReader

__all__ = ["Course", "Numbers", "histograms", "read_courses", "read_ends"]

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Course:
    """One net: its layers at every look, the first layer first.

    `course["mean"]` is (layers, looks), of the 300 fixed examples at the updates `steps`.
    """

    case: Case
    steps: NDArray[np.int64]
    values: Mapping[str, Numbers]

    def __getitem__(self, quantity: str) -> Numbers:
        return self.values[quantity]

    @property
    def saturated(self) -> Numbers:
        """(layers, looks): the share of values at either flat end of the activation."""
        return self["saturation_low"] + self["saturation_high"]

    @property
    def is_whole(self) -> bool:
        """It goes to the end of training."""
        return int(self.steps[-1]) == self.case.updates


def read_courses(reader: RunReader, config: Config) -> list[Course]:
    """The nets that have been looked at, in the order in which they are trained."""
    table = reader.table()
    columns = (table[name] for name in ("site", "member", "quantity", "step", "value"))
    found: dict[tuple[str, int], dict[str, dict[tuple[int, int], float]]] = {}
    for site, member, quantity, step, value in zip(*columns, strict=True):
        name, _, layer = str(site).partition("/")
        if layer and not str(quantity).startswith("histogram"):
            of_net = found.setdefault((name, int(member)), {})
            of_net.setdefault(str(quantity), {})[int(layer) - 1, int(step)] = float(value)
    return [_course(case, found[case.name, case.member]) for case in cases(config) if (case.name, case.member) in found]


def _course(case: Case, found: Mapping[str, Mapping[tuple[int, int], float]]) -> Course:
    steps = sorted({step for values in found.values() for _, step in values})
    column = {step: number for number, step in enumerate(steps)}
    tables = {}
    for quantity, values in found.items():
        tables[quantity] = np.full((case.net.depth, len(steps)), np.nan)
        for (layer, step), value in values.items():
            tables[quantity][layer, column[step]] = value
    return Course(case, np.array(steps, dtype=np.int64), tables)


def read_ends(reader: RunReader, config: Config) -> dict[Case, dict[str, float]]:
    """For each net that is trained to the end: its last training loss, and the seconds its training took."""
    table = reader.table(quantity=["training_loss", "seconds"])
    columns = (table[name] for name in ("site", "member", "quantity", "step", "value"))
    found: dict[tuple[str, int, int], dict[str, float]] = {}
    for site, member, quantity, step, value in zip(*columns, strict=True):
        found.setdefault((str(site), int(member), int(step)), {})[str(quantity)] = float(value)
    ends = {case: found.get((case.name, case.member, case.updates), {}) for case in cases(config)}
    return {case: end for case, end in ends.items() if "seconds" in end}


def histograms(reader: RunReader, case: Case) -> tuple[Numbers, Numbers] | None:
    """(edges (layers, bins + 1), shares (layers, bins)) at the end of training; None if it has not come to it."""
    sites = [case.site(layer) for layer in range(1, case.net.depth + 1)]
    table = reader.table(member=case.member, site=sites, steps=case.updates)
    columns = (table[name] for name in ("site", "quantity", "value"))
    found = {(str(site), str(quantity)): float(value) for site, quantity, value in zip(*columns, strict=True)}
    if (sites[0], "histogram_low") not in found:
        return None
    shares = [[found[site, f"histogram_{number:02}"] for number in range(BINS)] for site in sites]
    edges = [np.linspace(found[site, "histogram_low"], found[site, "histogram_high"], BINS + 1) for site in sites]
    return np.array(edges), np.array(shares)
