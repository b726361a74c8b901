"""A quantity returns at most the numbers per site of its row, or watching stops with a warning."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thruway.watching import QUANTITIES, Quantity, Rows, Trace, WatchWarning, watch
from thruway.watching.arguments import check_size

X = torch.ones(5, 3)


def watched(quantity: Quantity) -> Trace:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    with watch(net, quantities=["mean", quantity]) as trace:
        net(X).sum().backward()
    return trace


def first(count: int) -> Callable[[Rows], Tensor]:
    return lambda rows: rows.flat[:, :count]


REFUSED: dict[str, tuple[Quantity, str]] = {
    "not reduced": (
        Quantity("size", "", lambda rows: rows.flat.abs()),
        r"'size' returned 15 numbers for a tensor of 15 values, but its limit is 1\. .*Quantity\(\.\.\., numbers=15\)",
    ),
    "more than it says": (Quantity("some", "", first(4), numbers=3), "'some' returned 4 numbers .* its limit is 3"),
    "one in a column": (Quantity("mine", "", lambda rows: rows.mean[:, None]), r"returned \(k, 1\).*squeeze\(1\)"),
    "one for all": (
        Quantity("mine", "", lambda rows: rows.flat.mean()),
        r"'mine' returned shape \(\) for Rows of k = 1",
    ),
    "a table each": (
        Quantity("mine", "", lambda rows: rows.values, numbers=99),
        r"returned shape \(1, 5, 3\) for Rows of k = 1",  # of the input
    ),
    "no tensor": (Quantity("mine", "", lambda rows: 3.0), "'mine' returned float for Rows of k = 1"),  # type: ignore[arg-type, return-value]
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_quantity_that_gives_something_else_ends_the_watching(case: str) -> None:
    quantity, message = REFUSED[case]
    with pytest.warns(WatchWarning, match=message):
        trace = watched(quantity)
    assert type(trace.failure).__name__ == "ShapeError"
    assert trace.array_quantities() == []


def test_as_many_as_it_says_or_fewer_are_kept() -> None:
    ends = Quantity("ends", "", lambda rows: torch.stack([rows.low, rows.high], 1), numbers=2)
    few = Quantity("few", "", first(6), numbers=10)
    for quantity, count in ((ends, 2), (few, 6)):
        trace = watched(quantity)
        assert trace.failure is None
        assert trace.arrays(quantity.name).values.shape == (2, 1, count)


def test_rows_of_the_table_and_windows_go_unhindered() -> None:
    for row in QUANTITIES.values():
        assert check_size(row) is row
    dead = dataclasses.replace(QUANTITIES["dead_units"], window=2)
    assert check_size(dead) is dead
    own_stride = dataclasses.replace(QUANTITIES["histogram"], stride=1)
    one, other = watched(own_stride), watched(QUANTITIES["histogram"])
    for trace in (one, other):
        assert trace.arrays("histogram").values.shape == (2, 1, QUANTITIES["histogram"].numbers)
        assert np.isfinite(trace.histograms().counts).all()
