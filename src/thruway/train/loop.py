"""One net, one loop, in plain sight.

`train` is a generator: it makes a step and hands back what happened, so that whoever calls it decides
what to log, when to stop and when to save, and the loop needs no callbacks.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.errors import ConfigError
from thruway.train.schedules import Schedule, constant

__all__ = ["Step", "train"]

Loss = Callable[[Tensor, Tensor], Tensor]


class Step(NamedTuple):
    """What one step did."""

    step: int  # counted from 0 over the whole training
    epoch: int
    loss: Tensor  # 0-d, before the update, on the device: read it when you need it


def train(
    model: nn.Module,
    epochs: Iterable[Iterable[tuple[Tensor, Tensor]]],
    optimizer: torch.optim.Optimizer,
    *,
    loss: Loss = F.cross_entropy,
    schedule: Schedule | None = None,
    clip: float | None = None,
) -> Iterator[Step]:
    """Train `model`, handing back a Step after each update.

    Args:
        model: any module; put it into training mode yourself.
        epochs: one iterable of (inputs, targets) batches per epoch.
        optimizer: any torch optimiser over the model's parameters.
        loss: (outputs, targets) -> 0-d loss.
        schedule: epoch -> factor on each parameter group's initial learning rate; None keeps it.
        clip: the largest L2 norm that the gradient of all parameters together may have; None does not clip.
    Raises:
        ConfigError: for a clip that is not above 0.

    >>> model = nn.Linear(2, 2)
    >>> batch = (torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    >>> [s.step for s in train(model, [[batch], [batch, batch]], torch.optim.SGD(model.parameters(), lr=0.1))]
    [0, 1, 2]
    """
    if clip is not None and not clip > 0:
        raise ConfigError(f"clip must be above 0 (or None for no clipping), got {clip!r}.")
    factor = schedule or constant()
    started_with = [group["lr"] for group in optimizer.param_groups]
    step = 0
    for epoch, batches in enumerate(epochs):
        for group, lr in zip(optimizer.param_groups, started_with, strict=True):
            group["lr"] = lr * factor(epoch)
        for inputs, targets in batches:
            optimizer.zero_grad(set_to_none=True)
            value = loss(model(inputs), targets)
            value.backward()  # type: ignore[no-untyped-call]
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            yield Step(step, epoch, value.detach())
            step += 1
