"""What every highway layer of a net does with examples, heard in the pass itself; and its sums over all of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.nn import HighwayStack

__all__ = ["Heard", "Sums", "gate_at", "hear", "stack_of", "sum_over"]


def gate_at(gate_bias: float) -> float:
    """How far a gate is open that gets nothing but its bias.

    >>> gate_at(-2.0), gate_at(-800.0)
    (0.11920292202211755, 0.0)
    """
    return torch.tensor(gate_bias, dtype=torch.float64).sigmoid().item()


class Heard(NamedTuple):
    """One pass, by layer; (layers, batch, width) each, and the logits."""

    inputs: Tensor  # what enters each highway layer
    gates: Tensor  # its transform gate T
    outputs: Tensor  # what it hands on
    logits: Tensor  # (batch, classes)


@dataclass(frozen=True)
class Sums:
    """Of all examples together, in float64.

    Attributes:
        gates: sum of T by class, (classes, layers, width).
        counts: examples by class, (classes,).
        change: sum of ||y - x||^2 by layer, (layers,): how far its output y is from its input x.
        inputs: sum of ||x||^2 by layer, (layers,).
        sparseness: sum over the examples of (mean T)^2 / mean(T^2), means over layers and units.
        wrong: examples of another class than the net says.
    """

    gates: Tensor
    counts: Tensor
    change: Tensor
    inputs: Tensor
    sparseness: float
    wrong: int


def stack_of(model: nn.Module) -> HighwayStack:
    """The one stack of highway layers in a net.

    Raises:
        ConfigError: if there is none, or several.

    >>> from thruway.networks import mlp
    >>> stack_of(mlp("highway", 3, 4, 2, 2, fused=True, generator=torch.Generator())).depth
    2
    """
    found = [module for module in model.modules() if isinstance(module, HighwayStack)]
    if len(found) != 1:
        raise ConfigError(f"the net has {len(found)} HighwayStacks, and one is needed. Build it with fused=True.")
    return found[0]


def hear(model: nn.Module, images: Tensor) -> Heard:
    """Run the net, and hear all its highway layers while it runs.

    Args:
        model: with one HighwayStack.
        images: (batch, ...)
    Raises:
        ConfigError: if the net has not one stack.
    """
    stack, heard = stack_of(model), []
    handles = [
        stack.states.register_forward_hook(lambda _module, _inputs, states: heard.append(states)),
        stack.register_forward_hook(lambda _module, _inputs, output: heard.append(output)),
    ]
    try:
        with torch.no_grad():
            logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    (inputs, _, gates), last = heard
    return Heard(inputs, gates, torch.cat([inputs[1:], last[None]]), logits)


def sum_over(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> Sums:
    """The sums over all batches of (images, labels)."""
    stack = stack_of(model)
    gates = torch.zeros(classes, stack.depth, stack.width, dtype=torch.float64)
    counts = torch.zeros(classes, dtype=torch.float64)
    change, inputs = torch.zeros(2, stack.depth, dtype=torch.float64)
    sparseness, wrong = 0.0, 0
    for images, labels in batches:
        heard = hear(model, images)
        by_example, labels_here = heard.gates.transpose(0, 1).double().cpu(), labels.cpu()
        gates.index_add_(0, labels_here, by_example)
        counts += labels_here.bincount(minlength=classes)
        change += _squares(heard.outputs.double() - heard.inputs.double())
        inputs += _squares(heard.inputs.double())
        flat = by_example.flatten(1)
        sparseness += float((flat.mean(1).square() / flat.square().mean(1)).sum())
        wrong += int((heard.logits.argmax(1) != labels).sum())
    return Sums(gates, counts, change, inputs, sparseness, wrong)


def _squares(by_layer: Tensor) -> Tensor:
    return by_layer.square().flatten(1).sum(1).cpu()
