"""Saturation: the share of an activation's outputs that lie on the flat parts of its curve.

An output is saturated at the low end if it is at most `low`, at the high end if it is at least `high`; `ENDS` has both
values for every activation. Every computation of saturation uses this table: the quantities `saturation_low` and
`saturation_high`, their fast paths in `moments` and `native_moments`, and the derived quantity `saturation`.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from thruway.watching.quantities.rows import Rows

__all__ = [
    "ENDS",
    "WITH_HIGH_END",
    "WITH_LOW_END",
    "Ends",
    "ends_of",
    "saturation",
    "saturation_high",
    "saturation_low",
]


@dataclass(frozen=True)
class Ends:
    """The limits of the flat parts of an activation; None if it has no flat part at that end."""

    low: float | None
    high: float | None
    low_is_minimum: bool = False  # no output is below `low`, so one that is at most `low` is equal to it


# An output is saturated if it lies within 5 % of the activation's range of its limit: for tanh, with its range from
# -1 to 1, from 0.9 on. Activations that reach their limit, such as relu, are saturated only there. The 5 % are ours.
ENDS: dict[str, Ends] = {
    "sigmoid": Ends(0.05, 0.95),
    "tanh": Ends(-0.9, 0.9),
    "softsign": Ends(-0.9, 0.9),
    "relu": Ends(0.0, None, low_is_minimum=True),
    "relu6": Ends(0.0, 6.0, low_is_minimum=True),
    "hardtanh": Ends(-1.0, 1.0, low_is_minimum=True),
    "hardsigmoid": Ends(0.0, 1.0, low_is_minimum=True),
    "elu": Ends(-0.95, None),  # tends to -1 with the default alpha = 1
    "selu": Ends(-0.95 * 1.0507009873554805 * 1.6732632423543772, None),
    "softplus": Ends(0.05, None),
}

WITH_LOW_END = frozenset(name for name, ends in ENDS.items() if ends.low is not None)
WITH_HIGH_END = frozenset(name for name, ends in ENDS.items() if ends.high is not None)

Number = TypeVar("Number", float, NDArray[np.floating])


def ends_of(activation: str | None) -> Ends:
    """Return the ends of an activation; both are None for an activation that is not in ENDS."""
    return ENDS.get(str(activation), Ends(None, None))


def saturation_low(rows: Rows) -> Tensor:
    """Return the share of finite values that are saturated at the low end, (k,)."""
    return rows.share_at_most(ENDS[str(rows.activation)].low or 0.0)


def saturation_high(rows: Rows) -> Tensor:
    """Return the share of finite values that are saturated at the high end, (k,)."""
    return rows.share_at_least(ENDS[str(rows.activation)].high or 0.0)


def saturation(low: Number, high: Number) -> Number:
    """Return the share of values saturated at either end.

    >>> saturation(0.25, 0.5)
    0.75
    """
    return low + high
