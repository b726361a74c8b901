"""The numbers of a step's parts, merged, are those of the whole."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from thruway.watching import DEFAULT, QUANTITIES, Quantity, watch
from thruway.watching.arguments import select_quantities
from thruway.watching.quantities.collector import Collector, Measured
from thruway.watching.quantities.units import LastActive
from thruway.watching.sites import Site
from thruway.watching.trace.merging import merge

OF_TENSORS = [name for name, row in QUANTITIES.items() if row.of_model is None]
OUTPUT, PARAMETER = Site("a", "output", "", "sigmoid"), Site("b", "parameter", "")
EXACT = ("mean", "std", "rms", "abs_max", "zero_share", "saturation_low", "saturation_high", "nan", "inf")


def measured(tensors: list[Tensor], site: Site = OUTPUT, names: Any = OF_TENSORS) -> list[Measured]:
    collector = Collector(select_quantities(names), LastActive())
    site.group = None  # that of the collector before
    for tensor in tensors:
        collector.add(site, tensor)
    return collector.finish()


def by_name(numbers: list[Measured]) -> dict[str, Any]:
    found = {m.quantity.name: m.values for m in numbers}
    assert len(found) == len(numbers)  # every quantity once
    return found


@st.composite
def parts(draw: Any) -> list[Tensor]:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    whole = 1 / (1 + np.exp(-random.normal(size=(draw(st.integers(2, 40)), 5)) * 3))
    whole *= draw(st.sampled_from([1.0, 1e-200, 1e200]))
    for bad in draw(st.lists(st.sampled_from([math.nan, math.inf, -math.inf, 0.0]), max_size=6)):
        whole[random.integers(len(whole)), random.integers(5)] = bad
    whole[: draw(st.integers(0, 2))] = draw(st.sampled_from([0.5, math.nan]))  # one part without a number
    cuts = sorted(draw(st.lists(st.integers(1, len(whole) - 1), max_size=3, unique=True)))
    return [torch.from_numpy(part) for part in np.split(whole, cuts)]


@settings(max_examples=40, deadline=None)
@given(parts())
def test_parts_merge_to_the_whole(tensors):
    found = by_name(merge(measured(tensors)))
    whole = by_name(measured([torch.cat(tensors)]))
    each = {name: [v for m in measured(tensors) if m.quantity.name == name for v in m.values] for name in found}
    for name in EXACT:
        # Means and squares of some hundred float64 numbers; a std to the rounding of the values themselves.
        np.testing.assert_allclose(
            found[name], whole[name], rtol=1e-12, atol=1e-13 * float(np.nan_to_num(whole["abs_max"])[0])
        )
    for name in ("p2", "p50", "p98", "effective_rank"):  # weighted means
        known = [value for value in each[name] if not np.isnan(value)]
        if known:
            slack = 1e-12 * max(map(abs, known))
            assert min(known) - slack <= found[name][0] <= max(known) + slack
    np.testing.assert_allclose(found["histogram"][0, :2], whole["histogram"][0, :2])
    assert found["histogram"][0, 2:].sum() == pytest.approx(whole["histogram"][0, 2:].sum(), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(parts(), st.integers(0, 2**32))
def test_the_order_of_the_parts_does_not_matter(tensors, seed):
    order = np.random.default_rng(seed).permutation(len(tensors))
    names = [*EXACT, "p50"]
    one = by_name(merge(measured(tensors, names=names)))
    other = by_name(merge(measured([tensors[i] for i in order], names=names)))
    for name, values in one.items():
        np.testing.assert_allclose(
            values, other[name], rtol=1e-12, atol=1e-13 * float(np.nan_to_num(one["abs_max"])[0])
        )


def test_weights_are_the_finite_values_as_far_as_they_were_counted():
    tensors = [torch.tensor([1.0, math.nan, math.nan, math.nan]), torch.tensor([5.0, 5.0, 5.0, 5.0])]
    assert by_name(merge(measured(tensors, names=["mean", "nan", "inf"])))["mean"] == pytest.approx(21 / 5)
    assert by_name(merge(measured(tensors, names=["mean"])))["mean"] == pytest.approx(3.0)


def test_without_means_spreads_are_pooled_round_their_own():
    tensors = [torch.tensor([0.0, 2.0]), torch.tensor([10.0, 12.0])]
    assert by_name(merge(measured(tensors, names=["std"])))["std"] == pytest.approx(1.0)
    assert by_name(merge(measured(tensors, names=["mean", "std"])))["std"] == pytest.approx(math.sqrt(26))


def test_other_rules():
    least = Quantity("least", "", lambda rows: rows.low, merge="min")
    pair = Quantity("pair", "", lambda rows: torch.stack([rows.mean, rows.high], 1))
    tensors = [torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 9.0])]
    found = by_name(merge(measured(tensors, names=[least, pair])))
    assert found["least"].tolist() == [1.0]
    np.testing.assert_allclose(found["pair"], [[(2 * 4 + 6 * 4) / 8, (2 * 5 + 6 * 9) / 8]])
    norms = by_name(merge(measured(tensors, PARAMETER, ["norm"])))["norm"]
    assert norms.tolist() == pytest.approx([math.sqrt(1 + 4 + 9 + 16 + 25 + 81)], rel=1e-6)


def test_sites_with_and_without_parts_keep_apart():
    collector = Collector(select_quantities(["mean", "abs_max"]))
    other = Site("c", "output", "")
    OUTPUT.group = None
    for site, tensor in ((OUTPUT, torch.ones(2)), (other, torch.full((3,), 7.0)), (OUTPUT, torch.full((2,), 3.0))):
        collector.add(site, tensor)
    found = {
        (m.quantity.name, site): v for m in merge(collector.finish()) for site, v in zip(m.sites, m.values, strict=True)
    }
    assert found == {("mean", OUTPUT): 2, ("abs_max", OUTPUT): 3, ("mean", other): 7, ("abs_max", other): 7}


def test_shards_of_two_processes_are_the_whole_batch():
    """The measurements of two processes, concatenated."""
    whole = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    shards = [m for shard in whole.split([12, 8]) for m in measured([shard], names=EXACT)]
    found, expected = by_name(merge(shards)), by_name(measured([whole], names=EXACT))
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-7)  # single precision


def test_accumulated_steps_have_the_numbers_of_the_full_batch():
    def seen(sizes: list[int]) -> dict[tuple[str, str], Any]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.Sigmoid())
        optimizer, x = torch.optim.SGD(net.parameters(), 0.1), torch.randn(24, 4)
        with watch(net, quantities=[*DEFAULT, "rms", "zero_share"], optimizer=optimizer) as trace:
            for part in x.split(sizes):
                net(part).square().sum().backward()
            optimizer.step()
        kinds = [
            (kind, name) for kind in ("output", "gradient", "parameter_gradient") for name in trace.quantities(kind)
        ]
        return {(kind, name): trace.series(name, kind).values for kind, name in kinds}

    one, parts_of_it = seen([24]), seen([4, 12, 8])
    assert set(one) == set(parts_of_it)
    for which, values in one.items():
        # Of the quantities of inputs, the weighted mean of the parts': within a few per cent.
        rtol = 0.2 if which[1] in ("input_dependence", "input_correlation", "position_correlation") else 1e-5
        np.testing.assert_allclose(parts_of_it[which], values, rtol=rtol, atol=1e-6, err_msg=str(which))
