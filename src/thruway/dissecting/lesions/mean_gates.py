"""Mean-gate lesion of a gated branch: the gate is replaced by its mean over the data."""

from collections.abc import Callable, Iterator

from torch import Tensor

from thruway.dissecting.lesions.metrics import Evaluate, Metric, batches_of
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.merging import Merge, Operands
from thruway.dissecting.tracing.arguments import as_call
from thruway.dissecting.tracing.model_state import evaluation_mode
from thruway.errors import ConfigError, ShapeError

__all__ = ["mean_gate_merges"]


def mean_gate_merges(engine: Engine, evaluate: Evaluate) -> dict[int, Merge]:
    """For each gated branch, a merge with the mean gate T̄ in place of T: y = (1 - T̄)·x + T̄·H(x).

    The means are computed in one more pass over the data, unit by unit over the first dimension of the gates, the
    examples. A separate carry gate is replaced by its mean as well.

    Raises:
        ConfigError: if no branch has a gate T, or the data can be iterated only once.
        ShapeError: if a gate has different sizes in different batches.
    """
    gated = [branch.index for branch in engine.branches if branch.gate is not None]
    if not gated:
        has_carry = any(branch.carry is not None for branch in engine.branches)
        why = (
            "the gates here weight the shortcut only, F(x) + C·x, so there is no T to average"
            if has_carry
            else "no branch has a gate here"
        )
        raise ConfigError(f'gate="mean" is for gated branches, and {why}. Leave it at "closed".')
    if not isinstance(evaluate, Metric) or isinstance(evaluate.batches, Iterator):
        raise ConfigError(
            'gate="mean" iterates over the data twice, first for the means. It takes a metric with batches that can be '
            "iterated again, such as Error([(inputs, target), ...])."
        )
    means = {index: _Mean() for index in gated}
    carries = {index: _Mean() for index in gated if engine.branches[index].carry is not None}
    with evaluation_mode(engine.model):
        for inputs, _ in batches_of(evaluate):
            args, kwargs = as_call(inputs)
            engine.run({index: _averaging(means[index], carries.get(index)) for index in gated}, args, kwargs)
    return {index: _with_means(means[index], carries.get(index)) for index in gated}


class _Mean:
    """Mean of a gate over its first dimension and over batches, in float64."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count = 0

    def add(self, gate: Tensor) -> None:
        total = gate.detach().double().sum(0)
        if self.total is not None and self.total.shape != total.shape:
            raise ShapeError(
                f"a gate has {tuple(total.shape)} units in one batch and {tuple(self.total.shape)} in another. The "
                'mean of a unit requires batches of one shape: pad them, or use gate="closed".'
            )
        self.total = total if self.total is None else self.total + total
        self.count += len(gate)

    def like(self, gate: Tensor) -> Tensor:
        """The mean, expanded to the shape of a gate."""
        assert self.total is not None
        return (self.total / self.count).to(gate.dtype).expand_as(gate)


def _averaging(gate: _Mean, carry: _Mean | None) -> Callable[[Operands], Tensor]:
    """Return a merge that computes the unchanged join and adds the values of its gates to the running means."""

    def merge(at: Operands) -> Tensor:
        assert at.gate is not None
        gate.add(at.gate.expand_as(at.shortcut))
        if carry is not None and at.carry is not None:
            carry.add(at.carry.expand_as(at.shortcut))
        return joined(at)

    return merge


def _with_means(gate: _Mean, carry: _Mean | None) -> Callable[[Operands], Tensor]:
    """A merge with the means in place of the gates."""

    def merge(at: Operands) -> Tensor:
        assert at.gate is not None
        fixed = gate.like(at.shortcut)
        return joined(at._replace(gate=fixed, carry=None if carry is None else carry.like(at.shortcut)))

    return merge


def joined(at: Operands) -> Tensor:
    """Return (1 - T)·x + T·H, or C·x + T·H."""
    assert at.gate is not None
    share = 1 - at.gate if at.carry is None else at.carry
    return share * at.shortcut + at.gate * at.branch
