"""Warnings for a with block that recorded nothing, and errors for a probe that the model does not accept."""

import pytest
import torch
from torch import nn

import thruway as tw
from thruway.errors import ConfigError
from thruway.watching import WatchWarning


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
