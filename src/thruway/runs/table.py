"""A small immutable table: NumPy arrays of equal length, by column name.

It supports selecting and grouping the values of a run; for anything else, use `to_pandas`.
"""

import html
import importlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thruway.errors import ConfigError, ShapeError, unknown_name

__all__ = ["Table"]

MAX_REPR_ROWS = 10  # longer tables show only their first and last rows

Array = NDArray[Any]


class Table:
    """An immutable table of columns of equal length.

    Text columns are object arrays, so that a repeated name is stored once.

    Raises:
        ShapeError: if a column is not one-dimensional, or the lengths differ.

    >>> t = Table({"step": [0, 1, 1], "quantity": ["loss", "loss", "accuracy"], "value": [2.0, 1.5, 0.25]})
    >>> t.where(quantity="loss")["value"].tolist()
    [2.0, 1.5]
    >>> t
       step  quantity  value
          0      loss      2
          1      loss    1.5
          1  accuracy   0.25
    3 rows
    """

    __hash__ = None  # type: ignore[assignment]  # compared by value, and columns may be large
    __slots__ = ("_columns",)

    def __init__(self, columns: Mapping[str, ArrayLike]) -> None:
        frozen = {str(name): _frozen(values, str(name)) for name, values in columns.items()}
        if len({len(values) for values in frozen.values()}) > 1:
            sizes = ", ".join(f"{name} {len(values)}" for name, values in frozen.items())
            raise ShapeError(f"the columns of a table must have equal lengths, got {sizes}.")
        self._columns = frozen

    @property
    def columns(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    def __getitem__(self, name: str) -> Array:
        """Return a column as a read-only array."""
        try:
            return self._columns[name]
        except (KeyError, TypeError):
            raise ConfigError(unknown_name("column", name, self._columns)) from None

    def __eq__(self, other: object) -> bool:
        """Return True if both have the same columns in the same order with equal values; NaN equals NaN."""
        if not isinstance(other, Table):
            return NotImplemented
        return self.columns == other.columns and all(_equal(self[name], other[name]) for name in self.columns)

    def where(self, **conditions: Any) -> "Table":
        """Return the rows that satisfy all conditions.

        Args:
            conditions: for each column a value, several allowed values, or a function from the column to booleans.

        >>> t = Table({"member": [0, 1, 2], "value": [0.5, float("nan"), 3.0]})
        >>> t.where(member=[0, 2], value=lambda v: v > 1)["member"].tolist()
        [2]
        """
        keep = np.ones(len(self), dtype=bool)
        for name, condition in conditions.items():
            keep &= _meets(self[name], condition)
        return self.take(keep)

    def take(self, index: ArrayLike | slice) -> "Table":
        """Return the rows at `index`: positions, booleans or a slice."""
        at: Any = index if isinstance(index, slice) else np.asarray(index)
        if isinstance(at, np.ndarray) and at.size == 0:
            at = at.astype(np.intp)  # an empty list would be a float array
        return Table({name: _read_only(values[at]) for name, values in self._columns.items()})

    def group(self, *names: str) -> Iterator[tuple[Any, "Table"]]:
        """Yield (value, table) for each value of a column, or tuple of values, in order of first appearance.

        >>> t = Table({"member": [1, 0, 1], "value": [1.0, 2.0, 3.0]})
        >>> [(member, part["value"].tolist()) for member, part in t.group("member")]
        [(1, [1.0, 3.0]), (0, [2.0])]
        """
        keys: Iterable[Hashable] = (
            self[names[0]].tolist() if len(names) == 1 else zip(*(self[name].tolist() for name in names), strict=True)
        )
        rows: dict[Hashable, list[int]] = {}
        for row, key in enumerate(keys):
            rows.setdefault(key, []).append(row)
        for key, index in rows.items():
            yield key, self.take(index)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each row as a dict of plain Python values."""
        for row in zip(*(values.tolist() for values in self._columns.values()), strict=True):
            yield dict(zip(self._columns, row, strict=True))

    @staticmethod
    def concat(tables: Sequence["Table"]) -> "Table":
        """Concatenate the rows of several tables.

        Raises:
            ShapeError: if the tables do not have the same columns.
        """
        if not tables:
            return Table({})
        for table in tables:
            if table.columns != tables[0].columns:
                raise ShapeError(
                    f"only tables with the same columns can be concatenated, got {', '.join(tables[0].columns)} and "
                    f"{', '.join(table.columns)}. Drop or add columns first."
                )
        return Table({name: np.concatenate([table[name] for table in tables]) for name in tables[0].columns})

    def to_pandas(self) -> Any:
        """Convert the table to a pandas DataFrame.

        Raises:
            ConfigError: if pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise ConfigError(
                "to_pandas needs pandas, which is not installed. Run `pip install pandas`, or use rows()."
            ) from None
        return pandas.DataFrame({name: values.copy() for name, values in self._columns.items()})

    def __repr__(self) -> str:
        if not self._columns:
            return "0 rows"
        lines = self._text()
        widths = [max(len(line[column]) for line in lines) for column in range(len(self._columns))]
        text = [
            "   " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        ]
        return "\n".join([*text, self._length()])

    def _repr_html_(self) -> str:
        head, *body = ([html.escape(cell) for cell in line] for line in self._text())
        cells = ("".join(f'<td style="text-align:right">{cell}</td>' for cell in line) for line in body)
        return (
            f"<table><thead><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr></thead>"
            f"<tbody>{''.join(f'<tr>{line}</tr>' for line in cells)}</tbody></table><p>{self._length()}</p>"
        )

    def _length(self) -> str:
        return "1 row" if len(self) == 1 else f"{len(self):,} rows"

    def _text(self) -> list[list[str]]:
        """Return the header and the cells as strings, with a row of dots in place of omitted rows."""
        is_whole, half = len(self) <= MAX_REPR_ROWS, MAX_REPR_ROWS // 2
        parts = [self] if is_whole else [self.take(slice(0, half)), self.take(slice(-half, None))]
        blocks = [[[_cell(value) for value in row.values()] for row in part.rows()] for part in parts]
        dots = [] if is_whole else [["…"] * len(self._columns)]
        return [list(self._columns), *blocks[0], *dots, *(blocks[1] if not is_whole else [])]


def _frozen(values: ArrayLike, name: str) -> Array:
    array = np.asarray(values)
    if array.dtype.kind in "US":
        array = array.astype(object)
    if array.ndim != 1:
        raise ShapeError(f"column {name!r} has shape {array.shape}; a column must be one-dimensional. Flatten it.")
    # A writeable array is copied; a read-only array, or a view of one, is used without a copy.
    is_immutable = not array.flags.writeable and (array.base is None or _is_frozen(array.base))
    frozen = array if is_immutable else array.copy()
    frozen.flags.writeable = False
    return frozen


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _is_frozen(base: object) -> bool:
    return isinstance(base, np.ndarray) and not base.flags.writeable


def _equal(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    # x != x identifies NaN in float and object columns alike.
    return bool(np.all((a == b) | ((a != a) & (b != b))))


def _meets(column: Array, condition: Any) -> NDArray[np.bool_]:
    if callable(condition):
        test: Callable[[Array], ArrayLike] = condition
        return np.asarray(test(column), dtype=bool)
    if isinstance(condition, (list, tuple, set, frozenset, range, np.ndarray)):
        allowed = set(condition.tolist() if isinstance(condition, np.ndarray) else condition)
        return np.fromiter((value in allowed for value in column.tolist()), dtype=bool, count=len(column))
    return np.asarray(column == condition, dtype=bool) & np.ones(len(column), dtype=bool)


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
