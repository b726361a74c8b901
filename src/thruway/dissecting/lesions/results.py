"""Results of lesions: rows, tables and their display."""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from thruway.runs import Table

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Deletion", "Deletions", "DrawnLesion", "DrawnLesions"]

BAR = 12  # characters on each side of the axis of the bars
WIDTH = 80  # pixels, likewise
STYLE = "font: 13px/1.5 system-ui, sans-serif"
CELL = "font-size: 13px; white-space: nowrap; padding: 1px 14px 1px 0; border: 0; background: none"
GREY = "color: #767b85"  # readable on a white and a black background
INK, FAINT = "#4878a8", "#9aa0ab"


@dataclass(frozen=True, slots=True)
class Deletion:
    """One branch left out.

    Attributes:
        index, name, kind: see `Branch`.
        value: the metric without it.
        change: `value` minus the metric of the intact model.
        low: lower end of the interval of `change`; NaN without an interval.
        high: upper end of the interval.
    """

    index: int
    name: str
    kind: str
    value: float
    change: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Deletions(Sequence[Deletion]):
    """The metric without each branch in turn.

    Attributes:
        rows: one for each branch, in the order of the branches.
        intact: the metric of the intact model.
        metric: name of the metric.
        level: coverage of the intervals.
        examples: number of examples the metric was averaged over; 0 if unknown.
        higher_is_better: None if unknown.
        gate: "closed" (T = 0) or "mean" (T replaced by its mean over the data).
        scores: (branches, examples), the metric of each example, float64; None if unknown.
        intact_scores: (examples,), the same for the intact model.
    """

    rows: tuple[Deletion, ...]
    intact: float
    metric: str
    level: float
    examples: int
    higher_is_better: bool | None
    gate: str = "closed"
    scores: Tensor | None = None
    intact_scores: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return self.rows[place]

    def __iter__(self) -> Iterator[Deletion]:
        return iter(self.rows)

    def ranked(self) -> list[Deletion]:
        """The rows sorted from the most to the least damaging deletion.

        If the metric does not say whether higher is better, they are sorted by the size of the change.
        """
        signs = {None: 0, True: -1, False: 1}
        sign = signs[self.higher_is_better]
        return sorted(self.rows, key=lambda row: _last_if_nan(sign * row.change if sign else abs(row.change)))

    def table(self) -> Table:
        """Columns index, name, kind, value, change, low, high."""
        names = [field.name for field in fields(Deletion)]
        return Table({name: np.array([getattr(row, name) for row in self.rows], dtype=_dtype(name)) for name in names})

    def __repr__(self) -> str:
        head = [
            "",
            "without",
            "kind",
            self.metric,
            "change",
            f"{self.level:.0%} interval" if self._has_ends() else "",
            "",
        ]
        body = [[*self._cells(row), self._bar(row)] for row in self.rows]
        widths = [max(len(line[at]) for line in (head, *body)) for at in range(len(head))]
        lines = [
            "  ".join(
                cell.rjust(width) if at in (0, 3, 4, 5) else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in (head, *body)
        ]
        return "\n".join([self._title(), *(lines if body else [])])

    def _repr_html_(self) -> str:
        head = (
            "",
            "without",
            "kind",
            self.metric,
            "change",
            f"{self.level:.0%} interval" if self._has_ends() else "",
            "",
        )
        top = "".join(f'<th style="{CELL}; {GREY}; text-align: left">{html.escape(name)}</th>' for name in head)
        body = ""
        for row in self.rows:
            cells = "".join(f'<td style="{CELL}">{html.escape(cell)}</td>' for cell in self._cells(row))
            size = round(WIDTH * self._share(row))
            start = WIDTH - size if row.change < 0 else WIDTH
            bar = (
                f'<div style="width: {2 * WIDTH}px; background: linear-gradient({FAINT}, {FAINT}) '
                f'{WIDTH}px 0 / 1px 100% no-repeat"><div style="height: 9px; margin-left: {start}px; width: {size}px; '
                f'background: {FAINT if self._may_be_zero(row) else INK}"></div></div>'
            )
            body += f'<tr style="background: none">{cells}<td style="{CELL}">{bar}</td></tr>'
        table = f'<table style="border-collapse: collapse"><tr>{top}</tr>{body}</table>'
        return f'<div style="{STYLE}"><b>{html.escape(self._title())}</b>{table}</div>'

    def _title(self) -> str:
        over = f" over {self.examples:,} example{'s' if self.examples != 1 else ''}" if self.examples else ""
        gate = ", gates at their mean" if self.gate == "mean" else ""
        count = f"{len(self.rows)} branch{'es' if len(self.rows) != 1 else ''}"
        return f"{count} left out one at a time{gate}: {self.metric}{over}, intact {self.intact:.6g}"

    def _head(self) -> list[str]:
        interval = f"{self.level:.0%} interval" if self._has_ends() else ""
        return ["", "without", "kind", self.metric, "change", interval, ""]

    def _cells(self, row: Deletion) -> list[str]:
        ends = "" if math.isnan(row.low) else f"{row.low:+.4g} … {row.high:+.4g}"
        return [str(row.index), row.name, row.kind, f"{row.value:.6g}", f"{row.change:+.4g}", ends]

    def _has_ends(self) -> bool:
        return any(not math.isnan(row.low) for row in self.rows)

    def figure(self, **options: Any) -> "go.Figure":
        """Return a figure of the metric without each branch, with intervals; see `figures.deletion_bars`.

        Args:
            options: further arguments of `figures.deletion_bars`, such as title.
        """
        from thruway.figures import deletion_bars

        ends: dict[str, Any] = {
            name: [self.intact + getattr(row, name) for row in self.rows] for name in ("low", "high")
        }
        return deletion_bars(
            [row.value for row in self.rows],
            [row.name for row in self.rows],
            intact=self.intact,
            kinds=[row.kind for row in self.rows],
            first=0,
            quantity=self.metric,
            **(ends if self._has_ends() else {}),
            **options,
        )

    def _share(self, row: Deletion) -> float:
        """Return the length of a bar: the change relative to the largest change or end of an interval."""
        sizes = [abs(size) for each in self.rows for size in (each.change, each.low, each.high) if math.isfinite(size)]
        longest = max(sizes, default=0.0)
        return abs(row.change) / longest if longest and math.isfinite(row.change) else 0.0

    @staticmethod
    def _may_be_zero(row: Deletion) -> bool:
        return row.low <= 0 <= row.high

    def _bar(self, row: Deletion) -> str:
        """Return a bar to the left of an axis for a negative change, to the right for a positive one."""
        bar = ("░" if self._may_be_zero(row) else "█") * round(BAR * self._share(row))
        return f"{bar:>{BAR}}│" if row.change < 0 else f"{'':{BAR}}│{bar}"


@dataclass(frozen=True, slots=True)
class DrawnLesion:
    """One random lesion.

    Attributes:
        k: number of branches left out, or number of swaps.
        draw: number of the draw for this k, counted from 0.
        branches: indices of the branches left out; for swaps, the branch at each place.
        tau: Kendall's rank correlation of the order with the original one; 1 if nothing was moved.
        value: the metric.
    """

    k: int
    draw: int
    branches: tuple[int, ...]
    tau: float
    value: float


@dataclass(frozen=True, eq=False)
class DrawnLesions(Sequence[DrawnLesion]):
    """Random lesions, with all draws.

    Attributes:
        rows: one for each k and draw.
        intact: the metric of the intact model.
        metric: name of the metric.
        examples: number of examples it was averaged over; 0 if unknown.
        what: the kind of lesion, "branches left out" or "pairs swapped".
    """

    rows: tuple[DrawnLesion, ...]
    intact: float
    metric: str
    examples: int
    what: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return self.rows[place]

    def __iter__(self) -> Iterator[DrawnLesion]:
        return iter(self.rows)

    def table(self) -> Table:
        """Columns k, draw, tau, value, branches (the indices as text, separated by spaces)."""
        text = [" ".join(map(str, row.branches)) for row in self.rows]
        columns: dict[str, Any] = {
            name: np.array([getattr(row, name) for row in self.rows], dtype=kind)
            for name, kind in (("k", np.int64), ("draw", np.int64), ("tau", np.float64), ("value", np.float64))
        }
        return Table({**columns, "branches": np.array(text, dtype=object)})

    def quartiles(self) -> Table:
        """Quartiles for each k: columns k, draws, tau (mean), lowest, q1, median, q3, highest."""
        ks = list(dict.fromkeys(row.k for row in self.rows))
        values = [np.array([row.value for row in self.rows if row.k == k]) for k in ks]
        taus = [np.mean([row.tau for row in self.rows if row.k == k]) for k in ks]
        spread = np.array([np.quantile(each, [0, 0.25, 0.5, 0.75, 1]) for each in values]).reshape(len(ks), 5)
        columns = dict(zip(("lowest", "q1", "median", "q3", "highest"), spread.T, strict=True))
        counts = [len(each) for each in values]
        return Table({"k": np.array(ks), "draws": np.array(counts), "tau": np.array(taus), **columns})

    def __repr__(self) -> str:
        return f"{self._title()}\n{self.quartiles()!r}"

    def _repr_html_(self) -> str:
        return f'<div style="{STYLE}"><b>{html.escape(self._title())}</b>{self.quartiles()._repr_html_()}</div>'

    def _title(self) -> str:
        over = f" over {self.examples:,} example{'s' if self.examples != 1 else ''}" if self.examples else ""
        return f"k {self.what}, {len(self.rows)} draws: {self.metric}{over}, intact {self.intact:.6g}"


def _dtype(name: str) -> Any:
    return np.int64 if name == "index" else object if name in ("name", "kind") else np.float64


def _last_if_nan(key: float) -> float:
    return math.inf if math.isnan(key) else -key
