"""Training of one setup in an ordinary loop."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from thruway.diagnosing.prescribing.measuring import measuring_mode
from thruway.diagnosing.prescribing.setup import Setup
from thruway.diagnosing.prescribing.snapshot import Snapshot, take
from thruway.watching.modules import call_model

__all__ = ["Alone"]

Batch = tuple[Any, Any]


class Alone:
    """One setup, trained step by step. It has the methods of `Together`, for a single member.

    Args:
        setup: model, optimizer and loop. The model is trained in place.
        loss: function of (outputs, targets) that returns the 0-d loss.
    """

    def __init__(self, setup: Setup, loss: Callable[[Any, Any], Tensor]) -> None:
        self._setup, self._loss = setup, loss
        self._has_diverged = False

    def step(self, batch: Batch) -> Tensor:
        """Update the parameters; return the loss before the update, (1,), NaN if diverged."""
        if self._has_diverged:
            return torch.full((1,), float("nan"), dtype=torch.float64)
        setup = self._setup
        if setup.zero_grad:
            setup.optimizer.zero_grad(set_to_none=True)
        inputs, targets = batch
        value = self._loss(call_model(setup.model, inputs), targets)
        self._has_diverged = not bool(torch.isfinite(value))
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
        if setup.clip is not None:
            nn.utils.clip_grad_norm_(setup.model.parameters(), setup.clip)
        setup.optimizer.step()
        return value.detach().double().cpu().reshape(1).masked_fill(torch.tensor(self._has_diverged), float("nan"))

    def measure(self, batches: Iterable[Batch]) -> Tensor:
        """Return the mean loss over some batches, without dropout, (1,), NaN if diverged."""
        model = self._setup.model
        if self._has_diverged:
            return torch.full((1,), float("nan"), dtype=torch.float64)
        kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with torch.no_grad(), measuring_mode(model):
            values = [self._loss(call_model(model, inputs), targets) for inputs, targets in batches]
            for name, buffer in model.named_buffers():
                buffer.copy_(kept[name])
        return torch.stack(values).double().mean().cpu().reshape(1)

    def is_alive(self, member: int = 0) -> bool:
        """Return False if the run has diverged."""
        return not self._has_diverged

    def snapshot(self, member: int = 0) -> Snapshot:
        """Return a copy of the training state."""
        return take(self._setup)
