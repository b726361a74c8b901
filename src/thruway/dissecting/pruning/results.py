"""Result of pruning: the branches in the order of their removal, the damage after each, and the smaller model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from thruway.dissecting.removal.remove import remove
from thruway.dissecting.running.engine import Engine
from thruway.runs import Table

__all__ = ["Pruning", "Removed"]


@dataclass(frozen=True, slots=True)
class Removed:
    """The model after one more removal.

    Attributes:
        index, name, kind: the branch that was removed last; see `Branch`.
        value: metric without this branch and those before, on the data of the choice.
        damage: increase of an error or a loss, or decrease of an accuracy, from the intact model.
        low, high: ends of the interval of the damage; on the data of the report, if there are any.
        reported: damage on the data of the report; NaN without a report.
        flops: share of the floating-point operations that remain.
        parameters: share of the parameters that remain.
    """

    index: int
    name: str
    kind: str
    value: float
    damage: float
    low: float
    high: float
    reported: float
    flops: float
    parameters: float


@dataclass(frozen=True, eq=False)
class Pruning(Sequence[Removed]):
    """A smaller model, and how it was chosen.

    Attributes:
        rows: the removals in their order. The damage of a block that was chosen as a whole is that of its first rows.
        intact: metric of the intact model on the data of the choice.
        metric: name of the metric.
        strategy: name of the strategy.
        level: coverage of the intervals.
        evaluated: number of lesions whose metric was evaluated for the choice.
        examples: number of examples of the choice.
        engine: engine of the dissection.
    """

    rows: tuple[Removed, ...]
    intact: float
    metric: str
    strategy: str
    level: float
    evaluated: int
    examples: int
    engine: Engine

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return self.rows[place]

    @property
    def chosen(self) -> tuple[int, ...]:
        """Indices of the removed branches, in the order of their removal."""
        return tuple(row.index for row in self.rows)

    @cached_property
    def model(self) -> nn.Module:
        """The smaller model; see `Dissection.remove`. It is made when it is first asked for."""
        return remove(self.engine, self.chosen)

    def table(self) -> Table:
        """A row for each removal; see `Removed`."""
        kinds: dict[str, Any] = {"index": np.int64, "name": object, "kind": object}
        names = [field.name for field in fields(Removed)]
        return Table(
            {n: np.array([getattr(row, n) for row in self.rows], dtype=kinds.get(n, np.float64)) for n in names}
        )

    def __repr__(self) -> str:
        head = (
            f"{len(self.rows)} branches removed by {self.strategy}: {self.metric} over {self.examples:,} examples, "
            f"intact {self.intact:.6g}; {self.evaluated} lesions evaluated"
        )
        has_report = any(not math.isnan(row.reported) for row in self.rows)
        lines = [
            f"{place:>3}  {row.name:<32}  {row.value:>9.5g}  damage {row.damage:+.4g}"
            + (f", reported {row.reported:+.4g}" if has_report else "")
            + ("" if math.isnan(row.low) else f" ({row.low:+.4g} … {row.high:+.4g})")
            + f"  {row.flops:.0%} of the operations, {row.parameters:.0%} of the parameters"
            for place, row in enumerate(self.rows, 1)
        ]
        return "\n".join([head, *lines])
