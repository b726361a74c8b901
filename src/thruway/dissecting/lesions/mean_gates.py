"""The gentler lesion of a gated branch: the gate stands still at its mean over the data."""

from collections.abc import Callable, Iterator

from torch import Tensor

from thruway.dissecting.lesions.metrics import Evaluate, Metric, batches_of
from thruway.dissecting.lesions.runner import evaluation_mode
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.merging import Merge, Operands
from thruway.dissecting.tracing.arguments import as_call
from thruway.errors import ConfigError, ShapeError

__all__ = ["mean_gate_merges"]


def mean_gate_merges(engine: Engine, evaluate: Evaluate) -> dict[int, Merge]:
    """For each gated branch the join with T̄ in place of T, unit by unit: y = (1 - T̄)·x + T̄·H(x).

    One more pass over the data finds the means, over the first dimension of the gates: the examples. Where the
    carry has a gate of its own, that is its mean as well.

    Raises:
        ConfigError: if no gate weighs a branch, or the data can be gone through once only.
        ShapeError: if a gate has another size in another batch.
    """
    gated = [branch.index for branch in engine.branches if branch.gate is not None]
    if not gated:
        weighs_shortcuts = any(branch.carry is not None for branch in engine.branches)
        why = (
            "the gates here weigh the shortcut alone, F(x) + C·x: there is no T to hold still"
            if weighs_shortcuts
            else "no branch has a gate here"
        )
        raise ConfigError(f'gate="mean" is for branches that a gate weighs, and {why}. Leave it at "closed".')
    if not isinstance(evaluate, Metric) or isinstance(evaluate.batches, Iterator):
        raise ConfigError(
            'gate="mean" goes through the data twice, first for the means: it takes a metric with batches that can be '
            "gone through again, such as Error([(inputs, target), ...])."
        )
    means = {index: _Mean() for index in gated}
    carries = {index: _Mean() for index in gated if engine.branches[index].carry is not None}
    with evaluation_mode(engine.model):
        for inputs, _ in batches_of(evaluate):
            args, kwargs = as_call(inputs)
            engine.run({index: _hearing(means[index], carries.get(index)) for index in gated}, args, kwargs)
    return {index: _still(means[index], carries.get(index)) for index in gated}


class _Mean:
    """Of what it is shown, over the first dimension, in float64."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count = 0

    def add(self, shown: Tensor) -> None:
        total = shown.detach().double().sum(0)
        if self.total is not None and self.total.shape != total.shape:
            raise ShapeError(
                f"a gate has {tuple(total.shape)} units in one batch and {tuple(self.total.shape)} in another: a "
                "unit's mean needs batches of one form. Pad them, or leave the gate closed."
            )
        self.total = total if self.total is None else self.total + total
        self.count += len(shown)

    def like(self, shown: Tensor) -> Tensor:
        """The mean, for as many examples as these."""
        assert self.total is not None
        return (self.total / self.count).to(shown.dtype).expand_as(shown)


def _hearing(gate: _Mean, carry: _Mean | None) -> Callable[[Operands], Tensor]:
    def merge(at: Operands) -> Tensor:
        assert at.gate is not None
        gate.add(at.gate.expand_as(at.shortcut))
        if carry is not None and at.carry is not None:
            carry.add(at.carry.expand_as(at.shortcut))
        return joined(at)

    return merge


def _still(gate: _Mean, carry: _Mean | None) -> Callable[[Operands], Tensor]:
    def merge(at: Operands) -> Tensor:
        assert at.gate is not None
        fixed = gate.like(at.shortcut)
        return joined(at._replace(gate=fixed, carry=None if carry is None else carry.like(at.shortcut)))

    return merge


def joined(at: Operands) -> Tensor:
    """(1 - T)·x + T·H, or C·x + T·H."""
    assert at.gate is not None
    share = 1 - at.gate if at.carry is None else at.carry
    return share * at.shortcut + at.gate * at.branch
