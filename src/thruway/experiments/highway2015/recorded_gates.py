"""Transform gates of a highway stack, recorded in a forward pass, and their sums over a data set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.nn import HighwayStack

__all__ = ["GateSums", "RecordedPass", "gate_at", "gate_biases", "highway_stack", "record_pass", "sum_gates"]


def gate_at(gate_bias: float) -> float:
    """Return the value of a gate whose pre-activation is its bias.

    >>> gate_at(-2.0), gate_at(-800.0)
    (0.11920292202211755, 0.0)
    """
    return torch.tensor(gate_bias, dtype=torch.float64).sigmoid().item()


def highway_stack(model: nn.Module) -> HighwayStack:
    """Return the only stack of highway layers in a network.

    Raises:
        ConfigError: if there is no stack, or more than one.

    >>> from thruway.networks import mlp
    >>> highway_stack(mlp("highway", 3, 4, 2, 2, fused=True, generator=torch.Generator())).depth
    2
    """
    found = [module for module in model.modules() if isinstance(module, HighwayStack)]
    if len(found) != 1:
        raise ConfigError(f"the network must have one HighwayStack, but has {len(found)}. Build it with fused=True.")
    return found[0]


def gate_biases(model: nn.Module) -> Tensor:
    """Return the biases of the transform gates, (layers, width).

    The result is in float64, so that an unchanged bias equals its initial value.
    """
    stack = highway_stack(model)
    return stack.bias.detach()[:, stack.width :].double().cpu()


class RecordedPass(NamedTuple):
    """Values of a forward pass: inputs, gates and outputs of all highway layers, (layers, batch, width), and logits."""

    inputs: Tensor
    gates: Tensor  # transform gate T
    outputs: Tensor
    logits: Tensor  # (batch, classes)


def record_pass(model: nn.Module, images: Tensor) -> RecordedPass:
    """Run the network and record its highway layers.

    Args:
        model: network with one HighwayStack.
        images: (batch, ...)
    Raises:
        ConfigError: if the network does not have one stack.
    """
    stack, recorded = highway_stack(model), []
    handles = [
        stack.states.register_forward_hook(lambda _module, _inputs, states: recorded.append(states)),
        stack.register_forward_hook(lambda _module, _inputs, output: recorded.append(output)),
    ]
    try:
        with torch.no_grad():
            logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    (inputs, _, gates), last = recorded
    return RecordedPass(inputs, gates, torch.cat([inputs[1:], last[None]]), logits)


@dataclass(frozen=True)
class GateSums:
    """Sums over a data set, in float64.

    Attributes:
        gates: sum of T for each class, (classes, layers, width).
        counts: number of examples of each class, (classes,).
        change: sum of ||y - x||^2 for each layer, (layers,), where x is its input and y its output.
        inputs: sum of ||x||^2 for each layer, (layers,).
        sparseness: sum over the examples of (mean T)^2 / mean(T^2), means over layers and units.
        wrong: number of misclassified examples.
    """

    gates: Tensor
    counts: Tensor
    change: Tensor
    inputs: Tensor
    sparseness: float
    wrong: int

    @property
    def mean_gates(self) -> Tensor:
        """The mean of T over all examples, (layers, width)."""
        return self.gates.sum(0) / self.counts.sum()

    def class_differences(self, classes: Sequence[int]) -> Tensor:
        """Return the mean of T over each class minus the mean over all examples, (classes, layers, width)."""
        chosen = list(classes)
        return self.gates[chosen] / self.counts[chosen, None, None] - self.mean_gates


def sum_gates(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> GateSums:
    """Return the sums over all batches of (images, labels)."""
    stack = highway_stack(model)
    gates = torch.zeros(classes, stack.depth, stack.width, dtype=torch.float64)
    counts = torch.zeros(classes, dtype=torch.float64)
    change, inputs = torch.zeros(2, stack.depth, dtype=torch.float64)
    sparseness, wrong = 0.0, 0
    for images, labels in batches:
        recorded = record_pass(model, images)
        by_example, labels_here = recorded.gates.transpose(0, 1).double().cpu(), labels.cpu()
        gates.index_add_(0, labels_here, by_example)
        counts += labels_here.bincount(minlength=classes)
        change += _squares(recorded.outputs.double() - recorded.inputs.double())
        inputs += _squares(recorded.inputs.double())
        flat = by_example.flatten(1)
        sparseness += float((flat.mean(1).square() / flat.square().mean(1)).sum())
        wrong += int((recorded.logits.argmax(1) != labels).sum())
    return GateSums(gates, counts, change, inputs, sparseness, wrong)


def _squares(by_layer: Tensor) -> Tensor:
    return by_layer.square().flatten(1).sum(1).cpu()
