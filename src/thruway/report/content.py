"""Content of a report, as frozen data classes that an experiment fills in.

Page ── claims:     ClaimVerdict ...
     ── sections:   Section ── figure, reading, TableData
     ── provenance: command, data, hardware, and differences from the paper
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import plotly.graph_objects as go

from thruway.errors import ConfigError, unknown_name

__all__ = ["VERDICTS", "Cell", "ClaimVerdict", "Page", "Section", "TableData"]

# Text of a verdict on the page: a sign and a word, so that it does not depend on colour.
VERDICTS = {"holds": "✓ holds", "fails": "✗ fails", "unclear": "? unclear"}

Mark = Literal["", "best", "diverged"]


@dataclass(frozen=True)
class Cell:
    """A highlighted table entry: the best of its group, or a diverged run."""

    value: Any
    mark: Mark = ""


@dataclass(frozen=True)
class TableData:
    """A table: column names, and rows of numbers, text, None or `Cell`.

    Integers are formatted with thousands separators, other numbers with four significant digits; None is shown as a
    dash.

    Raises:
        ConfigError: if the number of entries of a row is not the number of columns.

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
                    f"{', '.join(self.columns)}. Pass one entry per column, None if it is missing."
                )


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim of a paper, the measured statistic, and the verdict.

    Args:
        id: short permanent name, for programs.
        text: claim in words.
        statistic: measured quantity, with its unit.
        value: value of the statistic, one number or one per seed.
        threshold: condition for the claim to hold, such as "<= 0.1".
        verdict: a key of `VERDICTS`.
        source: paper, section, figure or table.
        note: remarks on the number.
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
    """One finding: a heading, a sentence on how to read it, a figure and optionally a table."""

    title: str
    figure: go.Figure | None
    reading: str
    table: TableData | None = None


@dataclass(frozen=True)
class Page:
    """A whole report.

    Args:
        title: title of the experiment.
        subtitle: paper and figure that it reproduces.
        lead: main result, in one paragraph.
        claims: claims of the paper with their verdicts.
        sections: figures and tables, in order.
        provenance: facts needed to reproduce and judge the run: scale, data, hardware, seeds, versions, command,
            cost, differences from the paper. A sequence is shown as a list.
    """

    title: str
    subtitle: str
    lead: str
    claims: tuple[ClaimVerdict, ...] = ()
    sections: tuple[Section, ...] = ()
    provenance: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
