"""Histograms: equal to NumPy's, merged, and read from a trace."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thruway.errors import ConfigError
from thruway.figures import layer_histograms
from thruway.watching import Quantity, Trace, watch
from thruway.watching.quantities.distributions import BINS, bin_edges, histogram, merge_histograms
from thruway.watching.quantities.rows import Rows


def values(seed: int, size: int = 500) -> torch.Tensor:
    return torch.randn(1, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e307])
def test_they_are_numpys(scale, careful):
    block = torch.cat([values(0), values(1).exp(), values(2).round(), torch.full((1, 500), 5.0)]).mul(scale)
    block[0, 3], block[0, 4], block[0, 5] = math.nan, math.inf, -math.inf
    for found, row in zip(histogram(Rows(block, careful=careful)).numpy(), block.numpy(), strict=True):
        finite = row[np.isfinite(row)]
        low, high = finite.min(), finite.max()
        # In halves: NumPy refuses the span of the largest doubles. None of these values is within rounding of an edge
        # but the extremes and, of the rounded ones, the middle.
        limits = (low / 2, high / 2) if low < high else None
        counts = np.histogram(finite / 2, BINS, limits)[0] if limits else np.histogram(np.full(500, 5.0), BINS)[0]
        assert (found[0], found[1]) == (low, high)
        assert np.array_equal(found[2:], counts)


def test_the_span_of_all_doubles_does_not_overflow():
    row = torch.tensor([[-1.7e308, -0.1e308, 1.7e308]], dtype=torch.float64)
    low, high, *counts = histogram(Rows(row))[0].tolist()
    assert (low, high, np.flatnonzero(counts).tolist()) == (-1.7e308, 1.7e308, [0, int(1.6 / 3.4 * BINS), BINS - 1])
    assert np.isfinite(bin_edges(low, high)).all()


def test_counts_between_the_edges_are_the_counts():
    row = values(3)
    low, high, *counts = histogram(Rows(row))[0].tolist()
    edges = bin_edges(low, high)
    assert np.array_equal(np.histogram(row.numpy(), edges)[0], counts)
    assert (edges[0], edges[-1]) == (row.min().item(), row.max().item())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from([0.0, 0.1, 1.0, 30.0])), min_size=1, max_size=4))
def test_joined_histograms_are_the_whole_to_a_bin(drawn):
    parts = [values(seed, 50 + seed % 100) * spread + seed % 7 for seed, spread in drawn]
    each = [histogram(Rows(part))[0].numpy() for part in parts]
    whole = torch.cat(parts, 1)
    found = merge_histograms(each)
    assert (found[0], found[1]) == (whole.min().item(), whole.max().item())
    # The counts are floating-point sums of some hundreds.
    assert found[2:].sum() == pytest.approx(whole.numel(), rel=1e-12)
    # Up to an edge, each part may be off by what its own bin there holds; a constant part lies in one bin of the whole.
    edges = bin_edges(found[0], found[1])
    for edge, below in zip(edges[1:-1], np.cumsum(found[2:]), strict=False):
        slack = 1e-9 * whole.numel()
        for part, own in zip(parts, each, strict=True):
            borders = bin_edges(own[0], own[1])
            bin_at = int(np.clip(np.searchsorted(borders, edge) - 1, 0, BINS - 1))
            nearby = abs(edge - own[0]) <= 1e-9 * max(1.0, abs(edge))
            slack += part.numel() if own[0] == own[1] and nearby else own[2 + bin_at] * (own[0] < own[1])
        assert abs(below - (whole < edge).sum().item()) <= slack


def test_parts_without_a_finite_value_add_nothing():
    nothing = histogram(Rows(torch.full((1, 4), math.nan, dtype=torch.float64)))[0].numpy()
    one = histogram(Rows(values(5)))[0].numpy()
    assert np.array_equal(merge_histograms([nothing, one]), one)
    assert not merge_histograms([nothing, nothing])[2:].any()
    assert histogram(Rows(torch.empty(1, 0)))[0, 2:].sum() == 0


# --- in a trace


def watched(steps: int = 12) -> tuple[Trace, list[torch.Tensor], list[torch.Tensor]]:
    """A trace, and the last layer's outputs and their gradients at every step."""
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    outputs, gradients = [], []
    with watch(net, quantities=["mean", "histogram"]) as trace:
        for step in range(steps):
            y = net(torch.randn(8, 6, generator=torch.Generator().manual_seed(step)))
            y.retain_grad()
            y.pow(2).sum().backward()
            outputs.append(y.detach().double())
            gradients.append(y.grad.double())
    return trace, outputs, gradients


def test_a_trace_gives_them_back_by_site_and_step():
    trace, outputs, gradients = watched()
    for kind, tensors in (("output", outputs), ("gradient", gradients)):
        for step, taken in ((0, 0), (10, 10), (None, 10)):
            found = trace.histogram("2", kind, step)
            assert (found.step, found.site.name, found.site.kind) == (taken, "2", kind)
            assert found.edges[[0, -1]].tolist() == [tensors[taken].min(), tensors[taken].max()]
            assert np.array_equal(np.histogram(tensors[taken].numpy(), found.edges)[0], found.counts)


def test_a_trace_gives_all_layers_at_one_step():
    trace, _, _ = watched()
    for kind in ("output", "gradient"):
        layers = trace.histograms(kind)
        assert (layers.step, layers.names, layers.kind) == (10, ["0", "1", "2"], kind)
        for name, edges, counts in zip(layers.names, layers.edges, layers.counts, strict=True):
            one = trace.histogram(name, kind)
            assert np.array_equal(one.edges, edges)
            assert np.array_equal(one.counts, counts)
        drawn = layer_histograms(layers.edges, layers.counts, layers.names, quantity="activation")
        assert [line.name for line in drawn.data] == layers.names


def test_arrays_of_ones_own_are_read_as_they_were_measured():
    ends = Quantity(
        "ends", "", lambda rows: torch.stack([rows.low, rows.high, rows.mean], 1), ("output",), stride=2, numbers=3
    )
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh()), torch.ones(2, 4)
    with watch(net, quantities=["mean", ends]) as trace:
        for step in range(5):
            net(x * step)
    series = trace.arrays("ends")
    assert (series.names, series.steps.tolist(), series.values.shape) == (["0", "1"], [0, 2, 4], (2, 3, 3))
    with torch.no_grad():
        last = net(x * 4).double()
    # Single precision.
    np.testing.assert_allclose(series.values[1, 2], [last.min(), last.max(), last.mean()], rtol=1e-6)
    with pytest.raises(ConfigError, match=r"ends has many numbers per site: read it with trace\.arrays\('ends'\)"):
        trace.series("ends")


def test_micro_batches_are_one_histogram():
    net, x = nn.Sequential(nn.Linear(6, 4)), torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with watch(net, quantities=["histogram"], optimizer=optimizer) as trace:
        for part in x.split([4, 8]):
            net(part).sum().backward()
        with torch.no_grad():
            y = net(x)
        optimizer.step()
    found = trace.histogram("0")
    # Rounding of a GEMM of another batch size, and a sum of 48 counts.
    assert found.edges[[0, -1]] == pytest.approx([y.min().item(), y.max().item()], rel=1e-6)
    assert found.counts.sum() == pytest.approx(48, rel=1e-12)
    assert len(trace.arrays("histogram").values) == 1


def test_refusals_say_what_there_is():
    trace, _, _ = watched()
    with pytest.raises(ConfigError, match=r"unknown output site '11'; did you mean '1'\? Known: 0, 1, 2"):
        trace.histogram("11")
    with pytest.raises(ConfigError, match=r"at step 7; the nearest of the 2 steps with histograms is 10"):
        trace.histogram("1", step=7)
    with pytest.raises(ConfigError, match=r"no histogram was measured at parameters \(arrays that were: none\)"):
        trace.histograms("parameter")
    with pytest.raises(ConfigError, match=r"unknown output quantity of many numbers 'p2'. Known: histogram"):
        trace.arrays("p2")
