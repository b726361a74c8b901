"""Plain networks of the same shape, trained together by SGD with hand-written gradients.

A step of such networks is memory-bound: the weights are read for the forward pass, for the backward pass and for the
update. Here the product that yields the gradient is subtracted directly from the weight, so that no weight gradient is
stored: W <- W - rate * delta^T z is one call, for all members.
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
"""Derivatives f'(s) as functions of z = f(s)."""

_EVALUATED_AT_ONCE = 500  # examples: more would not fit a cache beside the weights


class PlainNets:
    """`len(models)` plain networks with the mean cross-entropy of a batch as loss, each with its own learning rate.

    Members are independent: if one diverges to NaN, the others are not affected.

    Args:
        activation: a key of `SLOPES`.
        models: networks of the same shape. Their weights are copied.
        rates: one learning rate per network.
    Raises:
        ConfigError: if the activation is not in `SLOPES`, or the numbers of rates and models differ.
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
                "one learning rate per network is required, and at least one network: got "
                f"{len(models)} models, {len(rates)} rates."
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
        """Apply the first `layers` hidden layers to (members, batch, inputs); return (members, batch, width)."""
        z = inputs
        for weight, bias in zip(self.weights[:layers], self.biases[:layers], strict=True):
            z = self.activation(torch.baddbmm(bias.unsqueeze(1), z, weight.mT))
        return z

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return the logits of every member, (members, examples, classes), for the same inputs (examples, inputs)."""
        parts = []
        for part in torch.split(inputs, _EVALUATED_AT_ONCE):
            z = self.hidden(part.expand(len(self), -1, -1), len(self.weights) - 1)
            parts.append(torch.baddbmm(self.biases[-1].unsqueeze(1), z, self.weights[-1].mT))
        return torch.cat(parts, dim=1)

    def step(self, inputs: Tensor, labels: Tensor) -> None:
        """Make one update of every member.

        Args:
            inputs: (members, batch, inputs), each member's own batch.
            labels: (members, batch) int64.
        """
        activations_ = [inputs]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            activations_.append(self.activation(torch.baddbmm(bias.unsqueeze(1), activations_[-1], weight.mT)))
        logits = torch.baddbmm(self.biases[-1].unsqueeze(1), activations_[-1], self.weights[-1].mT)
        # d loss / d logits = (softmax - one-hot) / batch; times the rate from here on.
        delta = F.softmax(logits, dim=-1)
        delta.scatter_add_(2, labels.unsqueeze(-1), delta.new_full((), -1.0).expand(*labels.shape, 1))
        delta.mul_(self.rates / labels.shape[1])
        for layer in range(len(self.weights) - 1, -1, -1):
            weight, z = self.weights[layer], activations_[layer]
            # Uses the weight of the forward pass, so it comes before the update.
            below = torch.bmm(delta, weight).mul_(self.slope(z)) if layer > 0 else delta
            weight.baddbmm_(delta.mT, z, alpha=-1)
            self.biases[layer].sub_(delta.sum(dim=1))
            delta = below

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are changed by training, without copying them."""
        kinds = {"weight": self.weights, "bias": self.biases}
        return {f"{kind}/{layer}": t for kind, tensors in kinds.items() for layer, t in enumerate(tensors)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the result of `tensors()` of networks of the same shape into these networks.

        Raises:
            CheckpointError: if names or shapes differ. In this case nothing is changed.
        """
        own = self.tensors()
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in tensors.items()}:
            raise CheckpointError("the checkpoint belongs to other networks. Remove it to train them again.")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def error_rates(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of examples that each member classifies wrongly, (members,) float64; NaN if it has diverged.

    >>> error_rates(torch.tensor([[[2.0, 1.0], [0.0, 3.0]], [[2.0, 1.0], [0.0, float("nan")]]]), torch.tensor([0, 0]))
    tensor([0.5000,    nan], dtype=torch.float64)
    """
    wrong = (logits.argmax(dim=-1) != labels).double().mean(dim=-1)
    return wrong.masked_fill(~torch.isfinite(logits).all(dim=-1).all(dim=-1), float("nan"))


def layers_of(model: MLP) -> list[tuple[Tensor, Tensor]]:
    """Return (weight, bias) of every layer of a plain network, from the input upwards."""
    layers = (model.stem, *model.blocks.children(), model.head)
    return [(_tensor(layer, "weight"), _tensor(layer, "bias")) for layer in layers]


def _tensor(layer: nn.Module, name: str) -> Tensor:
    tensor: Tensor = layer.get_parameter(name)
    return tensor
