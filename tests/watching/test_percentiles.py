"""Percentiles against NumPy's."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thruway.watching import watch
from thruway.watching.quantities.distributions import percentile
from thruway.watching.quantities.rows import Rows

VALUES = st.one_of(
    st.floats(width=32),
    st.sampled_from([0.0, 1.0, -1.0, 1e-38, 3e38, -3e38, math.nan, math.inf, -math.inf]),  # ties
)


@pytest.mark.parametrize("careful", [False, True])
@settings(max_examples=150, deadline=None)
@given(values=st.lists(VALUES, min_size=1, max_size=60), percent=st.sampled_from([0, 2, 50, 98, 100]))
def test_they_are_those_of_the_finite_values(values, percent, careful):
    row = torch.tensor([values], dtype=torch.float32)
    found = percentile(Rows(row, careful=careful), percent).item()
    finite = row.double().numpy()[0]
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        assert math.isnan(found)
        return
    # Interpolated in float64 and rounded once to float32; the neighbours' own size bounds what cancels.
    below, above = (np.percentile(finite, percent, method=side) for side in ("lower", "higher"))
    bound = 2.0**-24 * abs(np.percentile(finite, percent)) + 2.0**-50 * max(abs(below), abs(above)) + 1e-45
    assert abs(found - np.percentile(finite, percent)) <= bound
    assert below <= found <= above


def test_large_blocks_and_doubles():
    block = torch.randn(3, 10_001, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 3
    for percent in (2, 50, 98):
        expected = np.percentile(block.numpy(), percent, axis=1)
        # Two products and a sum in float64.
        np.testing.assert_allclose(percentile(Rows(block), percent), expected, rtol=1e-14)


def test_the_span_of_all_doubles_does_not_overflow():
    assert percentile(Rows(torch.tensor([[-1.7e308, 1.7e308]], dtype=torch.float64)), 50).item() == 0.0


def test_no_values_no_percentile():
    assert percentile(Rows(torch.empty(1, 0)), 50).isnan().all()


def test_three_percentiles_sort_once(monkeypatch):
    sorts: list[Any] = []
    sort = np.sort
    monkeypatch.setattr(np, "sort", lambda *a, **k: (sorts.append(a), sort(*a, **k))[1])
    net, x = nn.Tanh(), torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    with watch(net, quantities=["p2", "p50", "p98"]) as trace:
        net(x)
    assert len(sorts) == 2  # of the input and of the output
    for name, percent in (("p2", 2), ("p50", 50), ("p98", 98)):
        # Single precision.
        assert trace.series(name).values[0, 0] == pytest.approx(np.percentile(torch.tanh(x).numpy(), percent), rel=1e-6)
