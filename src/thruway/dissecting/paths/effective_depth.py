"""Effective depth: the mean path length, weighted by the gradient that the paths carry."""

from typing import NamedTuple

import torch
from torch import Tensor

from thruway import seeding
from thruway.errors import ConfigError

__all__ = ["EffectiveDepth", "depth_with_interval"]


class EffectiveDepth(NamedTuple):
    """Mean path length in branches, with a percentile bootstrap interval over examples.

    Args:
        value: the mean length.
        low, high: ends of the bootstrap interval.
        level: coverage of the interval.
        examples: number of examples.
    """

    value: float
    low: float
    high: float
    level: float
    examples: int

    def __repr__(self) -> str:
        return (
            f"effective depth {self.value:.2f} branches ({self.low:.2f} to {self.high:.2f}, {self.level:.0%} bootstrap "
            f"over {self.examples} example{'s' if self.examples > 1 else ''})"
        )


def depth_with_interval(
    weights: Tensor, level: float = 0.95, resamples: int = 1000, generator: torch.Generator | None = None
) -> EffectiveDepth:
    """sum_k k·w_k / sum_k w_k, where w_k is the mean over examples of the weight of length k.

    Args:
        weights: (lengths, examples), from length 0 on.
        level: coverage of the interval.
        resamples: number of bootstrap resamples of the examples.
        generator: generator for the resamples. Default: one with a fixed seed.
    Raises:
        ConfigError: if `level` is not between 0 and 1, or `resamples` is below 1.
    Source:
        Ours; the weights follow Veit, Wilber & Belongie 2016, sec. 4.2-4.3.

    >>> depth_with_interval(torch.tensor([[1.0, 0.0], [1.0, 2.0]]).double()).value
    0.75
    """
    if not 0 < level < 1 or resamples < 1:
        raise ConfigError(
            f"an interval needs a level between 0 and 1 and at least one resample, got level={level}, "
            f"resamples={resamples}. Pass level=0.95, resamples=1000."
        )
    weights = weights.detach().double().cpu()
    examples = weights.shape[1]
    generator = generator if generator is not None else seeding.generator(0, "effective depth")
    picks = torch.randint(examples, (resamples, examples), generator=generator, device=generator.device).cpu()
    times = torch.zeros(resamples, examples, dtype=torch.float64).scatter_add_(
        1, picks, torch.ones(resamples, examples, dtype=torch.float64)
    )
    tail = (1 - level) / 2
    low, high = _depth(times @ weights.T).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return EffectiveDepth(float(_depth(weights.mean(1))), low, high, level, examples)


def _depth(weights: Tensor) -> Tensor:
    lengths = torch.arange(weights.shape[-1], dtype=weights.dtype)
    return (weights * lengths).sum(-1) / weights.sum(-1)
