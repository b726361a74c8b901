"""Bootstrap intervals of means over examples."""

import torch
from torch import Tensor

from thruway.errors import ConfigError

__all__ = ["interval_of_means"]

# Elements drawn at a time: 32 MB.
_CHUNK = 2**22


def interval_of_means(
    scores: Tensor, level: float = 0.95, resamples: int = 1000, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Percentile bootstrap interval of the mean of each row. All rows use the same resampled examples.

    For a paired comparison pass the differences, example by example.

    Args:
        scores: (rows, examples).
        level: coverage of the interval, between 0 and 1.
        resamples: number of data sets drawn with replacement.
        generator: generator for the draws, on the CPU. Default: one with a fixed seed.
    Returns:
        Lower and upper ends, each (rows,), float64. NaN for a single example.
    Raises:
        ConfigError: if there are no examples, or `level` or `resamples` is out of range.
    Source:
        Efron 1979; the percentile interval after Efron & Tibshirani 1993, ch. 13.

    >>> low, high = interval_of_means(torch.tensor([[0.0, 1.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0]]), level=0.9)
    >>> bool(low[0] < 0.5 < high[0]), low[1].item(), high[1].item()
    (True, 2.0, 2.0)
    """
    rows, examples = scores.shape
    if examples == 0:
        raise ConfigError("a bootstrap interval needs examples, got none.")
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, such as 0.95, got {level}.")
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1, got {resamples}. 1000 resamples give stable intervals.")
    if examples == 1:
        unknown = torch.full((rows,), float("nan"), dtype=torch.float64)
        return unknown, unknown.clone()
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    scores = scores.double()
    centre = scores.mean(1, keepdim=True)  # subtracted, so that equal scores have an interval of width exactly 0
    means = []
    at_once = max(1, _CHUNK // examples)
    for start in range(0, resamples, at_once):
        drawn = torch.randint(examples, (min(at_once, resamples - start), examples), generator=generator)
        counts = torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones_like(drawn, dtype=torch.float64)
        )
        means.append((scores - centre) @ counts.T / examples)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = centre.T + torch.quantile(torch.cat(means, 1), ends, dim=1)
    # An end that differs from 0 by rounding only is set to 0.
    rounding = 1e-14 * scores.abs().amax(1)
    return low.where(low.abs() > rounding, 0.0), high.where(high.abs() > rounding, 0.0)
