"""Percentiles of a block, all read off one sorting of it."""

import math

import torch
from torch import Tensor

from thruway.watching.quantities.rows import Rows

__all__ = ["percentile"]


def percentile(rows: Rows, percent: float) -> Tensor:
    """The value below which `percent` of a tensor's finite values lie, interpolated linearly between neighbours.

    Args:
        rows: a block of k tensors.
        percent: from 0 (the smallest value) to 100 (the largest).
    Returns:
        (k,), in the tensors' unit; NaN where no value is finite.
    Source:
        Hyndman & Fan 1996, definition 7, which is NumPy's usual one.

    >>> percentile(Rows(torch.tensor([[3.0, 1.0, 2.0, float("nan")]])), 75)
    tensor([2.5000])
    """
    if rows.count == 0:
        return rows.flat.new_full((len(rows.flat),), math.nan)
    last = rows.finite_count.double() - 1
    position = last * (percent / 100)
    below = position.floor().clamp_min(0)
    above = torch.minimum(below + 1, last.clamp_min(0))
    at = torch.stack([below, above], 1).long()
    left, right = rows.ascending.gather(1, at).double().unbind(1)
    share = position - below
    # Not left + (right - left)·share: the difference of two finite numbers can overflow.
    value = torch.where(left == right, left, left * (1 - share) + right * share)
    return torch.where(last >= 0, value, math.nan).to(rows.flat.dtype)
