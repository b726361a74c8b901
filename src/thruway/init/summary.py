"""What was done to which parameter, as rows to read or to print."""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["InitSummary", "Row"]


@dataclass(frozen=True)
class Row:
    """One part of one parameter.

    Attributes:
        parameter: its name in the model, as `named_parameters` gives it.
        part: the map inside it ("transform", "forget_gate"), or "" where the parameter is one thing.
        done: a scheme's name, "constant <value>", "normal", or "kept".
        fan_in, fan_out: of the map; None for a constant.
        gain: what the scheme's standard deviation was multiplied by.
        std: the standard deviation expected of the entries; None for what was kept.
        note: why the gain is what it is, which other names share the parameter, and the like.
        is_skipped: whether the part was left without what was asked for.
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
    """Every parameter of a model and what an initialiser did to it, in the model's order.

    >>> print(InitSummary((Row("0.weight", "", "he_normal", 8, 4, 1.0, 0.5), Row("0.bias", "", "constant 0", std=0.0))))
    parameter  part  done        fan_in  fan_out  gain  std  note
    0.weight         he_normal   8       4        1     0.5
    0.bias           constant 0                         0
    """

    rows: tuple[Row, ...]

    @property
    def skipped(self) -> tuple[Row, ...]:
        """The rows that were left without what was asked for, each with the reason in its note."""
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
