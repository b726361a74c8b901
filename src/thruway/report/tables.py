"""Tables of a report: columns, rows and highlighted entries."""

from dataclasses import dataclass
from typing import Any, Literal

from thruway.errors import ConfigError

__all__ = ["Cell", "TableData"]

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
