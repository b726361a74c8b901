"""One net, one loop, in plain sight.

`train` is a generator: it makes a step and hands back what happened, so that whoever calls it decides
what to log, when to stop and when to save, and the loop needs no callbacks.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.errors import ConfigError
from thruway.train.schedules import Schedule

__all__ = ["Step", "train"]

# A key of our own: torch's schedulers leave an `initial_lr` behind that may be of another training.
_INITIAL = "lr_at_epoch_0"

Loss = Callable[[Tensor, Tensor], Tensor]


class Step(NamedTuple):
    """What one step did."""

    step: int  # counted from 0 over this call of train()
    epoch: int  # counted from first_epoch
    loss: Tensor  # 0-d, before the update, on the device: read it when you need it


def train(
    model: nn.Module,
    epochs: Iterable[Iterable[tuple[Tensor, Tensor]]],
    optimizer: torch.optim.Optimizer,
    *,
    loss: Loss = F.cross_entropy,
    schedule: Schedule | None = None,
    clip: float | None = None,
    first_epoch: int = 0,
) -> Iterator[Step]:
    """Train `model`, handing back a Step after each update.

    A schedule acts on the learning rates the groups have as training begins, and they have them again when it
    ends, however it ends. To go on, call it again with the epochs that are left and `first_epoch`; an optimiser
    whose state was saved between two steps knows the rates it began with.

    Args:
        model: any module; put it into training mode yourself.
        epochs: one iterable of (inputs, targets) batches per epoch.
        optimizer: any torch optimiser over the model's parameters.
        loss: (outputs, targets) -> 0-d loss.
        schedule: epoch -> factor on each parameter group's initial learning rate, asked as each epoch begins;
            None leaves the rates alone.
        clip: the largest L2 norm that the gradient of all parameters together may have; None does not clip.
        first_epoch: how many epochs have gone before, in an earlier call; the schedule goes on from there.
    Raises:
        ConfigError: for a clip that is not above 0, or a first epoch that is no whole number of at least 0.

    >>> model = nn.Linear(2, 2)
    >>> batch = (torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    >>> [s.step for s in train(model, [[batch], [batch, batch]], torch.optim.SGD(model.parameters(), lr=0.1))]
    [0, 1, 2]
    """
    if clip is not None and not clip > 0:
        raise ConfigError(f"clip must be above 0 (or None for no clipping), got {clip!r}.")
    if isinstance(first_epoch, bool) or not isinstance(first_epoch, int) or first_epoch < 0:
        raise ConfigError(f"first_epoch must be a whole number of at least 0, got {first_epoch!r}.")
    step = 0
    with _rates_restored(optimizer) if schedule is not None else nullcontext():
        for epoch, batches in enumerate(epochs, start=first_epoch):
            if schedule is not None:
                for group in optimizer.param_groups:
                    group["lr"] = group[_INITIAL] * schedule(epoch)
            for inputs, targets in batches:
                optimizer.zero_grad(set_to_none=True)
                value = loss(model(inputs), targets)
                value.backward()  # type: ignore[no-untyped-call]
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                yield Step(step, epoch, value.detach())
                step += 1


@contextmanager
def _rates_restored(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Keep each group's first learning rate in the group itself, where a saved optimiser state takes it along."""
    for group in optimizer.param_groups:
        group.setdefault(_INITIAL, group["lr"])
    try:
        yield
    finally:
        for group in optimizer.param_groups:
            group["lr"] = group.pop(_INITIAL)
