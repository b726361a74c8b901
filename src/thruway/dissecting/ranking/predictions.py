"""All single deletions foretold from one backward pass: how each example's loss begins to move as a branch fades."""

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

# Output and targets to a mean over the batch, or to one loss per example.
LossFunction = Callable[[Any, Any], Tensor]


@dataclass(frozen=True, repr=False)
class Predictions:
    """What every single deletion will do to the loss, to first order.

    Attributes:
        branches: those of the engine.
        loss: of the intact model, mean over the examples.
        changes: (branches,), in the loss's unit: foretold loss without the branch, minus `loss`, to first order. NaN
            where no gradient came to the join.
        curved: the same with the curvature that the spread over examples shows; NaN where examples cannot be told
            apart, since the join's first dimension is not the batch.
        examples: how many were seen.
    """

    branches: tuple[Branch, ...]
    loss: float
    changes: NDArray[np.float64]
    curved: NDArray[np.float64]
    examples: int

    def table(self) -> Table:
        """A row per branch: index, name, kind, value (the loss foretold), change, curved."""
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
        """Spearman's rank correlation with deletions that were measured.

        Args:
            measured: changes of the loss, one per branch, or a table with a column `change`.
            curved: of `curved`, not of `changes`.
        """
        ours = self.curved if curved else self.changes
        return rank_correlation(ours, measured_changes(measured, len(self.branches)), level=level, draws=draws)

    def __repr__(self) -> str:
        head = f"Predictions of {len(self.branches)} deletions from {self.examples:,} examples, loss {self.loss:.4g}"
        return f"{head}\n{self.table()!r}"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def predict_deletions(engine: Engine, loss: Any, batches: Any = None) -> Predictions:
    """What each single deletion will do to the loss, from one forward and one backward pass per batch.

        change_i ≈ -<dL/dy_i, y_i - x_i>        curved_i = change_i + mean over examples of <dL_b/dy_i, y_i - x_i>² / 2

    y_i is what join i gives and x_i what it would give without the branch: for y = x + f(x) the difference is f(x),
    for a gated block T·(H - x). The first order is exact for a branch that does little.

    Do not rank a trained net by the first order alone. It is the derivative of the loss in the size of the branch,
    which training itself drives to 0 wherever a weight or a norm sets that size: most of what a deletion does lies
    in higher orders. `curved` adds the second, as the empirical Fisher information gives it: a loss such as
    cross-entropy, one per example, is what that holds for.

    The model runs in evaluation mode and stays as it is; no parameter's `.grad` is touched. A batch of a form
    not met before is looked at once more, without gradients.

    Args:
        engine: of the model.
        loss: function of (output, targets) that gives the mean over the batch, or one loss per example (several
            per example are averaged); or a `Loss`, which brings its batches.
        batches: pairs (inputs, targets): inputs a tensor, a tuple of arguments or a dict of keywords.
    Returns:
        Predictions, per mean over all examples.
    Raises:
        ConfigError: without batches, or for a loss that gives anything else.
        DissectError: if the loss is not finite, or has no gradient.
    Source:
        Ours: a Taylor expansion in a factor on the branch. The lesion is that of Veit, Wilber & Belongie 2016, sec.
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
        raise ConfigError("there is no example in the batches. An iterator is empty once it was read: pass a list.")
    first, second = orders / examples
    return Predictions(engine.branches, total / examples, first, first + second, examples)


def check_loss(loss: Any, batches: Any) -> tuple[LossFunction, Any]:
    """The loss as a function, and the batches, which it may have brought along.

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
        raise ConfigError("no batches came. Pass pairs: batches=[(inputs, targets), ...].")
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
    """The loss of a batch, and what leaving out each branch does to first and second order, (2, branches).

    All are sums over the examples. `observe` gets index, x and y of every join.
    """
    indices = [branch.index for branch in engine.branches]
    with torch.inference_mode(False), torch.enable_grad():
        faded = {index: torch.zeros(count + 1, dtype=torch.float64, requires_grad=True) for index in indices}

        def make_hook(index: int) -> JoinHook:
            def fade(x: Tensor, y: Tensor) -> Tensor:
                if observe is not None:
                    observe(index, x.detach(), y.detach())
                return _Fading.apply(y, (y - x).detach(), faded[index])  # type: ignore[no-any-return, no-untyped-call]

            return fade

        output = run_with_hooks(engine, {index: make_hook(index) for index in indices}, inputs)
        loss = _summed(loss_fn(output, targets), count)
        if not loss.requires_grad:
            raise DissectError(
                "the loss has no gradient: nothing it is made of came from a branch by differentiable steps. "
                "Return a tensor computed from the model's output."
            )
        grads = torch.autograd.grad(loss, list(faded.values()), allow_unused=True)
    if not math.isfinite(loss.item()):
        raise DissectError(f"the loss is {loss.item()}, and nothing follows from it. Look at these inputs.")
    return loss.item(), np.stack([_orders(grad) for grad in grads], axis=1)


def _orders(grad: Tensor | None) -> NDArray[np.float64]:
    """First and second order of the summed loss, from the slopes of the examples and, at the end, of all."""
    if grad is None:
        return np.full(2, np.nan)
    *each, whole = grad.tolist()
    return np.array([whole, sum(slope * slope for slope in each) / 2])


class _Fading(torch.autograd.Function):
    """y - s·(y - x) at s = 0: y itself, to the last bit; its derivative in s is what the deletion begins with.

    The gradient of s holds a slope per example, NaN where they cannot be told apart, and then that of all.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, step: Tensor, s: Tensor) -> Tensor:
        ctx.save_for_backward(step)
        ctx.examples = len(s) - 1
        return y.clone()  # never y itself, which the model may write to

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor]:
        (step,) = ctx.saved_tensors
        # Thousands of products of both signs cancel; mps has no float64.
        wide = torch.float32 if step.device.type == "mps" else torch.float64
        slopes = -(grads[0].to(wide) * step.to(wide))
        is_told = slopes.ndim > 0 and slopes.shape[0] == ctx.examples
        each = slopes.reshape(ctx.examples, -1).sum(dim=1) if is_told else slopes.new_full((ctx.examples,), math.nan)
        return grads[0], None, torch.cat([each, slopes.sum()[None]]).to("cpu", torch.float64)


def _summed(loss: Any, count: int) -> Tensor:
    """A mean over the batch, or a loss per example, as the sum over the examples."""
    if isinstance(loss, Tensor) and loss.ndim == 0:
        return loss * count
    if isinstance(loss, Tensor) and loss.shape[0] == count:
        return loss.reshape(count, -1).mean(dim=1).sum()
    said = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
    raise ConfigError(
        f"the loss of a batch of {count} is its mean, shape (), or one loss per example, shape ({count},); got {said}."
    )


def measured_changes(measured: Any, count: int) -> NDArray[np.float64]:
    """Changes by deletion, one per branch, from a sequence or from a table's column `change`.

    Raises:
        ShapeError: if there are not `count` of them.

    >>> measured_changes([1, 2], 2)
    array([1., 2.])
    """
    table = measured.table() if callable(getattr(measured, "table", None)) else measured
    changes: ArrayLike = table["change"] if isinstance(table, Table) else table
    array = np.asarray(changes, dtype=np.float64)
    if array.shape != (count,):
        raise ShapeError(f"measured has shape {array.shape} for {count} branches. Give one change per branch.")
    return array
