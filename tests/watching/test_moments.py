"""Moments of large CPU tensors: the numbers of Rows, and refused where they would be inaccurate."""

import numpy as np
import pytest
import torch

from thruway.watching import Quantity
from thruway.watching.arguments import select_quantities
from thruway.watching.quantities.collector import Collector
from thruway.watching.quantities.moments import Moments
from thruway.watching.quantities.saturation import ENDS
from thruway.watching.quantities.table import QUANTITIES
from thruway.watching.sites import Site

# Float32 adds some 1e5 squares in a hundred lanes: about a thousand roundings of 6e-8 each, at worst.
CLOSE = {torch.float32: 1e-5, torch.float64: 1e-12}


def _measured(tensor, *quantities):
    collector, site = (
        Collector(select_quantities(quantities or ("mean", "std", "nan", "inf"))),
        Site("x", "gradient", "x"),
    )
    collector.add(site, tensor)
    return {m.quantity.name: m.values[0] for m in collector.finish()}, site.group.moments


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e8])
def test_moments_are_those_of_float64(dtype, scale):
    generator = torch.Generator().manual_seed(0)
    tensor = (torch.randn(64, 1000, generator=generator, dtype=torch.float64) + 0.5).mul(scale).to(dtype)
    assert Moments(dtype, tensor.numel()).add(Site("x", "gradient", "x"), tensor)  # or this tests Rows
    found, _ = _measured(tensor)
    exact = tensor.double().numpy()
    assert found["mean"] == pytest.approx(exact.mean(), rel=CLOSE[dtype])
    assert found["std"] == pytest.approx(exact.std(), rel=CLOSE[dtype])
    assert (found["nan"], found["inf"]) == (0, 0)


def _spoilt(kind):
    tensor = torch.randn(64, 1000, generator=torch.Generator().manual_seed(1))
    match kind:
        case "nan":
            tensor[3, 4] = torch.nan
        case "two infinities of unlike sign":
            tensor[3, 4], tensor[5, 6] = torch.inf, -torch.inf
        case "tiny":
            tensor *= 1e-30
        case "huge":
            tensor *= 1e25
        case "steep":
            tensor = tensor * 1e-4 + 1.0
        case "constant":
            tensor.fill_(0.7)
        case "zeros":
            tensor.zero_()
        case "transposed":
            tensor = tensor.T
    return tensor


@pytest.mark.parametrize(
    "kind", ["nan", "two infinities of unlike sign", "tiny", "huge", "steep", "zeros", "transposed"]
)
def test_what_needs_care_gets_it(kind):
    tensor = _spoilt(kind)
    assert not Moments(torch.float32, tensor.numel()).add(Site("x", "gradient", "x"), tensor)
    found, moments = _measured(tensor)
    assert moments is not None  # measured at once, had it been possible
    finite = tensor.double().numpy()[np.isfinite(tensor.numpy())]
    assert found["mean"] == pytest.approx(finite.mean(), rel=1e-5, abs=1e-7 * np.abs(finite).max())
    assert found["std"] == pytest.approx(finite.std(), rel=1e-3 if kind == "steep" else 1e-5)  # 1 + 1e-4 z has 3 digits
    assert found["nan"] == np.isnan(tensor.numpy()).sum()
    assert found["inf"] == np.isinf(tensor.numpy()).sum()


def test_a_quantity_of_ones_own_is_never_left_out():
    ours = Quantity("mean", "", lambda rows: rows.mean + 1.0)
    found, moments = _measured(torch.zeros(64, 1000), ours, "std")
    assert moments is None
    assert found["mean"] == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_small_tensors_are_measured_alike(dtype):
    generator = torch.Generator().manual_seed(2)
    block = (torch.randn(5, 300, generator=generator, dtype=torch.float64) * 3 + 1).to(dtype)
    moments, sites = Moments(dtype, 300), tuple(Site(str(row), "gradient", "x") for row in range(5))
    assert moments.add_rows(sites, block)
    found, numbers = moments.drain()
    assert found == sites
    np.testing.assert_allclose(numbers["mean"], block.double().numpy().mean(1), rtol=CLOSE[dtype])
    np.testing.assert_allclose(numbers["std"], block.double().numpy().std(1), rtol=CLOSE[dtype])


def test_rows_of_a_large_mean_are_centred_first():
    generator = torch.Generator().manual_seed(5)
    block = 0.12 + 0.002 * torch.randn(4, 5000, generator=generator)  # gates that hardly move
    moments = Moments(torch.float32, 5000)
    assert moments.add_rows(tuple(Site(str(row), "output", "x") for row in range(4)), block)
    # The numbers of the block are themselves rounded to 0.12 * 6e-8, 4e-6 of their spread, but not on average.
    np.testing.assert_allclose(moments.drain()[1]["std"], block.double().numpy().std(1), rtol=1e-5)


@pytest.mark.parametrize("kind", ["nan", "two infinities of unlike sign", "tiny", "huge", "constant", "zeros"])
def test_one_row_that_needs_care_sends_back_all(kind):
    block = torch.stack([torch.randn(64, 1000, generator=torch.Generator().manual_seed(3)), _spoilt(kind)]).flatten(1)
    moments = Moments(torch.float32, block.shape[1])
    assert not moments.add_rows((Site("a", "gradient", "x"), Site("b", "gradient", "x")), block)
    assert moments.drain()[0] == ()


@pytest.mark.parametrize("activation", sorted(ENDS))
@pytest.mark.parametrize("width", [0.3, 3.0])  # few or no values at the ends, and many
def test_shares_are_those_that_rows_count(activation, width):
    function = getattr(torch.nn.functional, activation, None) or getattr(torch, activation)
    tensor = function(torch.randn(64, 1000, generator=torch.Generator().manual_seed(4)) * width)
    quantities = list(select_quantities(("mean", "std", "zeros", "saturation_low", "saturation_high")))
    wanted = {q.name for q in quantities if q.activations is None or activation in q.activations}
    found = {}
    for careful in (False, True):
        collector, site = Collector(quantities, careful=careful), Site("x", "output", "x", activation)
        collector.add(site, tensor)
        found[careful] = {m.quantity.name: m.values[0] for m in collector.finish()}
        assert (site.group.moments is None) == careful
    assert set(found[False]) == set(found[True]) == wanted
    for name in wanted - {"mean", "std"}:
        assert found[False][name] == pytest.approx(found[True][name], abs=1e-7)  # counts over 64,000, in float32
    taken = Moments(
        torch.float32, tensor.numel(), activation, sorted(wanted - {"mean", "std"}, key=list(QUANTITIES).index)
    )
    steep = tensor.double().mean() ** 2 > 30 * tensor.double().var()  # sigmoid and softplus of little
    assert taken.add(Site("x", "output", "x", activation), tensor) != steep
