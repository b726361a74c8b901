"""What the tests of watching share: a number that tells any two tensors apart, and its readers."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from thruway.watching import Quantity, Trace, watch


def _fingerprint_of(rows: Tensor) -> Tensor:
    """(k, n) -> (k,): every element counts, with a weight of its own."""
    places = torch.arange(1, rows.shape[1] + 1, dtype=torch.float64)
    return rows.double() @ torch.cos(places * places)


FINGERPRINT = Quantity("fingerprint", "", lambda rows: _fingerprint_of(rows.values.reshape(len(rows.values), -1)))


@pytest.fixture
def fingerprint() -> Quantity:
    """A quantity that a permuted, transposed or exchanged tensor changes."""
    return FINGERPRINT


@pytest.fixture
def fingerprint_of() -> Callable[[Tensor], float]:
    """The same number for one tensor."""
    return lambda tensor: float(_fingerprint_of(tensor.detach().reshape(1, -1)))


@pytest.fixture
def at_step() -> Callable[[Trace, str, str, int], dict[str, float]]:
    """(trace, quantity, kind, index of the step) -> the number of every site."""

    def read(trace: Trace, quantity: str, kind: str, index: int = 0) -> dict[str, float]:
        series = trace.series(quantity, kind)  # type: ignore[arg-type]
        return dict(zip(series.names, series.values[:, index].tolist(), strict=True))

    return read


Reference = Callable[..., tuple[dict[str, Tensor], Tensor]]


@pytest.fixture
def assert_heard_right() -> Callable[..., Trace]:
    """Watch one pass of a float64 model and compare every site with a reference written out of place."""

    def check(
        model: nn.Module, inputs: tuple[Tensor, ...], reference: Reference, output: Callable[..., Tensor]
    ) -> Trace:
        model.double()
        with watch(model, quantities=[FINGERPRINT, "mean", "std"]) as trace:
            for _ in range(4):  # the first pass learns, the last ones run the quick way
                output(model(*inputs)).sin().sum().backward()
                model.zero_grad()
        sites, end = reference(model, *inputs)
        wanted = {name: float(_fingerprint_of(t.detach().reshape(1, -1))) for name, t in sites.items()}
        learning = {name: tensor for name, tensor in sites.items() if tensor.requires_grad}
        gradients = torch.autograd.grad(end.sin().sum(), list(learning.values()), allow_unused=True)
        slopes: Mapping[str, Tensor | None] = dict(zip(learning, gradients, strict=True))
        wanted_slopes = {n: float(_fingerprint_of(g.reshape(1, -1))) for n, g in slopes.items() if g is not None}
        for kind, expected in (("output", wanted), ("gradient", wanted_slopes)):
            series = trace.series("fingerprint", kind)  # type: ignore[arg-type]
            assert series.names == list(expected)
            for column in range(4):
                found = dict(zip(series.names, series.values[:, column].tolist(), strict=True))
                # float64 sums of some hundred terms of size 1, in another order
                assert found == pytest.approx(expected, rel=1e-9, abs=1e-11), f"{kind}s of pass {column}"
        return trace

    return check
