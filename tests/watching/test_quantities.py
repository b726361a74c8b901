"""Every quantity of the table, measured by the collector, against a NumPy reference in float64."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from thruway.errors import ConfigError
from thruway.watching.arguments import select_quantities
from thruway.watching.quantities.collector import Collector
from thruway.watching.quantities.distributions import BINS
from thruway.watching.quantities.saturation import ENDS
from thruway.watching.quantities.table import DEFAULT, QUANTITIES, Quantity
from thruway.watching.quantities.units import LastActive
from thruway.watching.sites import Site

Numbers = NDArray[np.float64]
OF_TENSORS = {name: row for name, row in QUANTITIES.items() if row.of_model is None}


# --- the twins: all values of one tensor in float64, which may not be finite, and the site


def by_unit(values: Numbers, site: Site) -> Numbers:
    """(inputs, units)"""
    if values.ndim == 0:
        return values.reshape(1, 1)
    units_last = np.moveaxis(values, site.unit_dim, -1)
    return units_last.reshape(-1, units_last.shape[-1])


def of_finite(compute: Callable[[Numbers], Any]) -> Callable[[Numbers, Site], Any]:
    def twin(values: Numbers, _site: Site) -> Any:
        finite = values[np.isfinite(values)]
        return compute(finite) if finite.size else math.nan

    return twin


def share_beyond(end: str) -> Callable[[Numbers, Site], float]:
    def twin(values: Numbers, site: Site) -> float:
        limit, finite = getattr(ENDS[str(site.activation)], end), values[np.isfinite(values)]
        if not finite.size:
            return math.nan
        limit = float(np.float32(limit))  # the tensors hold single precision or coarser
        return float((finite <= limit).mean() if end == "low" else (finite >= limit).mean())

    return twin


def input_dependence(values: Numbers, site: Site) -> float:
    if values.ndim < 2:
        return math.nan
    spreads = [unit[np.isfinite(unit)].std() for unit in by_unit(values, site).T if np.isfinite(unit).any()]
    return float(np.mean(spreads)) if spreads else math.nan


def input_correlation(values: Numbers, _site: Site) -> float:
    if values.ndim < 2 or len(values) < 2 or not np.isfinite(values).all() or not values.any():
        return math.nan
    values = values / np.abs(values).max()
    return float((values.mean(0) ** 2).sum() / (values**2).sum() * len(values))


def position_correlation(values: Numbers, site: Site) -> float:
    positions = [d for d in range(values.ndim) if d != site.unit_dim % values.ndim][1]
    if values.shape[positions] < 2 or not np.isfinite(values).all() or not values.any():
        return math.nan
    values = values / np.abs(values).max()
    return float((values.mean(positions) ** 2).mean() / (values**2).mean())


def dead_units(values: Numbers, site: Site) -> float:
    return float(np.mean([not unit.any() for unit in by_unit(values, site).T]))


def effective_rank(values: Numbers, site: Site) -> float:
    matrix = by_unit(values, site)
    matrix = matrix[np.isfinite(matrix).all(1)]
    if not matrix.size:
        return math.nan
    if not matrix.any():
        return 0.0
    sigma = np.linalg.svd(matrix / np.abs(matrix).max(), compute_uv=False)
    share = sigma[sigma > 0] / sigma.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def histogram(values: Numbers, _site: Site) -> Numbers:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.r_[math.nan, math.nan, np.zeros(BINS)]
    low, high = finite.min(), finite.max()
    return np.r_[low, high, np.histogram(finite, BINS, (low, high) if low < high else None)[0]]


def norm(values: Numbers) -> float:
    size = np.abs(values).max()
    return float(np.linalg.norm(values / size) * size) if size else 0.0


TWINS: dict[str, Callable[[Numbers, Site], Any]] = {
    "mean": of_finite(np.mean),
    "std": of_finite(lambda values: norm(values - values.mean()) / math.sqrt(values.size)),
    "abs_max": of_finite(lambda values: np.abs(values).max()),
    "zeros": of_finite(lambda values: (values == 0).mean()),
    "zero_share": of_finite(lambda values: (values == 0).mean()),
    "saturation_low": share_beyond("low"),
    "saturation_high": share_beyond("high"),
    "nan": lambda values, _: np.isnan(values).sum(),
    "inf": lambda values, _: np.isinf(values).sum(),
    "count": lambda values, _: np.isfinite(values).sum(),
    "norm": of_finite(norm),
    "input_dependence": input_dependence,
    "input_correlation": input_correlation,
    "position_correlation": position_correlation,
    "rms": of_finite(lambda values: norm(values) / math.sqrt(values.size)),
    "p2": of_finite(lambda values: np.percentile(values, 2)),
    "p50": of_finite(lambda values: np.percentile(values, 50)),
    "p98": of_finite(lambda values: np.percentile(values, 98)),
    "dead_units": dead_units,
    "effective_rank": effective_rank,
    "histogram": histogram,
}


# --- the tensors


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


TENSORS: dict[str, Callable[[], tuple[Tensor, int]]] = {
    "batch": lambda: (random(9, 7), -1),
    "one example": lambda: (random(1, 7), -1),
    "one number": lambda: (random(1), -1),
    "no dimension": lambda: (random(), -1),
    "no batch": lambda: (random(7), -1),
    "sequence": lambda: (random(3, 5, 4), -1),
    "sequence of channels": lambda: (random(3, 5, 4), 1),
    "image": lambda: (random(2, 3, 4, 5), 1),
    "weight": lambda: (random(6, 4), 0),
    "transposed": lambda: (random(7, 9).T, -1),
    "strided": lambda: (random(18, 21)[::2, ::3], -1),
    "expanded": lambda: (random(1, 7).expand(9, 7), -1),
    "channels last": lambda: (random(2, 3, 4, 5).to(memory_format=torch.channels_last), 1),
    "constant": lambda: (torch.full((9, 7), 0.3, dtype=torch.float64), -1),
    "zeros": lambda: (torch.zeros(9, 7, dtype=torch.float64), -1),
}
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "relu": torch.relu,
    "sigmoid": lambda x: torch.sigmoid(4 * x),
    "tanh": lambda x: torch.tanh(2 * x),
}


def measured(site: Site, tensors: list[Tensor], *, careful: bool = False) -> list[dict[str, Any]]:
    """The numbers of every tensor by quantity, each tensor at a site of its own like `site`."""
    collector = Collector(select_quantities(OF_TENSORS.values()), LastActive(), careful=careful)
    sites = [Site(f"{site.name}{i}", site.kind, "", site.activation, site.unit_dim) for i in range(len(tensors))]
    for one, tensor in zip(sites, tensors, strict=True):
        collector.add(one, tensor)
    found: dict[Site, dict[str, Any]] = {one: {} for one in sites}
    for result in collector.finish():
        for one, value in zip(result.sites, result.values, strict=True):
            found[one][result.quantity.name] = value
    return list(found.values())


def assert_as_its_twin(name: str, number: Any, values: Numbers, site: Site) -> None:
    """The collector measures in single precision, or in double for doubles: 24 bits and a few roundings. A std is
    resolved to what the rounding of the values' own size amounts to; a rank to the singular values of 1e-8 that
    float64 squares lose (30 of them, each with an entropy of 1e-8·18)."""
    twin = TWINS[name](values, site)
    size = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    if name == "histogram":
        # A value within rounding of an edge may fall on either side of it.
        low, high = twin[0], twin[1]
        finite = values[np.isfinite(values)]
        position = (finite / 2 - low / 2) / (high / 2 - low / 2) * BINS if low < high else np.full(1, 0.5)
        unsure = (np.abs(position - np.round(position)) < 1e-9).sum()
        np.testing.assert_allclose(number[:2], twin[:2], rtol=1e-7)
        assert np.abs(number[2:] - twin[2:]).sum() <= 2 * unsure
        assert number[2:].sum() == finite.size
    else:
        is_of_size = name not in (
            "zeros",
            "zero_share",
            "nan",
            "inf",
            "saturation_low",
            "saturation_high",
            "input_correlation",
            "position_correlation",
            "dead_units",
        )
        atol = (1e-5 if name == "effective_rank" else 2e-6 * size) if is_of_size else 1e-7
        np.testing.assert_allclose(number, twin, rtol=2e-6, atol=atol + 1e-44, err_msg=name)


def test_every_quantity_has_its_twin():
    assert set(TWINS) == set(OF_TENSORS)
    assert set(QUANTITIES) - set(TWINS) == {"jacobian"}  # which has its own in test_probe_jacobians.py


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tensor", TENSORS)
def test_the_table_agrees_with_numpy(tensor, dtype, careful):
    made, unit_dim = TENSORS[tensor]()
    for kind, names in (("output", ACTIVATIONS), ("gradient", [None]), ("parameter", [None])):
        for activation in names:
            values = ACTIVATIONS[activation](made).to(dtype)
            site = Site("", kind, "", activation, unit_dim)
            for found in measured(site, [values, values], careful=careful):
                expected = {q.name for q in OF_TENSORS.values() if kind in q.kinds}
                expected -= {q.name for q in QUANTITIES.values() if q.activations and activation not in q.activations}
                expected -= {q.name for q in QUANTITIES.values() if q.dims not in (None, values.dim())}
                assert set(found) == expected
                for name, number in found.items():
                    assert_as_its_twin(name, number, values.double().numpy(), site)


@pytest.mark.parametrize("name", ["input_correlation", "position_correlation"])
def test_infinities_of_one_sign_have_no_correlation(name):
    """Those of a mask, in the same places for every input."""
    masked = random(5, 4, 4) + torch.full((4, 4), -math.inf).triu(1)
    (found,) = measured(Site("", "output", ""), [masked])
    assert math.isnan(found[name])


MAGNITUDES = {
    torch.float64: [1e-300, 1e-38, 1e38, 1e300],
    torch.float32: [1e-38, 1e-30, 1e-20, 1e20, 1e30, 3e37],
    torch.bfloat16: [1e-38, 1e-30, 1e30, 3e37],
    torch.float16: [1e-7, 1e4],
}


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize(("dtype", "size"), [(d, s) for d, sizes in MAGNITUDES.items() for s in sizes], ids=str)
def test_no_magnitude_overflows_or_vanishes(dtype, size, careful):
    values = (random(9, 7) * size).to(dtype)
    for kind in ("gradient", "parameter", "output"):
        site = Site("", kind, "")
        (found,) = measured(site, [values], careful=careful)
        for name, number in found.items():
            assert_as_its_twin(name, number, values.double().numpy(), site)
            if name in ("std", "rms", "norm", "abs_max"):
                assert 0 < number < math.inf


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_what_is_not_finite_is_counted_and_left_out(activation, dtype, careful):
    values = ACTIVATIONS[activation](random(9, 7)).to(dtype)
    values[2, 3] = values[8, 3] = math.nan
    values[2, 5], values[4, 0] = math.inf, -math.inf
    hopeless = torch.full_like(values, math.nan)
    for kind in ("output", "gradient", "parameter"):
        site = Site("", kind, "", activation if kind == "output" else None)
        bad, good, none = measured(
            site, [values, ACTIVATIONS[activation](random(9, 7)).to(dtype), hopeless], careful=careful
        )
        assert (bad["nan"], bad["inf"], good["nan"], good["inf"], none["nan"]) == (2, 2, 0, 0, 63)
        for found, tensor in ((bad, values), (none, hopeless)):
            for name, number in found.items():
                assert_as_its_twin(name, number, tensor.double().numpy(), site)


@pytest.mark.parametrize(("shape", "unit_dim", "inputs"), [((8, 5), -1, 0), ((4, 3, 20, 20), 1, (0, 2, 3))])
def test_closed_gates_of_any_size_still_show_their_dependence(shape, unit_dim, inputs):
    gates = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 1e-30
    (found,) = measured(Site("", "output", "", "sigmoid", unit_dim), [gates])
    # 24 bits, a few roundings.
    expected = gates.double().std(inputs, correction=0).mean().item()
    assert found["input_dependence"] == pytest.approx(expected, rel=1e-5, abs=0)


def test_a_gate_without_a_finite_value_does_not_hide_the_others():
    gates = torch.rand(8, 5, generator=torch.Generator().manual_seed(0))
    gates[:, 2] = math.nan
    (found,) = measured(Site("", "output", "", "sigmoid"), [gates])
    expected = gates.double().std(0, correction=0)[[0, 1, 3, 4]].mean().item()
    assert found["input_dependence"] == pytest.approx(expected, rel=1e-5, abs=0)  # single precision


def test_the_default_is_cheap():
    assert set(DEFAULT) <= set(QUANTITIES)
    assert not {"p2", "p50", "p98", "histogram", "effective_rank"} & set(DEFAULT)
    assert QUANTITIES["histogram"].stride == QUANTITIES["effective_rank"].stride == 10


def test_a_row_of_ones_own_is_taken_and_a_name_twice_is_not():
    own = Quantity("range", "", lambda rows: rows.high - rows.low)
    assert select_quantities(["mean", own, "mean"]) == (QUANTITIES["mean"], own)
    with pytest.raises(ConfigError, match=r"two quantities have the name 'range'"):
        select_quantities([own, Quantity("range", "", lambda rows: rows.high)])
    with pytest.raises(ConfigError, match=r"unknown quantity 'p99'; did you mean 'p98'\?"):
        select_quantities(["p99"])
    with pytest.raises(ConfigError, match="quantities is empty"):
        select_quantities([])
