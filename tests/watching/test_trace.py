"""Reading of a trace: as text, as series, as a table."""

import math
import mmap
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import thruway as tw
from thruway.errors import ConfigError
from thruway.watching import DEFAULT, QUANTITIES, Quantity, Site, Trace, WatchWarning, watch
from thruway.watching.quantities.collector import Measured
from thruway.watching.sites import Registry
from thruway.watching.trace.derived import DERIVED, Derivation, DerivedQuantity
from thruway.watching.trace.series import empty_array
from thruway.watching.trace.steps import Layout

SOMETIMES = Quantity("sometimes", "", lambda rows: rows.mean, ("output",), stride=3)


def trained(steps: int, **options: object) -> Trace:
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Sigmoid())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(generator=generator)
    with watch(net, **options) as trace:  # type: ignore[arg-type]
        for _ in range(steps):
            net(torch.randn(5, 3, generator=generator) * 9).sum().backward()
    return trace


# --- in words


def test_a_trace_says_in_three_lines_how_things_stand() -> None:
    trace = trained(4, every=2)
    *findings, head, saturated, gradient = repr(trace).splitlines()
    assert [line.partition(" since step ")[0] for line in findings[:-1]] == [found.rule for found in tw.diagnose(trace)]
    assert head == "Trace of Sequential: 2 steps (0 to 2), 4 outputs, 4 gradients; all finite"
    total = trace.series("saturation")
    most = total.values[:, -1].argmax()
    assert saturated == f"  most saturated: {total.names[most]} ({total.sites[most].activation}), " + (
        f"{total.values[most, -1]:.0%} of its values"
    )
    mean, std = (trace.series(each, "gradient").values[[1, 3], -1] for each in ("mean", "std"))
    assert std[1] == 0, "the gradient of a sum is 1 everywhere, and yet not nothing"
    first, last = np.sqrt(mean**2 + std**2)
    assert gradient == f"  gradient rms: {first:.2g} at 1, {last:.2g} at 3; first / last = {first / last:.2g}"


def test_the_text_of_an_empty_trace() -> None:
    assert repr(Trace("Net", Registry(), None, 0)) == "Trace of Net: nothing recorded yet"


def test_the_first_bad_value_comes_before_all_else() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2), nn.Tanh())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.9)
    with watch(net) as trace:
        for x in (torch.ones(3, 2), torch.zeros(3, 2), torch.full((3, 2), math.nan)):
            net(x).sum().backward()
    *findings, head, saturated, gradient = repr(trace).splitlines()
    assert findings[0].startswith("nan_or_inf since step 2: ")
    assert head.endswith("; first bad value at step 2 in the model's input: 6 NaN")
    # Of the last step there is only the gradient of the sum, which is 1: what is shown is of the step before.
    slope = 1 - math.tanh(0.9 + 2 * 0.9 * math.tanh(0.9)) ** 2
    assert gradient == f"  gradient rms: {2 * 0.9 * slope:.2g} at 1, 1 at 3; first / last = {2 * 0.9 * slope:.2g}"
    assert saturated == "  most saturated: 3 (tanh), 100% of its values"


def test_gates_are_not_called_saturated() -> None:
    registry = Registry()
    gate = registry.add(Site("gate", "output", "sigmoid", "sigmoid", is_gate=True))
    less, unit = (registry.add(Site(name, "output", "sigmoid", "sigmoid")) for name in ("less", "unit"))
    trace = Trace("Net", registry, None, 1 << 20)
    trace.add(0, [Measured(QUANTITIES["saturation_low"], (gate, less, unit), 1, np.array([1.0, 0.125, 0.25]))])
    assert repr(trace).splitlines()[1:] == ["  most saturated: unit (sigmoid), 25% of its values"]


def test_the_text_shows_an_early_end_and_dropped_steps() -> None:
    def fails(rows: object) -> Tensor:
        if calls.append(1) or len(calls) > 8:
            raise ValueError("no more")
        return torch.zeros(1)

    calls: list[int] = []
    net = nn.Linear(1, 1)

    def train() -> Trace:
        with watch(net, quantities=[Quantity("fails", "", fails, ("output",))], memory=32) as trace:
            for _ in range(10):
                net(torch.ones(1, 1)).sum().backward()
        return trace

    with pytest.warns(WatchWarning, match="no more"):
        trace = train()
    assert repr(trace).splitlines()[1:] == [
        "  every 2nd sampled step is kept, to save memory",
        "  watching stopped early: ValueError: no more",
    ]
    assert "NaN and infinity not counted" in repr(trace)


# --- numbers


def test_a_series_has_the_steps_at_which_it_was_taken() -> None:
    trace = trained(7, quantities=["mean", SOMETIMES], first_step=10)
    assert trace.series("mean").steps.tolist() == trace.steps == list(range(10, 17))
    seldom = trace.series("sometimes")
    assert seldom.steps.tolist() == [10, 13, 16]
    # Single precision, summed in another order: the table's mean is computed separately.
    np.testing.assert_allclose(seldom.values, trace.series("mean").values[:, ::3], rtol=5e-6)


def test_the_latest_of_a_series_are_its_last_columns() -> None:
    trace = trained(7, quantities=["mean", SOMETIMES])
    for name in ("mean", "sometimes"):
        whole = trace.series(name)
        for last in (1, 2, 99):
            part = trace.series(name, last=last)
            assert part.steps.tolist() == whole.steps.tolist()[-last:]
            np.testing.assert_array_equal(part.values, whole.values[:, -last:])


@pytest.mark.parametrize("last", [0, -1, 1.5, True, "1"])
def test_the_number_of_latest_steps_is_checked(last: Any) -> None:
    with pytest.raises(ConfigError, match="last must be an integer of at least 1"):
        trained(3).series("mean", last=last)


def test_steps_without_sites_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    site = registry.add(Site("a", "output", "Linear"))

    def derive(layout: Layout, registry: Registry) -> Derivation:
        places = layout.positions("output", "mean")
        sites = tuple(registry.sites["output", name] for name in places)
        return Derivation("double", "output", sites, lambda numbers: 2 * numbers[list(places.values())])

    monkeypatch.setitem(DERIVED, "double", DerivedQuantity(derive, ("mean",), "output", "outputs"))
    trace = Trace("Net", registry, None, 1 << 20)
    for step, name in enumerate(["mean", "std", "mean", "std"]):
        trace.add(step, [Measured(QUANTITIES[name], (site,), 1, np.array([float(step)]))])
    assert trace.series("double").steps.tolist() == [0, 2]
    assert trace.series("double", last=1).steps.tolist() == [2]


def test_large_arrays_do_not_need_all_pages_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*args: object, **options: object) -> None:
        raise OSError("Cannot allocate memory")

    assert empty_array(2**10, 2**10).shape == (2**10, 2**10)
    monkeypatch.setattr(mmap, "mmap", no_memory)
    assert empty_array(2**10, 2**10).shape == (2**10, 2**10)


def test_sites_that_come_and_go_have_gaps() -> None:
    registry = Registry()
    a, b = (registry.add(Site(name, "output", "Linear")) for name in "ab")
    trace = Trace("Net", registry, None, 1 << 20)
    for step, sites in enumerate([(a,), (b, a), (b,)]):
        trace.add(step, [Measured(QUANTITIES["mean"], sites, 1, np.array([10.0 * step + s.order for s in sites]))])
    series = trace.series("mean")
    assert series.names == ["a", "b"]
    np.testing.assert_array_equal(series.values, [[0, 10, np.nan], [np.nan, 11, 21]])


def test_the_table_has_every_number_once() -> None:
    trace = trained(3)
    table = trace.table()
    for kind in ("output", "gradient"):
        for name in trace.quantities(kind):  # type: ignore[arg-type]
            series = trace.series(name, kind)  # type: ignore[arg-type]
            rows = table.where(kind=kind, quantity=name)
            assert len(rows) == series.values.size
            for site, step, value in zip(rows["site"], rows["step"], rows["value"], strict=True):
                assert value == series.values[series.names.index(site), series.steps.tolist().index(step)]
    keys = list(zip(*(table[column] for column in ("step", "kind", "site", "quantity")), strict=True))
    assert len(set(keys)) == len(keys)


def test_a_quantity_of_the_users_own_stands_before_a_derived_one() -> None:
    own = Quantity("saturation", "", lambda rows: rows.mean * 0 + 7, ("output",))
    trace = trained(2, quantities=[*DEFAULT, own])
    assert (trace.series("saturation").values == 7).all()
    assert set(trace.table().where(quantity="saturation")["value"].tolist()) == {7.0}


def test_what_is_many_numbers_is_listed_apart() -> None:
    trace = trained(2, quantities=["mean", "histogram"])
    assert (trace.quantities(), trace.array_quantities()) == (["mean"], ["histogram"])
    with pytest.raises(ConfigError, match=r"read it with trace.arrays\('histogram'\)"):
        trace.series("histogram")


def test_a_run_gets_the_numbers_of_the_table() -> None:
    written: list[tuple[int, str, str, float]] = []

    class Log:
        def log_sites(self, step: int, quantity: str, sites: list[str], values: np.ndarray) -> None:
            written.extend((step, quantity, site, float(value)) for site, value in zip(sites, values, strict=True))

    rows = trained(3, run=Log()).table().rows()
    assert written == [(row["step"], f"{row['kind']}.{row['quantity']}", row["site"], row["value"]) for row in rows]
