"""Kendall's rank correlation of an order with the original one."""

from collections.abc import Sequence

from thruway.errors import ConfigError

__all__ = ["kendall_tau"]


def kendall_tau(order: Sequence[int]) -> float:
    """Kendall's rank correlation of an order with the original one, 0 ... n - 1.

        tau = 1 - 4·I / (n·(n - 1))        (I: number of pairs in reversed order)

    Args:
        order: a permutation of 0 ... n - 1.
    Returns:
        1 for the original order, -1 for its reverse; 1 for fewer than two items.
    Raises:
        ConfigError: if `order` is not a permutation.
    Source:
        Kendall 1938; used in Veit, Wilber & Belongie 2016, sec. 4.3.

    >>> kendall_tau([0, 1, 2, 3]), kendall_tau([3, 2, 1, 0]), kendall_tau([1, 0, 2])
    (1.0, -1.0, 0.33333333333333337)
    """
    n = len(order)
    if sorted(order) != list(range(n)):
        raise ConfigError(f"order must contain each of the {n} numbers 0 ... {n - 1} once, got {list(order)}.")
    if n < 2:
        return 1.0
    inversions = sum(order[i] > order[j] for j in range(n) for i in range(j))
    return 1.0 - 4.0 * inversions / (n * (n - 1))
