"""Snapshot of a training run: the tensors of model and optimizer at one step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thruway.diagnosing.prescribing.setup import Setup

__all__ = ["Snapshot", "load", "take"]


@dataclass(frozen=True)
class Snapshot:
    """Tensors at one step.

    Attributes:
        tensors: parameters and buffers by name.
        states: state of the optimizer by parameter; "gradient" is a gradient that the loop does not zero.
    """

    tensors: dict[str, Tensor]
    states: dict[str, dict[str, Tensor]]


def take(setup: Setup) -> Snapshot:
    """Return a copy of the training state of a setup."""
    named = dict(setup.model.named_parameters())
    states: dict[str, dict[str, Tensor]] = {}
    for name, parameter in named.items():
        own = setup.optimizer.state.get(parameter, {})
        states[name] = {key: value.clone() for key, value in own.items() if isinstance(value, Tensor)}
        if not setup.zero_grad and parameter.grad is not None:
            states[name]["gradient"] = parameter.grad.clone()
    tensors = {**named, **dict(setup.model.named_buffers())}
    return Snapshot({name: t.detach().clone() for name, t in tensors.items()}, states)


def load(setup: Setup, snapshot: Snapshot) -> None:
    """Write the tensors of a snapshot into a setup of the same architecture."""
    named = dict(setup.model.named_parameters())
    with torch.no_grad():
        for name, tensor in {**named, **dict(setup.model.named_buffers())}.items():
            tensor.copy_(snapshot.tensors[name])
    setup.optimizer.state.clear()
    for name, parameter in named.items():
        state = {key: value.clone() for key, value in snapshot.states.get(name, {}).items()}
        parameter.grad = state.pop("gradient", None)
        if state:
            setup.optimizer.state[parameter] = state
