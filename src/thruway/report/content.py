"""What a report says: plain frozen values that an experiment fills in.

Page ── claims:     ClaimVerdict ...
     ── sections:   Section ── figure, reading, TableData
     ── provenance: what was run, on what, and how it differs from the paper
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import plotly.graph_objects as go

from thruway.errors import ConfigError, unknown_name

__all__ = ["VERDICTS", "Cell", "ClaimVerdict", "Page", "Section", "TableData"]

# How a verdict reads on the page: a sign and a word, so that nothing rests on colour.
VERDICTS = {"holds": "✓ holds", "fails": "✗ fails", "unclear": "? unclear"}

Mark = Literal["", "best", "diverged"]


@dataclass(frozen=True)
class Cell:
    """A table entry that stands out: the best of its group, or a run that diverged."""

    value: Any
    mark: Mark = ""


@dataclass(frozen=True)
class TableData:
    """A table: one name per column, and rows of numbers, text, None or `Cell`.

    Numbers are formatted by their type: whole numbers with thousands separators, others with four
    significant digits. None reads as a dash.

    Raises:
        ConfigError: if a row has another number of entries than there are columns.

    >>> TableData(("depth", "loss"), ((10, 0.02), (50, Cell(1.9, "diverged")))).columns
    ('depth', 'loss')
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ConfigError(
                    f"row {number} of the table has {len(row)} entries, its {len(self.columns)} columns are "
                    f"{', '.join(self.columns)}. Give one entry per column; None for a missing one."
                )


@dataclass(frozen=True)
class ClaimVerdict:
    """One claim of a paper, the number measured for it, and what that number says.

    Args:
        id: a short name that never changes, for programs.
        text: the claim in words.
        statistic: what was measured, with its unit.
        value: the statistic, one number or one per seed.
        threshold: what the claim needs, such as "<= 0.1".
        verdict: a key of `VERDICTS`.
        source: paper, section, figure or table.
        note: what a reader should know beside the number.
    Raises:
        ConfigError: if the verdict is not one of `VERDICTS`.

    >>> ClaimVerdict("degrades", "plain nets degrade", "loss ratio", 40.0, ">= 10", "holds", "fig. 1").verdict
    'holds'
    """

    id: str
    text: str
    statistic: str
    value: float | Sequence[float]
    threshold: str
    verdict: Literal["holds", "fails", "unclear"]
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ConfigError(f"claim {self.id!r}: {unknown_name('verdict', self.verdict, VERDICTS)}")


@dataclass(frozen=True)
class Section:
    """One finding: a heading, a sentence that says what to see, a figure and perhaps a table."""

    title: str
    figure: go.Figure | None
    reading: str
    table: TableData | None = None


@dataclass(frozen=True)
class Page:
    """A whole report.

    Args:
        title: the experiment, in words.
        subtitle: the paper and figure it repeats.
        lead: the answer, in one paragraph of plain words.
        claims: the paper's claims with their verdicts.
        sections: figures and tables, in reading order.
        provenance: what a reader needs to repeat the run and judge it: scale, data, hardware, seeds,
            versions, command, cost, differences from the paper. A sequence becomes a list.
    """

    title: str
    subtitle: str
    lead: str
    claims: tuple[ClaimVerdict, ...] = ()
    sections: tuple[Section, ...] = ()
    provenance: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
