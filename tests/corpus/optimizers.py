"""Optimizers of the corpus; the learning rate is drawn within 25 % of the given one."""

from collections.abc import Callable

import torch
from torch import nn

from tests.corpus.case import Draw

Make = Callable[[Draw, nn.Module], torch.optim.Optimizer]
Part = Callable[[nn.Module], nn.Module]


def _parameters(model: nn.Module, part: Part | None, trainable: bool) -> list[nn.Parameter]:
    found = (part(model) if part else model).parameters()
    return [p for p in found if p.requires_grad or not trainable]


def sgd(lr: float, momentum: float = 0.0, *, part: Part | None = None, trainable: bool = False, **options) -> Make:
    """SGD of all parameters, those of a part, or the `trainable` ones."""

    def make(draw: Draw, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(_parameters(model, part, trainable), draw.near("lr", lr), momentum, **options)

    return make


def adam(lr: float, *, part: Part | None = None, trainable: bool = False, **options) -> Make:
    """Adam of all parameters, those of a part, or the `trainable` ones."""

    def make(draw: Draw, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(_parameters(model, part, trainable), draw.near("lr", lr), **options)

    return make


def other(kind: str, lr: float, **options) -> Make:
    """Any other optimizer of torch.optim, by name."""

    def make(draw: Draw, model: nn.Module) -> torch.optim.Optimizer:
        return getattr(torch.optim, kind)(model.parameters(), lr=draw.near("lr", lr), **options)

    return make
