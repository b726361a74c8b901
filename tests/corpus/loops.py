"""Training loops of the corpus. `plain` is in `case`; these add what public scripts add, or forget."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.corpus.case import Batch, Loop, Training

__all__ = ["accumulated", "bce", "clipped", "cross_entropy", "mse", "nll", "no_zero_grad", "scheduled", "token_loss"]


# Losses


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def nll(model: nn.Module, batch: Batch) -> Tensor:
    return F.nll_loss(model(batch[0]), batch[1])


def mse(model: nn.Module, batch: Batch) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def bce(model: nn.Module, batch: Batch) -> Tensor:
    """Binary cross-entropy of probabilities."""
    return F.binary_cross_entropy(model(batch[0]), batch[1])


def bce_logits(model: nn.Module, batch: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1])


def token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy at every position of a sequence."""
    return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())


# Loops


def no_zero_grad(training: Training) -> Iterator[float]:
    """Forget to set the gradients to zero."""
    for batch in training.batches:
        loss = training.on(batch)
        loss.backward()
        training.optimizer.step()
        yield loss.item()


def clipped(norm: float) -> Loop:
    """Clip the global norm of the gradients."""

    def loop(training: Training) -> Iterator[float]:
        for batch in training.batches:
            training.optimizer.zero_grad()
            loss = training.on(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(training.model.parameters(), norm)
            training.optimizer.step()
            yield loss.item()

    return loop


def accumulated(parts: int) -> Loop:
    """Add up the gradients of `parts` micro-batches per step, correctly."""

    def loop(training: Training) -> Iterator[float]:
        for x, y in training.batches:
            training.optimizer.zero_grad()
            total = 0.0
            for micro in zip(x.chunk(parts), y.chunk(parts), strict=True):
                loss = training.on(micro) / parts
                loss.backward()
                total += loss.item()
            training.optimizer.step()
            yield total

    return loop


def scheduled(factor: Callable[[float], float]) -> Loop:
    """Multiply the learning rate by `factor(share of the steps that are done)`."""

    def loop(training: Training) -> Iterator[float]:
        steps = len(training.batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(training.optimizer, lambda step: factor(step / steps))
        for batch in training.batches:
            training.optimizer.zero_grad()
            loss = training.on(batch)
            loss.backward()
            training.optimizer.step()
            schedule.step()
            yield loss.item()

    return loop


def growing(factor: float) -> Loop:
    """Multiply the learning rate by a factor after every step."""

    def loop(training: Training) -> Iterator[float]:
        schedule = torch.optim.lr_scheduler.ExponentialLR(training.optimizer, factor)
        for batch in training.batches:
            training.optimizer.zero_grad()
            loss = training.on(batch)
            loss.backward()
            training.optimizer.step()
            schedule.step()
            yield loss.item()

    return loop


def jump(at: int, factor: float) -> Loop:
    """Multiply the learning rate by a factor for one step."""

    def loop(training: Training) -> Iterator[float]:
        schedule = torch.optim.lr_scheduler.LambdaLR(training.optimizer, lambda step: factor if step == at else 1.0)
        for batch in training.batches:
            training.optimizer.zero_grad()
            loss = training.on(batch)
            loss.backward()
            training.optimizer.step()
            schedule.step()
            yield loss.item()

    return loop
