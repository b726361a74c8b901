"""Training loop for one network.

`train` is a generator that yields after each update. The caller decides what to log, when to stop and when to save, so
the loop needs no callbacks.
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

# Not `initial_lr`, the key of torch's schedulers, which may be left over from another training run.
_INITIAL = "lr_at_epoch_0"

Loss = Callable[[Tensor, Tensor], Tensor]


class Step(NamedTuple):
    """The result of one training step."""

    step: int  # number of the step in this call of train(), from 0
    epoch: int  # number of the epoch, from first_epoch
    loss: Tensor  # 0-d, before the update; on the device, so reading it may synchronise


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
    """Train `model` and yield a Step after each update.

    A schedule multiplies the learning rates that the parameter groups have at the start of training. These rates are
    restored at the end, also if training is stopped or fails. To resume, call the function again with the remaining
    epochs and `first_epoch`; an optimiser state saved between two steps contains the initial rates.

    Args:
        model: any module. It is not switched to training mode.
        epochs: one iterable of (inputs, targets) batches per epoch.
        optimizer: any PyTorch optimizer of the parameters of the model.
        loss: function of (outputs, targets) that returns a 0-d loss.
        schedule: function of the epoch that returns the factor by which the initial learning rate of each parameter
            group is multiplied. It is called at the start of each epoch. If None, the rates are not changed.
        clip: maximum L2 norm of the gradient of all parameters together. If None, gradients are not clipped.
        first_epoch: number of epochs completed in earlier calls, from which the schedule continues.
    Raises:
        ConfigError: if `clip` is not above 0, or `first_epoch` is not an integer of at least 0.

    >>> model = nn.Linear(2, 2)
    >>> batch = (torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    >>> [s.step for s in train(model, [[batch], [batch, batch]], torch.optim.SGD(model.parameters(), lr=0.1))]
    [0, 1, 2]
    """
    if clip is not None and not clip > 0:
        raise ConfigError(f"clip must be above 0 (or None for no clipping), got {clip!r}.")
    if isinstance(first_epoch, bool) or not isinstance(first_epoch, int) or first_epoch < 0:
        raise ConfigError(f"first_epoch must be an integer of at least 0, got {first_epoch!r}.")
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
    """Store the initial learning rate of each group in the group, so that it is saved with the optimiser state."""
    for group in optimizer.param_groups:
        group.setdefault(_INITIAL, group["lr"])
    try:
        yield
    finally:
        for group in optimizer.param_groups:
            group["lr"] = group.pop(_INITIAL)
