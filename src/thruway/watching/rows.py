"""Same-shaped tensors of several sites in one block, and the reductions that quantities share.

Reductions run row by row over the whole block in one call, and each is computed once however many
quantities ask for it. On the CPU a look at the extremes picks the plain formulas, which suffice for
finite numbers of ordinary size. Otherwise, and on devices where looking would wait for the device,
non-finite values are left out and every row is scaled by its largest value, so that 1e-30 is not
squared into 0, nor 1e30 into infinity.
"""

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Rows"]

# Squares of numbers in here, summed over 1e6 values, stay normal float32 numbers.
_TAME = (1e-15, 1e15)
# Up to this ratio of squared mean to variance, E[x^2] - mean^2 loses no more than one decimal digit.
_STEEP = 10.0


class Rows:
    """`values` (k, ...): one tensor per site.

    Args:
        values: float32 or float64.
        activation: the activation that made them all, if one did.
        unit_dim: the dimension of one tensor that counts units.
        careful: take the formulas that hold for any numbers, without looking at them first.
        scratch: at least k·n numbers of memory to work in.
    """

    def __init__(
        self,
        values: Tensor,
        activation: str | None = None,
        unit_dim: int = -1,
        *,
        careful: bool = False,
        scratch: Tensor | None = None,
    ) -> None:
        self.values = values
        self.activation = activation
        self.unit_dim = unit_dim
        self._is_looked_at = values.device.type == "cpu" and not careful
        self._memory = scratch

    @cached_property
    def flat(self) -> Tensor:
        """(k, n), in whatever order of elements is free of a copy."""
        if self.values.dim() == 3 and not self.values.is_contiguous() and self.values.mT.is_contiguous():
            return self.values.mT.flatten(1)
        return self.values.reshape(len(self.values), -1)

    @property
    def count(self) -> int:
        """n, the values in each row."""
        return self.flat.shape[1]

    @property
    def inputs(self) -> tuple[int, ...]:
        """The dimensions of `values` that count inputs (samples, positions): neither rows nor units."""
        units = self.unit_dim % (self.values.dim() - 1) + 1
        return tuple(d for d in range(1, self.values.dim()) if d != units)

    # The extremes come first: they tell whether the plain formulas will do.

    @cached_property
    def _raw_extremes(self) -> tuple[Tensor, Tensor]:
        return self.flat.amin(1), self.flat.amax(1)

    @cached_property
    def _seen_extremes(self) -> tuple[list[float], list[float]]:
        low, high = self._raw_extremes
        return low.tolist(), high.tolist()

    @cached_property
    def is_plain(self) -> bool:
        """Everything is known to be finite and of a size whose square is a normal number."""
        if not self._is_looked_at or self.values.numel() == 0:
            return False
        wild_low, wild_high = _TAME
        if self.values.dtype == torch.float64:
            wild_low, wild_high = 1e-150, 1e150
        for low, high in zip(*self._seen_extremes, strict=True):
            size = max(-low, high)
            if not (wild_low < size < wild_high or (size == 0 and low == 0)) or math.isnan(low):
                return False
        return True

    @cached_property
    def finite(self) -> Tensor:
        """(k, n), bool."""
        return torch.isfinite(self.flat)

    @cached_property
    def finite_count(self) -> Tensor:
        """(k,): the finite values in each row."""
        if self.is_plain:
            return self.flat.new_full((len(self.flat),), self.count)
        return self.finite.sum(1).to(self.flat.dtype)

    @cached_property
    def low(self) -> Tensor:
        """(k,): the smallest finite value; NaN where there is none."""
        return self._raw_extremes[0] if self.is_plain else self._extreme(math.inf)

    @cached_property
    def high(self) -> Tensor:
        """(k,): the largest finite value; NaN where there is none."""
        return self._raw_extremes[1] if self.is_plain else self._extreme(-math.inf)

    def _extreme(self, fill: float) -> Tensor:
        if self.count == 0:
            return self.flat.new_full((len(self.flat),), math.nan)
        filled = torch.where(self.finite, self.flat, fill)
        extreme = filled.amin(1) if fill > 0 else filled.amax(1)
        return torch.where(torch.isfinite(extreme), extreme, math.nan)

    @cached_property
    def abs_max(self) -> Tensor:
        """(k,)"""
        return torch.maximum(-self.low, self.high)

    @cached_property
    def _scale(self) -> Tensor:
        scale = torch.nan_to_num(self.abs_max, nan=1.0)
        return torch.where(scale > 0, scale, 1.0)

    @cached_property
    def _scaled(self) -> Tensor:
        """(k, n): finite values over the row's largest, 0 elsewhere."""
        return torch.where(self.finite, self.flat, 0.0) / self._scale[:, None]

    @cached_property
    def mean(self) -> Tensor:
        """(k,)"""
        if self.is_plain:
            return self.flat.mean(1)
        return self._scaled.sum(1) / self.finite_count * self._scale

    @cached_property
    def root_mean_square(self) -> Tensor:
        """(k,)"""
        if self.is_plain:
            return _norm(self.flat) / math.sqrt(self.count)
        return _norm(self._scaled) / self.finite_count.sqrt() * self._scale

    @cached_property
    def std(self) -> Tensor:
        """(k,): the population standard deviation."""
        if not self.is_plain:
            mean = self.mean / self._scale
            centred = torch.where(self.finite, self._scaled - mean[:, None], 0.0)
            return _norm(centred) / self.finite_count.sqrt() * self._scale
        square, mean_square = self.root_mean_square.double().square(), self.mean.double().square()
        variance = square - mean_square
        steep = [m >= _STEEP * v for m, v in zip(mean_square.tolist(), variance.tolist(), strict=True)]
        std = variance.clamp_min(0).sqrt().to(self.flat.dtype)
        if any(steep):
            at = torch.tensor(steep)
            centred = self.flat[at] - self.mean[at, None]
            std[at] = _norm(centred) / math.sqrt(self.count)
        return std

    @cached_property
    def _scratch(self) -> Tensor:
        if self._memory is None:
            return torch.empty_like(self.flat)
        return self._memory[: self.flat.numel()].view(self.flat.shape)

    # Shares are of the finite values.

    def share_equal(self, value: float) -> Tensor:
        """(k,): the share of values equal to this one."""
        if self.is_plain and self._is_outside(value):
            return self.flat.new_zeros(len(self.flat))
        return self._share(torch.eq, value)

    def share_at_most(self, value: float) -> Tensor:
        """(k,): the share of values that are not above this one."""
        if self.is_plain and min(self._seen_extremes[0]) > value:
            return self.flat.new_zeros(len(self.flat))
        return self._share(torch.le, value)

    def share_at_least(self, value: float) -> Tensor:
        """(k,): the share of values that are not below this one."""
        if self.is_plain and max(self._seen_extremes[1]) < value:
            return self.flat.new_zeros(len(self.flat))
        return self._share(torch.ge, value)

    def _is_outside(self, value: float) -> bool:
        lows, highs = self._seen_extremes
        return all(not low <= value <= high for low, high in zip(lows, highs, strict=True))

    def _share(self, compare: Callable[..., Tensor], value: float) -> Tensor:
        # Comparing into floats and adding those up is several times faster on the CPU than counting booleans.
        met = compare(self.flat, value, out=self._scratch)
        if not self.is_plain:
            met = torch.where(self.finite, met, 0.0)
        return met.sum(1) / self.finite_count

    @cached_property
    def nan_count(self) -> Tensor:
        """(k,)"""
        return self._count_of(torch.isnan)

    @cached_property
    def inf_count(self) -> Tensor:
        """(k,)"""
        return self._count_of(torch.isinf)

    def _count_of(self, test: Callable[[Tensor], Tensor]) -> Tensor:
        if self.is_plain:
            return self.flat.new_zeros(len(self.flat))
        return test(self.flat).sum(1).to(self.flat.dtype)


def _norm(rows: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norm
