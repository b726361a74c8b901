"""How sure a mean of a few examples is."""

import torch
from torch import Tensor

from thruway.errors import ConfigError

__all__ = ["interval_of_means"]

# Numbers drawn at a time: 32 MB.
_CHUNK = 2**22


def interval_of_means(
    scores: Tensor, level: float = 0.95, resamples: int = 1000, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Percentile bootstrap interval of each row's mean; the examples drawn are the same for all rows.

    For paired comparison pass differences, example by example: what makes an example hard for both cancels.

    Args:
        scores: (rows, examples).
        level: share of intervals that should cover the true mean, between 0 and 1.
        resamples: data sets drawn, with replacement, of as many examples.
        generator: of the draws, on the CPU; None for a fixed one, so that the same scores have the same interval.
    Returns:
        Lower and upper ends, each (rows,), float64; NaN for a single example, which says nothing about spread.
    Raises:
        ConfigError: if there are no examples, or level or resamples make no sense.
    Source:
        Efron 1979; the percentile interval after Efron & Tibshirani 1993, ch. 13.

    >>> low, high = interval_of_means(torch.tensor([[0.0, 1.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0]]), level=0.9)
    >>> bool(low[0] < 0.5 < high[0]), low[1].item(), high[1].item()
    (True, 2.0, 2.0)
    """
    rows, examples = scores.shape
    if examples == 0:
        raise ConfigError("a bootstrap needs examples, got none.")
    if not 0 < level < 1:
        raise ConfigError(f"level={level} is no share of intervals: it lies between 0 and 1, 0.95 say.")
    if resamples < 1:
        raise ConfigError(f"resamples={resamples}: at least 1, and 1000 for ends that are steady.")
    if examples == 1:
        unknown = torch.full((rows,), float("nan"), dtype=torch.float64)
        return unknown, unknown.clone()
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    scores = scores.double()
    centre = scores.mean(1, keepdim=True)  # of equal scores, every resample's mean is exactly theirs
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
    # An end at 0 is to be 0, and no rest of the rounding to one side of it.
    rounding = 1e-14 * scores.abs().amax(1)
    return low.where(low.abs() > rounding, 0.0), high.where(high.abs() > rounding, 0.0)
