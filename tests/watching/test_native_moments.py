"""The native moments: equal to float64, refused where they would be inaccurate, and optional."""

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from thruway.watching import watch
from thruway.watching.arguments import select_quantities
from thruway.watching.quantities.collector import Collector
from thruway.watching.quantities.moments import Moments
from thruway.watching.quantities.native_moments import NativeMoments, native_functions
from thruway.watching.quantities.saturation import ENDS
from thruway.watching.sites import Site

pytestmark = pytest.mark.skipif(native_functions() is None, reason="no C compiler here")

SHARES = ("zeros", "saturation_low", "saturation_high")
# Sums are exact to 1e-16 a number; what is left is the rounding of the result to float32.
ROUNDING = 1e-7


def _site(name="x"):
    return Site(name, "gradient", name)


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _measured(tensor, activation=None, shares=()):
    moments = NativeMoments(tensor.numel(), activation, shares)
    assert moments.add(_site(), tensor)
    return {name: float(values[0]) for name, values in moments.drain()[1].items()}


# 1 to 100: fewer numbers than lanes, one over, several rounds and a remainder; 9,000: more than one chunk of counts.
@pytest.mark.parametrize("count", [2, 31, 32, 33, 100, 9000])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("shift", [0.0, 1.0, 1e4])
def test_moments_are_those_of_float64_at_any_scale(count, scale, shift):
    tensor = (_random(count) + shift) * scale
    exact = tensor.double().numpy()
    found = _measured(tensor)
    assert found["mean"] == pytest.approx(exact.mean(), rel=ROUNDING, abs=ROUNDING * exact.std())
    # E[x^2] - mean^2 loses (mean/std)^2 times 1e-16, 1e-8 at worst here.
    assert found["std"] == pytest.approx(exact.std(), rel=1e-6 if shift == 1e4 else ROUNDING)


@pytest.mark.parametrize("activation", sorted(ENDS))
@pytest.mark.parametrize("width", [0.3, 3.0])
def test_shares_are_counted_one_by_one(activation, width):
    ends = ENDS[activation]
    tensor = _random(20_001) * width
    for end in (ends.low, ends.high):  # at an end is met, and what is beyond it
        if end is not None:
            tensor[:500] = torch.tensor(end)
    tensor[500:800] = 0.0
    found = _measured(tensor, activation, SHARES)
    values = tensor.tolist()
    low, high = (None if e is None else float(np.float32(e)) for e in (ends.low, ends.high))
    assert found["zeros"] == pytest.approx(sum(v == 0 for v in values) / len(values), rel=ROUNDING)
    for name, end, is_met in (
        ("saturation_low", low, lambda v: v <= low),
        ("saturation_high", high, lambda v: v >= high),
    ):
        share = 0.0 if end is None else sum(map(is_met, values)) / len(values)
        assert found[name] == pytest.approx(share, rel=ROUNDING)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", [0, 31, 32, 99])
def test_non_finite_values_are_refused(bad, where):
    tensor = _random(100)
    tensor[where] = bad
    assert not NativeMoments(100).add(_site(), tensor)


def test_constant_and_empty_tensors_are_refused():
    assert not NativeMoments(100).add(_site(), torch.full((100,), 0.7))
    assert not NativeMoments(0).add(_site(), torch.empty(0))
    assert _measured(torch.zeros(100))["std"] == 0


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.transpose(0, 1),
        lambda x: x[:, :, ::2],
        lambda x: x[:, :1].expand(-1, 5, -1, -1),
        lambda x: x.contiguous(memory_format=torch.channels_last),
    ],
    ids=["transposed", "every other", "expanded", "channels last"],
)
def test_any_layout(layout):
    tensor = layout(_random(4, 6, 8, 3))
    exact = tensor.double().numpy()
    found = _measured(tensor)
    assert found["mean"] == pytest.approx(exact.mean(), rel=ROUNDING, abs=ROUNDING)
    assert found["std"] == pytest.approx(exact.std(), rel=ROUNDING)


def test_rows_may_have_gaps_between_them():
    halves = _random(5, 2, 40)
    moments, sites = NativeMoments(40), tuple(_site(str(i)) for i in range(5))
    assert moments.add_rows(sites, halves[:, 1])
    assert moments.add_rows(sites, halves[:, 0].T.contiguous().T)
    taken, numbers = moments.drain()
    assert taken == sites + sites
    exact = np.concatenate([halves[:, 1], halves[:, 0]]).astype(np.float64)
    np.testing.assert_allclose(numbers["mean"], exact.mean(1), rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(numbers["std"], exact.std(1), rtol=ROUNDING)


def test_add_each_equals_single_adds():
    """Tensors with and without gaps in memory."""
    tensors = [_random(4, 6, 8, 3, seed=seed) for seed in range(40)]
    tensors[3] = _random(3, 8, 6, 4).permute(3, 2, 1, 0)
    tensors[5] = tensors[5].contiguous(memory_format=torch.channels_last)
    tensors[7] = _random(8, 6, 8, 3)[::2]
    sites = [_site(str(index)) for index in range(40)]
    together, alone = NativeMoments(576, "relu", SHARES), NativeMoments(576, "relu", SHARES)
    assert together.add(sites[0], tensors[0])
    assert together.add_each(sites[1:], tensors[1:])
    assert all(map(alone.add, sites, tensors))
    (taken, numbers), (_, expected) = together.drain(), alone.drain()
    assert list(taken) == sites
    assert {name: values.tolist() for name, values in numbers.items()} == {n: v.tolist() for n, v in expected.items()}


@pytest.mark.parametrize("bad", [torch.full((50,), torch.inf), torch._neg_view(_random(50))], ids=["inf", "negated"])
def test_one_refused_tensor_refuses_all(bad):
    moments = NativeMoments(50)
    assert not moments.add_each([_site("a"), _site("b")], [_random(50), bad])
    assert moments.drain()[0] == ()


def test_small_tensors_are_grouped_but_measured_before_a_write():
    """The numbers are those at the time of the add, although most are measured later, after some were overwritten."""
    collector, tensors = Collector(select_quantities(["mean"])), [_random(50, seed=seed) for seed in range(9)]
    exact = [float(tensor.double().mean()) for tensor in tensors]
    for index, tensor in enumerate(tensors):
        collector.add(_site(str(index)), tensor)
        if index % 2:
            collector.about_to_write(tensor)
            tensor.add_(100)
    (measured,) = collector.finish()
    assert {site.name: float(value) for site, value in zip(measured.sites, measured.values, strict=True)} == {
        str(index): pytest.approx(mean, rel=ROUNDING, abs=ROUNDING) for index, mean in enumerate(exact)
    }


def test_one_refused_row_refuses_all():
    rows = _random(3, 50)
    rows[2, 7] = torch.nan
    moments, sites = NativeMoments(50), tuple(_site(str(i)) for i in range(3))
    assert not moments.add_rows(sites, rows)
    assert moments.drain()[0] == ()


def test_the_memory_grows_with_the_number_of_sites():
    moments, rows = NativeMoments(40), _random(100, 40)
    for index in range(100):
        assert moments.add(_site(str(index)), rows[index])
    sites, numbers = moments.drain()
    assert [site.name for site in sites] == [str(i) for i in range(100)]
    np.testing.assert_allclose(numbers["std"], rows.double().numpy().std(1), rtol=ROUNDING)


def test_a_strided_quantity_is_measured_beside_it():
    gate = Site("gate", "output", "gate", "sigmoid")
    collector = Collector(select_quantities(("mean", "input_dependence")))
    tensor = torch.sigmoid(_random(30, 8))
    seen = []
    for _ in range(11):
        collector.add(gate, tensor)
        seen.append({m.quantity.name: m.values[0] for m in collector.finish()})
    assert isinstance(gate.group.moments, NativeMoments)
    assert ["input_dependence" in numbers for numbers in seen] == [True, *[False] * 9, True]
    exact = tensor.double().numpy()
    assert [numbers["mean"] for numbers in seen] == pytest.approx([exact.mean()] * 11, rel=ROUNDING)
    # In float32, with some tens of roundings of 6e-8.
    assert seen[10]["input_dependence"] == pytest.approx(exact.std(0).mean(), rel=1e-5)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda moments: pickle.loads(pickle.dumps(moments))], ids=["copy", "pickle"]
)
def test_a_copy_does_not_write_into_the_original(again):
    moments = NativeMoments(40)
    moments.add(_site(), _random(40))
    twin = again(moments)
    twin.add(_site(), _random(40, seed=1) + 100)
    assert abs(moments.drain()[1]["mean"][0]) < 1 < twin.drain()[1]["mean"][0]


_PROBE = (
    "from thruway.watching.quantities.native_moments import native_functions\nprint(native_functions() is not None)"
)


def _is_available(**environment):
    run = subprocess.run(
        [sys.executable, "-c", _PROBE], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return run.stdout.strip() == "True", run.stderr


@pytest.mark.slow
def test_without_a_compiler_or_a_cache_folder_it_is_unavailable(tmp_path):
    assert _is_available(HOME=str(tmp_path)) == (True, "")
    assert _is_available(HOME=str(tmp_path), THRUWAY_NATIVE="0") == (False, "")
    assert _is_available(HOME=str(tmp_path / "other"), CC="no-such-compiler") == (False, "")
    assert _is_available(HOME=str(tmp_path / "other"), CC="false") == (False, "")  # a compiler that fails
    (tmp_path / "file").touch()
    assert _is_available(HOME=str(tmp_path / "file")) == (False, "")


@pytest.mark.slow
def test_processes_that_start_together_share_one_library(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        assert all(has for has, _ in pool.map(lambda _: _is_available(HOME=str(tmp_path)), range(4)))
    place = tmp_path / ".cache" / "thruway" / "native"
    assert [path.suffix for path in place.iterdir()] == [".so"]


def test_without_it_torch_measures_the_same(monkeypatch):
    monkeypatch.setattr("thruway.watching.quantities.collector.native_functions", lambda: None)
    net, x = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.ReLU()), _random(9, 5)
    with watch(net) as plain:
        net(x).sum().backward()
    groups = {type(site.group.moments) for site in plain.sites if site.group}
    monkeypatch.undo()
    with watch(net) as moments:
        net(x).sum().backward()
    assert groups == {Moments}
    assert {type(site.group.moments) for site in moments.sites if site.group} == {NativeMoments}
    columns = ("kind", "site", "quantity", "value")
    theirs, ours = (
        {row[:3]: row[3] for row in zip(*(t.table()[c] for c in columns), strict=True)} for t in (plain, moments)
    )
    assert theirs.keys() == ours.keys()
    for key, value in theirs.items():  # some tens of roundings of 6e-8
        assert ours[key] == pytest.approx(value, rel=1e-5, abs=1e-7), key
