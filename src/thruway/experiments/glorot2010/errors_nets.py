"""Plain nets of one activation and one depth, trained as one by plain SGD, with the gradients by hand.

A step of such a net is bound by memory: the weights are read for the forward pass, for the backward pass and
for the update. Here the last two products write where they are needed, so that no gradient of a weight ever
exists: W <- W - rate * delta^T z is one call, for all members at once.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway import activations
from thruway.errors import CheckpointError, ConfigError, unknown_name
from thruway.networks.mlp import MLP

__all__ = ["SLOPES", "PlainNets", "error_rates", "layers_of"]

SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda z: z * (1 - z),
    "tanh": lambda z: 1 - z * z,
    "softsign": lambda z: (1 - z.abs()).square(),
}
"""f'(s) from z = f(s)."""

_EVALUATED_AT_ONCE = 500  # examples: more would not fit a cache beside the weights


class PlainNets:
    """`len(models)` plain nets, their losses the mean cross-entropy of a batch, each with a learning rate of its own.

    Members never mix: one that diverges to NaN changes no other.

    Args:
        activation: a key of `SLOPES`.
        models: nets of one shape; their weights are copied.
        rates: one learning rate per net.
    Raises:
        ConfigError: for an activation without a row in `SLOPES`, or another number of rates than of models.
    Source:
        theta <- theta - rate * gradient: Glorot & Bengio 2010, sec. 2.3.

    >>> from thruway.networks import mlp
    >>> nets = PlainNets("tanh", [mlp("plain", 2, 3, 4, 5, activation="tanh") for _ in range(6)], [0.1] * 6)
    >>> nets.step(torch.zeros(6, 10, 4), torch.zeros(6, 10, dtype=torch.long))
    >>> nets.outputs(torch.zeros(7, 4)).shape
    torch.Size([6, 7, 5])
    """

    def __init__(self, activation: str, models: Sequence[MLP], rates: Sequence[float]) -> None:
        if activation not in SLOPES:
            raise ConfigError(unknown_name("activation", activation, SLOPES))
        if not models or len(models) != len(rates):
            raise ConfigError(
                f"nets need one rate each and at least one: got {len(models)} models, {len(rates)} rates."
            )
        self.activation = activations.activation(activation).function
        self.slope = SLOPES[activation]
        layers = [layers_of(model) for model in models]
        # (members, outputs, inputs) and (members, outputs), from the input upwards
        self.weights = [torch.stack([w.detach() for w, _ in each]) for each in zip(*layers, strict=True)]
        self.biases = [torch.stack([b.detach() for _, b in each]) for each in zip(*layers, strict=True)]
        self.rates = torch.tensor(rates, dtype=self.weights[0].dtype, device=self.weights[0].device).view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.rates)

    def hidden(self, inputs: Tensor, layers: int) -> Tensor:
        """What the first `layers` hidden layers make of (members, batch, inputs): (members, batch, width)."""
        z = inputs
        for weight, bias in zip(self.weights[:layers], self.biases[:layers], strict=True):
            z = self.activation(torch.baddbmm(bias.unsqueeze(1), z, weight.mT))
        return z

    def outputs(self, inputs: Tensor) -> Tensor:
        """The logits of every member, (members, examples, classes), for examples all see: (examples, inputs)."""
        parts = []
        for part in torch.split(inputs, _EVALUATED_AT_ONCE):
            z = self.hidden(part.expand(len(self), -1, -1), len(self.weights) - 1)
            parts.append(torch.baddbmm(self.biases[-1].unsqueeze(1), z, self.weights[-1].mT))
        return torch.cat(parts, dim=1)

    def step(self, inputs: Tensor, labels: Tensor) -> None:
        """One update of every member.

        Args:
            inputs: (members, batch, inputs), each member's own batch.
            labels: (members, batch) int64.
        """
        activations_ = [inputs]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            activations_.append(self.activation(torch.baddbmm(bias.unsqueeze(1), activations_[-1], weight.mT)))
        logits = torch.baddbmm(self.biases[-1].unsqueeze(1), activations_[-1], self.weights[-1].mT)
        # d loss / d logits = softmax - one-hot, over the batch; the rate is in it from here down.
        delta = F.softmax(logits, dim=-1)
        delta.scatter_add_(2, labels.unsqueeze(-1), delta.new_full((), -1.0).expand(*labels.shape, 1))
        delta.mul_(self.rates / labels.shape[1])
        for layer in range(len(self.weights) - 1, -1, -1):
            weight, z = self.weights[layer], activations_[layer]
            # With the weight as it was in the forward pass, so before the update.
            below = torch.bmm(delta, weight).mul_(self.slope(z)) if layer > 0 else delta
            weight.baddbmm_(delta.mT, z, alpha=-1)
            self.biases[layer].sub_(delta.sum(dim=1))
            delta = below

    def tensors(self) -> dict[str, Tensor]:
        """All that changes in training; the nets' own memory."""
        kinds = {"weight": self.weights, "bias": self.biases}
        return {f"{kind}/{layer}": t for kind, tensors in kinds.items() for layer, t in enumerate(tensors)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `tensors()` gave.

        Raises:
            CheckpointError: if it is of other nets; nothing is changed then.
        """
        own = self.tensors()
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in tensors.items()}:
            raise CheckpointError("the checkpoint is of other nets. Remove it to train them again.")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def error_rates(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the examples that each member classifies wrongly, (members,) float64; NaN where it has diverged.

    >>> error_rates(torch.tensor([[[2.0, 1.0], [0.0, 3.0]], [[2.0, 1.0], [0.0, float("nan")]]]), torch.tensor([0, 0]))
    tensor([0.5000,    nan], dtype=torch.float64)
    """
    wrong = (logits.argmax(dim=-1) != labels).double().mean(dim=-1)
    return wrong.masked_fill(~torch.isfinite(logits).all(dim=-1).all(dim=-1), float("nan"))


def layers_of(model: MLP) -> list[tuple[Tensor, Tensor]]:
    """(weight, bias) of every layer of a plain net, from the input upwards."""
    layers = (model.stem, *model.blocks.children(), model.head)
    return [(_tensor(layer, "weight"), _tensor(layer, "bias")) for layer in layers]


def _tensor(layer: nn.Module, name: str) -> Tensor:
    tensor: Tensor = layer.get_parameter(name)
    return tensor
