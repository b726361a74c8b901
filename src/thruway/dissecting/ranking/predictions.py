"""Prediction of all single deletions from one backward pass, by a Taylor expansion in the scale of each branch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from thruway.dissecting.errors import DissectError
from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.lesions.metrics import Loss, logits_of
from thruway.dissecting.ranking.rank_correlation import RankCorrelation, rank_correlation
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.join_hooks import batch_size, checked_batches, run_with_hooks
from thruway.dissecting.running.merging import JoinHook
from thruway.errors import ConfigError, ShapeError
from thruway.runs import Table

__all__ = ["LossFunction", "Predictions", "check_loss", "measured_changes", "predict_deletions", "slopes"]

# Maps output and targets to the mean loss of the batch, or to one loss per example.
LossFunction = Callable[[Any, Any], Tensor]


@dataclass(frozen=True, repr=False)
class Predictions:
    """Predicted change of the loss by every single deletion.

    Attributes:
        branches: the branches of the dissection.
        loss: mean loss of the intact model.
        changes: (branches,), predicted loss without the branch minus `loss`, to first order. NaN if no gradient
            reaches the join.
        curved: the same to second order, with the curvature estimated from the spread over examples. NaN if the first
            dimension of the join is not the batch.
        examples: number of examples.
    """

    branches: tuple[Branch, ...]
    loss: float
    changes: NDArray[np.float64]
    curved: NDArray[np.float64]
    examples: int

    def table(self) -> Table:
        """A row per branch: index, name, kind, value (the predicted loss), change, curved."""
        return Table(
            {
                "index": [branch.index for branch in self.branches],
                "name": [branch.name for branch in self.branches],
                "kind": [branch.kind for branch in self.branches],
                "value": self.loss + self.changes,
                "change": self.changes,
                "curved": self.curved,
            }
        )

    def agreement(
        self, measured: Any, *, curved: bool = False, level: float = 0.95, draws: int = 2000
    ) -> RankCorrelation:
        """Spearman's rank correlation with measured deletions.

        Args:
            measured: changes of the loss, one per branch, or a table with a column `change`.
            curved: If True, compares `curved` instead of `changes`.
            level, draws: see `rank_correlation`.
        """
        ours = self.curved if curved else self.changes
        return rank_correlation(ours, measured_changes(measured, len(self.branches)), level=level, draws=draws)

    def __repr__(self) -> str:
        head = f"Predictions of {len(self.branches)} deletions from {self.examples:,} examples, loss {self.loss:.4g}"
        return f"{head}\n{self.table()!r}"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def predict_deletions(engine: Engine, loss: Any, batches: Any = None) -> Predictions:
    """Predict the change of the loss by each single deletion, from one forward and one backward pass per batch.

        change_i ≈ -<dL/dy_i, y_i - x_i>        curved_i = change_i + mean over examples of <dL_b/dy_i, y_i - x_i>² / 2

    y_i is the output of join i, and x_i its output without the branch. The difference is f(x) for y = x + f(x), and
    T·(H - x) for a gated block. The first order is accurate for a branch with a small effect.

    Do not rank a trained model by the first order alone. It is the derivative of the loss with respect to the scale
    of the branch, which training drives to 0 wherever a weight or a norm sets that scale, so most of the effect of a
    deletion is of higher order. `curved` adds the second order, estimated by the empirical Fisher information, which
    is valid for a loss such as cross-entropy, with one number per example.

    The model runs in evaluation mode and is not changed; no `.grad` is written. For a batch of a new shape the model
    runs once more, without gradients, to record its tape.

    Args:
        loss: function of (output, targets) that returns the mean over the batch or one loss per example (several
            per example are averaged); or a `Loss`, with its batches.
        batches: pairs (inputs, targets), with a tensor, a tuple of arguments or a dict of keyword arguments as inputs.
    Returns:
        Predictions for the mean loss over all examples.
    Raises:
        ConfigError: if there are no batches, or the loss returns anything else.
        DissectError: if the loss is not finite, or has no gradient.
    Source:
        Ours: a Taylor expansion in a scale of the branch. The lesion is that of Veit, Wilber & Belongie 2016, sec.
        4.1; the second-order term that of Theis et al. 2018 (Fisher pruning).

    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> net = torch.nn.Sequential(Residual(torch.nn.Linear(2, 2)), Residual(torch.nn.Linear(2, 2)))
    >>> x = torch.ones(3, 2)
    >>> d = dissect(net, x)
    >>> found = d.predict_deletions(lambda y, _: y.sum(1), [(x, None)])
    >>> measured = d.without(1)(x).sum(1).mean() - net(x).sum(1).mean()  # the loss is linear in the last branch
    >>> bool(abs(found.changes[1] - measured.item()) < 1e-5)
    True
    """
    loss_fn, batches = check_loss(loss, batches)
    total, orders, examples = 0.0, np.zeros((2, len(engine.branches))), 0
    for inputs, targets in checked_batches(batches):
        count = batch_size(inputs)
        value, found = slopes(engine, loss_fn, inputs, targets, count)
        total, orders, examples = total + value, orders + found, examples + count
    if examples == 0:
        raise ConfigError("there are no examples in the batches. An iterator can be used once only: pass a list.")
    first, second = orders / examples
    return Predictions(engine.branches, total / examples, first, first + second, examples)


def check_loss(loss: Any, batches: Any) -> tuple[LossFunction, Any]:
    """Return the loss as a function, and the batches, which a `Loss` contains.

    Raises:
        ConfigError: if either is missing.
    """
    if isinstance(loss, Loss):
        batches = loss.batches if batches is None else batches
        loss = _cross_entropy if loss.loss_fn is None else loss.loss_fn
    loss_fn = loss
    if not callable(loss_fn):
        raise ConfigError(f"the loss is a function of (output, targets), got {type(loss_fn).__name__}.")
    if batches is None:
        raise ConfigError("there are no batches. Pass pairs: batches=[(inputs, targets), ...].")
    return loss_fn, batches


def _cross_entropy(output: Any, targets: Any) -> Tensor:
    return F.cross_entropy(logits_of(output), targets, reduction="none")


def slopes(
    engine: Engine,
    loss_fn: LossFunction,
    inputs: Any,
    targets: Any,
    count: int,
    observe: Callable[[int, Tensor, Tensor], None] | None = None,
) -> tuple[float, NDArray[np.float64]]:
    """Compute the loss of a batch, and its first- and second-order changes by each deletion, (2, branches).

    All are sums over the examples.

    Args:
        count: number of examples.
        observe: called with index, x and y of every join.
    """
    indices = [branch.index for branch in engine.branches]
    with torch.inference_mode(False), torch.enable_grad():
        scales = {index: torch.zeros(count + 1, dtype=torch.float64, requires_grad=True) for index in indices}

        def make_hook(index: int) -> JoinHook:
            def scale(x: Tensor, y: Tensor) -> Tensor:
                if observe is not None:
                    observe(index, x.detach(), y.detach())
                return _ScaledBranch.apply(y, (y - x).detach(), scales[index])  # type: ignore[no-any-return, no-untyped-call]

            return scale

        output = run_with_hooks(engine, {index: make_hook(index) for index in indices}, inputs)
        loss = _summed(loss_fn(output, targets), count)
        if not loss.requires_grad:
            raise DissectError(
                "the loss has no gradient with respect to the output of any branch. Return a tensor computed from the "
                "model's output."
            )
        grads = torch.autograd.grad(loss, list(scales.values()), allow_unused=True)
    if not math.isfinite(loss.item()):
        raise DissectError(f"the loss is {loss.item()}, so nothing can be predicted. Check these inputs.")
    return loss.item(), np.stack([_orders(grad) for grad in grads], axis=1)


def _orders(grad: Tensor | None) -> NDArray[np.float64]:
    """First- and second-order changes of the summed loss. `grad` holds the slope of each example, then their sum."""
    if grad is None:
        return np.full(2, np.nan)
    *each, whole = grad.tolist()
    return np.array([whole, sum(slope * slope for slope in each) / 2])


class _ScaledBranch(torch.autograd.Function):
    """y - s·(y - x) at s = 0. The output is exactly y; its derivative in s is that of the deletion.

    The gradient of s holds a slope per example, NaN if the first dimension is not the batch, and then their sum.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, step: Tensor, s: Tensor) -> Tensor:
        ctx.save_for_backward(step)
        ctx.examples = len(s) - 1
        return y.clone()  # the model may write to the result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor]:
        (step,) = ctx.saved_tensors
        # In float64, since thousands of products of both signs cancel; mps has none.
        wide = torch.float32 if step.device.type == "mps" else torch.float64
        slopes = -(grads[0].to(wide) * step.to(wide))
        is_batched = slopes.ndim > 0 and slopes.shape[0] == ctx.examples
        each = slopes.reshape(ctx.examples, -1).sum(dim=1) if is_batched else slopes.new_full((ctx.examples,), math.nan)
        return grads[0], None, torch.cat([each, slopes.sum()[None]]).to("cpu", torch.float64)


def _summed(loss: Any, count: int) -> Tensor:
    """Convert the mean over the batch, or a loss per example, to the sum over the examples."""
    if isinstance(loss, Tensor) and loss.ndim == 0:
        return loss * count
    if isinstance(loss, Tensor) and loss.shape[0] == count:
        return loss.reshape(count, -1).mean(dim=1).sum()
    came = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
    raise ConfigError(
        f"the loss of a batch of {count} must be its mean, shape (), or one loss per example, shape ({count},); "
        f"got {came}."
    )


def measured_changes(measured: Any, count: int) -> NDArray[np.float64]:
    """Measured changes, one per branch, from a sequence or from the column `change` of a table.

    Raises:
        ShapeError: if their number is not `count`.

    >>> measured_changes([1, 2], 2)
    array([1., 2.])
    """
    table = measured.table() if callable(getattr(measured, "table", None)) else measured
    changes: ArrayLike = table["change"] if isinstance(table, Table) else table
    array = np.asarray(changes, dtype=np.float64)
    if array.shape != (count,):
        raise ShapeError(f"measured has shape {array.shape} for {count} branches. Pass one change per branch.")
    return array
