"""Survival probabilities of residual branches under stochastic depth."""

import math
from numbers import Real

from thruway.errors import ConfigError
from thruway.nn.checks import check_size

__all__ = ["survival_probabilities"]


def survival_probabilities(depth: int, last: float = 0.5) -> tuple[float, ...]:
    """Return the survival probabilities of the linear rule, which decrease from nearly 1 to `last`.

        p_l = 1 - (l / L)(1 - p_L),   l = 1 ... L

    Build block l as `Residual(..., drop=1 - p_l)`: the branch is skipped at random in training, and multiplied by p_l
    in evaluation. On average, sum p_l = L - (L + 1)(1 - p_L)/2 branches are used, for example 40.25 of 54 with p_L =
    0.5.

    Args:
        depth: L, number of residual blocks in the network.
        last: p_L, a probability above 0. With 1, no branch is skipped.
    Returns:
        The probabilities p_1 ... p_L, in descending order.
    Raises:
        ConfigError: if `depth` is below 1, or `last` is outside (0, 1].
    Source:
        Huang, Sun, Liu, Sedra & Weinberger 2016, eq. 4; p_L = 0.5 in their experiments.

    >>> survival_probabilities(4)
    (0.875, 0.75, 0.625, 0.5)
    """
    depth = check_size("depth", depth)
    if isinstance(last, bool) or not isinstance(last, Real) or not math.isfinite(last) or not 0 < last <= 1:
        raise ConfigError(
            f"the survival probability of the last block must be above 0 and at most 1, got {last!r}. "
            "Huang et al. 2016 used 0.5."
        )
    return tuple(1.0 - (block / depth) * (1.0 - float(last)) for block in range(1, depth + 1))
