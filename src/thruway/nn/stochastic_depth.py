"""How likely each residual branch of a stack is to take part in a training batch."""

import math
from numbers import Real

from thruway.errors import ConfigError
from thruway.nn.argument_checks import check_size

__all__ = ["survival_probabilities"]


def survival_probabilities(depth: int, last: float = 0.5) -> tuple[float, ...]:
    """The linear rule of stochastic depth: early branches are almost always there, the last one with `last`.

        p_l = 1 - (l / L)(1 - p_L),   l = 1 ... L

    Give block l `Residual(..., drop=1 - p_l)`: it tosses the coin in training, and in evaluation counts its branch
    p_l times. On average sum p_l = L - (L + 1)(1 - p_L)/2 branches take part: 40.25 of 54.

    Args:
        depth: L, residual blocks in the network.
        last: p_L, a probability above 0; 1 never leaves a branch out.
    Returns:
        p_1 ... p_L, falling.
    Raises:
        ConfigError: for a depth below 1, or a `last` that is no such probability.
    Source:
        Huang, Sun, Liu, Sedra & Weinberger 2016, eq. 4; p_L = 0.5 in their experiments.

    >>> survival_probabilities(4)
    (0.875, 0.75, 0.625, 0.5)
    """
    depth = check_size("depth", depth)
    if isinstance(last, bool) or not isinstance(last, Real) or not math.isfinite(last) or not 0 < last <= 1:
        raise ConfigError(
            f"the last block's survival must be a probability above 0, 1 for always, got {last!r}. "
            "Huang et al. 2016 took 0.5."
        )
    return tuple(1.0 - (block / depth) * (1.0 - float(last)) for block in range(1, depth + 1))
