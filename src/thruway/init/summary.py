"""Summary of an initialisation: one row for each part of each parameter."""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["InitSummary", "Row"]


@dataclass(frozen=True)
class Row:
    """Initialisation of one part of one parameter.

    Attributes:
        parameter: name in the model, as in `named_parameters`.
        part: name of the map within the parameter ("transform", "forget_gate"); "" if the parameter is undivided.
        done: a scheme's name, "constant <value>", "normal", or "kept".
        fan_in, fan_out: fans of the map; None for a constant.
        gain: factor by which the scheme's standard deviation is multiplied.
        std: expected standard deviation of the entries; None if the values were kept.
        note: details, such as the reason for the gain or the other names of a shared parameter.
        is_skipped: True if the part was not initialised as requested.
    """

    parameter: str
    part: str
    done: str
    fan_in: int | None = None
    fan_out: int | None = None
    gain: float | None = None
    std: float | None = None
    note: str = ""
    is_skipped: bool = False


@dataclass(frozen=True)
class InitSummary:
    """Initialisation of every parameter of a model, in the model's order; prints as a table.

    >>> print(InitSummary((Row("0.weight", "", "he_normal", 8, 4, 1.0, 0.5), Row("0.bias", "", "constant 0", std=0.0))))
    parameter  part  done        fan_in  fan_out  gain  std  note
    0.weight         he_normal   8       4        1     0.5
    0.bias           constant 0                         0
    """

    rows: tuple[Row, ...]

    @property
    def skipped(self) -> tuple[Row, ...]:
        """The rows of parts that were not initialised as requested, with the reason in their notes."""
        return tuple(row for row in self.rows if row.is_skipped)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        head = ("parameter", "part", "done", "fan_in", "fan_out", "gain", "std", "note")
        cells = [head, *(tuple(_cell(getattr(row, name)) for name in head) for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
        )


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
