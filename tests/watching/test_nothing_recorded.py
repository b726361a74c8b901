"""Warnings for a with block that recorded nothing, and errors for a probe that the model does not accept."""

from typing import Any

import pytest
import torch
from torch import nn

import thruway as tw
from thruway.errors import ConfigError
from thruway.watching import Trace, WatchWarning


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


def train(model: nn.Module, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(3, 4)).sum().backward()
        optimizer.step()


def test_a_schedule_that_selects_no_step_is_a_warning():
    model = net()
    message = r"nothing was recorded: every= selected none of the 3 steps from 7 on\."
    with pytest.warns(WatchWarning, match=message), tw.watch(model, every=lambda step: step < 7, first_step=7):
        train(model)


class Ragged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def test_ragged_tensors_are_not_measured():
    model = Ragged()
    ragged = torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(3, 4)], layout=torch.jagged)
    message = "nothing was recorded: no layer of Ragged returned a dense"
    with pytest.warns(WatchWarning, match=message), tw.watch(model) as trace:
        model(ragged).values().sum().backward()
    assert trace.steps == []


@pytest.mark.parametrize(
    ("probe", "of_torch"),
    [
        (torch.randn(3, 7), "RuntimeError: mat1 and mat2"),
        ("a word", "TypeError"),
        ({"y": torch.ones(3, 4)}, "TypeError"),
    ],
    ids=["another width", "no tensor", "another keyword"],
)
def test_a_probe_that_the_model_does_not_accept(probe, of_torch):
    model = net()
    message = rf"Sequential cannot be called with the probe \({of_torch}.*Pass the model's input as probe="
    with pytest.warns(WatchWarning, match=message), tw.watch(model, probe=probe) as trace:
        train(model)
    assert isinstance(trace.failure, ConfigError)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: {"input": x}], ids=["tensor", "tuple", "dict"])
def test_a_probe_without_examples_is_refused_at_once(wrap):
    with pytest.raises(ConfigError, match=r"an empty tensor, of shape \(0, 4\)"):
        tw.watch(net(), probe=wrap(torch.empty(0, 4)))


def test_the_text_of_a_trace_of_the_probe_only():
    model = net()
    with tw.watch(model, quantities=["jacobian"], probe=torch.randn(3, 4)) as trace:
        train(model)
    assert repr(trace).startswith("Probe only: Trace of Sequential: ")
    assert "nothing recorded" not in repr(trace)


class Bare(nn.Module):
    """A model without modules of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ self.weight)


def forward_only(model: nn.Module, *, steps: bool = True, **options: Any) -> Trace:
    """Two steps whose forward pass is a call of model.forward."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    if options.pop("with_optimizer", False):
        options["optimizer"] = optimizer
    with tw.watch(model, **options) as trace:
        for _ in range(2):
            model.forward(torch.randn(3, 4)).sum().backward()
            if steps:
                optimizer.step()
    return trace


@pytest.mark.parametrize("steps", [True, False], ids=["with steps", "gradients only"])
def test_a_direct_call_of_forward_is_named(steps):
    message = r"parameters of Sequential were trained, but it was not called.*call model\(x\) instead of model.forward"
    with pytest.warns(WatchWarning, match=message):
        trace = forward_only(net(), steps=steps)
    assert trace.steps == []


def test_a_direct_call_of_forward_is_named_if_only_parameters_are_recorded():
    message = "no outputs were recorded: Bare was trained, but none of its modules was called.*instead of model.forward"
    with pytest.warns(WatchWarning, match=message):
        trace = forward_only(Bare(), with_optimizer=True)
    assert trace.series("mean", "parameter").names == ["weight"]


def test_a_direct_call_of_forward_is_no_reason_for_a_warning_if_the_layers_are_called():
    trace = forward_only(net(), with_optimizer=True)
    assert trace.series("mean").names == ["0", "1", "2"]


def test_a_model_that_was_neither_called_nor_trained_is_not_said_to_be():
    with pytest.warns(WatchWarning, match="it was not called with gradients enabled"), tw.watch(net()):
        pass
