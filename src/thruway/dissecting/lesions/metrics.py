"""Metrics of lesions: accuracy, error, and any loss.

A metric gives one number per example, not one per data set. So two models can be compared example by example, and many
lesions can be evaluated in one iteration over the data, batch by batch.
"""

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from thruway.errors import ConfigError, ShapeError

__all__ = ["Accuracy", "Error", "Evaluate", "Loss", "Metric", "batches_of", "checked_scores", "logits_of"]


class Metric(abc.ABC):
    """Base class of metrics: a number per example, over batches of (inputs, target).

    `inputs` is a tensor, a tuple of arguments, or a dict of keyword arguments of the model. Each call iterates over the
    batches once, so a generator can be used for a single call only. Batches are not moved between devices. The batch
    size changes the results by rounding errors only, but it affects the speed: for small images use a few hundred.

    Attributes:
        batches: the data.
        name: name of the metric, for tables.
        higher_is_better: If True, a lesion that lowers the metric is damaging.
    """

    batches: Iterable[tuple[Any, Any]]
    name: ClassVar[str]
    higher_is_better: ClassVar[bool]

    @abc.abstractmethod
    def scores(self, output: Any, target: Any) -> Tensor:
        """One number per example, (batch,), from the model's output and the target."""


# A Metric, or any function from a model to a number.
Evaluate = Metric | Callable[[Any], float]


@dataclass(frozen=True, eq=False)
class Accuracy(Metric):
    """Share of correct predictions, over the examples and the positions within each.

    The classes are the last dimension, (batch, ..., classes), or else the second, (batch, classes, ...).

    Args:
        batches: pairs (inputs, target), with class indices (batch, ...) as target.
        logits: returns the logits from the model's output. By default the output is a tensor, or has `logits`.

    >>> net = torch.nn.Identity()
    >>> Accuracy([(torch.eye(2), torch.tensor([0, 0]))]).scores(net(torch.eye(2)), torch.tensor([0, 0]))
    tensor([1., 0.], dtype=torch.float64)
    """

    batches: Iterable[tuple[Any, Any]]
    logits: Callable[[Any], Tensor] | None = None

    name: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True

    def scores(self, output: Any, target: Any) -> Tensor:
        found = (self.logits or logits_of)(output)
        return _per_example((_chosen(found, target) == target).double())


@dataclass(frozen=True, eq=False)
class Error(Metric):
    """Share of wrong predictions, 1 - accuracy; see `Accuracy`.

    >>> Error([]).scores(torch.eye(2), torch.tensor([0, 0]))
    tensor([0., 1.], dtype=torch.float64)
    """

    batches: Iterable[tuple[Any, Any]]
    logits: Callable[[Any], Tensor] | None = None

    name: ClassVar[str] = "error"
    higher_is_better: ClassVar[bool] = False

    def scores(self, output: Any, target: Any) -> Tensor:
        found = (self.logits or logits_of)(output)
        return _per_example((_chosen(found, target) != target).double())


@dataclass(frozen=True, eq=False)
class Loss(Metric):
    """Mean loss per example.

    Args:
        batches: pairs (inputs, target).
        loss_fn: maps output and target to one number per example; several per example are averaged. None for the
            cross-entropy of class indices, (batch, classes, ...) and (batch, ...), in nats.

    >>> half = torch.zeros(1, 2)
    >>> Loss([]).scores(half, torch.tensor([0]))  # ln 2
    tensor([0.6931], dtype=torch.float64)
    """

    batches: Iterable[tuple[Any, Any]]
    loss_fn: Callable[[Any, Any], Tensor] | None = None

    name: ClassVar[str] = "loss"
    higher_is_better: ClassVar[bool] = False

    def scores(self, output: Any, target: Any) -> Tensor:
        losses = _cross_entropy(output, target) if self.loss_fn is None else self.loss_fn(output, target)
        if not isinstance(losses, Tensor) or losses.dim() == 0:
            raise ConfigError(
                'Loss needs one number per example, and loss_fn returned a single one. Use reduction="none": '
                'lambda output, target: F.cross_entropy(output, target, reduction="none").'
            )
        return _per_example(losses.detach().double())


def _cross_entropy(output: Any, target: Any) -> Tensor:
    return F.cross_entropy(logits_of(output), target, reduction="none")


def logits_of(output: Any) -> Tensor:
    """The logits in the output of a model: a tensor, or the output's `logits`.

    Raises:
        ConfigError: if it is neither.

    >>> logits_of({"logits": torch.ones(1)})
    tensor([1.])
    """
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    raise ConfigError(
        f"the model returned {type(output).__name__}, which is not a tensor and has no tensor `logits`. Pass a "
        "function that finds them: Accuracy(batches, logits=lambda output: output[0]), or Loss(batches, loss_fn)."
    )


def batches_of(metric: Metric) -> Iterator[tuple[Any, Any]]:
    """Check and yield the batches of a metric.

    Raises:
        ConfigError: if there are no batches, or a batch is not a pair.
    """
    count = 0
    for batch in metric.batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ConfigError(
                f"{type(metric).__name__} takes batches of (inputs, target), batch {count} is {_describe(batch)}."
            )
        yield batch[0], batch[1]
        count += 1
    if count == 0:
        raise ConfigError(
            f"{type(metric).__name__} has no batches. A generator can be used once only: pass a list, or a new one."
        )


def checked_scores(metric: Metric, output: Any, target: Any) -> Tensor:
    """The scores of a batch, on the CPU.

    Raises:
        ShapeError: if they are not one per example, or there are no examples.
    """
    scores = metric.scores(output, target)
    if scores.dim() != 1 or len(scores) == 0:
        raise ShapeError(
            f"{type(metric).__name__}.scores must return one number per example, (batch,) with at least one, got "
            f"{tuple(scores.shape)}. Drop empty batches."
        )
    return scores.detach().to("cpu", torch.float64)


def _chosen(logits: Tensor, target: Tensor) -> Tensor:
    if logits.shape[:-1] == target.shape:
        return logits.argmax(-1)
    if logits.dim() > 1 and (logits.shape[0], *logits.shape[2:]) == target.shape:
        return logits.argmax(1)
    raise ShapeError(
        f"logits of shape {tuple(logits.shape)} and a target of shape {tuple(target.shape)} do not fit: a target has "
        "one class index for each row of logits."
    )


def _per_example(scores: Tensor) -> Tensor:
    return scores if scores.dim() == 1 else scores.flatten(1).mean(1) if scores.dim() > 1 else scores


def _describe(batch: Any) -> str:
    size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    return f"a {type(batch).__name__}{size}"
