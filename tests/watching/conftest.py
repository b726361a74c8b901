"""Fixtures of the watching tests: a number that differs between any two tensors, and reference models in float64."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
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
def assert_captured_right() -> Callable[..., Trace]:
    """Watch one pass of a float64 model and compare every site with a reference written out of place."""

    def check(
        model: nn.Module, inputs: tuple[Tensor, ...], reference: Reference, output: Callable[..., Tensor]
    ) -> Trace:
        model.double()
        with watch(model, quantities=[FINGERPRINT, "mean", "std"]) as trace:
            for _ in range(4):  # the first pass uses full hooks, the last ones replayed hooks
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


# Of float32 sums of up to a thousand numbers, and of what float32 does to the layers before.
RTOL, ATOL = 2e-4, 2e-6


@dataclasses.dataclass
class Step:
    """A copy of the model at a call, and the arguments of the call."""

    model: nn.Module
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[Step]]:
    """A copy of the model in float64 for every training step."""
    steps: list[Step] = []

    def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if torch.is_grad_enabled():
            twin = copy.deepcopy(module)
            for part in twin.modules():
                part._forward_pre_hooks.clear()
                part._forward_hooks.clear()
            steps.append(Step(twin.double(), _wide(arguments), _wide(keywords)))

    handle = model.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)
    try:
        yield steps
    finally:
        handle.remove()


def _wide(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone().double() if value.is_floating_point() else value.clone()
    if isinstance(value, (tuple, list)):
        return type(value)(_wide(item) for item in value)
    return {key: _wide(item) for key, item in value.items()} if isinstance(value, dict) else value


def _assert_as_in_float64(
    trace: Trace, steps: list[Step], sites: dict[str, str], loss_of: Callable[[Any], Tensor]
) -> None:
    """Means and spreads of outputs and gradients at `sites` (name of the site -> module), step by step.

    The copy has a plain forward hook on each module and takes the gradients from torch.autograd.grad.
    """
    assert trace.failure is None
    assert trace.steps == list(range(len(steps)))
    for at, step in enumerate(steps):
        captured: dict[str, Tensor] = {}
        for name, path in sites.items():
            hook = _storing(captured, name)
            step.model.get_submodule(path).register_forward_hook(hook)
        loss = loss_of(step.model(*step.arguments, **step.keywords))
        gradients = torch.autograd.grad(loss, list(captured.values()))
        for kind, tensors in (("output", list(captured.values())), ("gradient", list(gradients))):
            for quantity, measure in (("mean", Tensor.mean), ("std", lambda t: t.std(correction=0))):
                series = trace.series(quantity, kind)  # type: ignore[arg-type]
                found = [series.values[series.names.index(name), at] for name in captured]
                wanted = [measure(t.detach()).item() for t in tensors]
                scale = max(t.detach().abs().max().item() for t in tensors)
                what = f"{quantity} of {kind}s at step {at}"
                np.testing.assert_allclose(found, wanted, RTOL, ATOL * scale, err_msg=what)


def _storing(captured: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        captured[name] = output[0] if isinstance(output, tuple) else output

    return hook


@pytest.fixture
def recorded() -> Callable[[nn.Module], AbstractContextManager[list[Step]]]:
    """`with recorded(model) as steps:` round a training loop."""
    return _recorded


@pytest.fixture
def assert_as_in_float64() -> Callable[..., None]:
    """(trace, steps, sites, loss_of): compare the trace with the float64 copies."""
    return _assert_as_in_float64
