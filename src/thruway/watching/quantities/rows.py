"""Same-shaped tensors of several sites in one block, and the reductions that quantities share.

Reductions run row by row over the whole block in one call, and each is computed once however many
quantities ask for it. On the CPU a look at the extremes picks the plain formulas, which suffice for
finite numbers; rows whose squares would not be normal numbers are scaled by their largest value, so that
1e-30 is not squared into 0, nor 1e30 into infinity. Where something is not finite, and on devices where
looking would wait for the device, non-finite values are left out and every row is scaled.
"""

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["STEEP", "Rows", "flat_rows"]

# Root mean squares in here have a normal square, and values whose squares underflow are too small to matter.
_TAME = {torch.float32: (1e-15, 1e18), torch.float64: (1e-150, 1e150)}
# Up to this ratio of squared mean to variance, E[x^2] - mean^2 is good to about 1e-5 in float32.
STEEP = 30.0


T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 - a decorator, read like @property
    """A property computed at its first reading; functools.cached_property takes a lock each time before Python 3.12."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, owner: Any, kind: type) -> T:
        value = owner.__dict__[self._name] = self._compute(owner)
        return value


def flat_rows(values: Tensor) -> Tensor:
    """(k, ...) as (k, n), in whatever order of elements is free of a copy."""
    if values.dim() == 3 and values.stride(1) == 1 and values.stride(2) == values.shape[1] > 1:
        values = values.mT  # features before inputs, as a HighwayStack keeps them
    return values.reshape(values.shape[0], -1)


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
        self._shares_equal: dict[float, Tensor] = {}

    @once
    def flat(self) -> Tensor:
        """(k, n), in whatever order of elements is free of a copy."""
        return flat_rows(self.values)

    @property
    def count(self) -> int:
        """n, the values in each row."""
        return self.flat.shape[1]

    @property
    def inputs(self) -> tuple[int, ...]:
        """The dimensions of `values` that count inputs (samples, positions): neither rows nor units."""
        if self.values.dim() == 1:  # of single numbers, each its own unit
            return ()
        units = self.unit_dim % (self.values.dim() - 1) + 1
        return tuple(d for d in range(1, self.values.dim()) if d != units)

    # Sums come first: they tell whether the plain formulas will do.

    @once
    def _raw_mean(self) -> Tensor:
        return self.flat.mean(1)

    @once
    def _raw_size(self) -> Tensor:
        """Root mean square, where squares neither overflow nor underflow."""
        return _norm(self.flat) / math.sqrt(self.count)

    @once
    def is_plain(self) -> bool:
        """Everything is known to be finite, and so is its square: a sum of squares is if all its parts are."""
        if not self._is_looked_at or self.values.numel() == 0:
            return False
        return bool(np.isfinite(self._raw_size.numpy()).all() and np.isfinite(self._raw_mean.numpy()).all())

    @once
    def _is_tame(self) -> bool:
        """Squares of a plain block neither overflow nor underflow."""
        least, most = _TAME[self.values.dtype]
        size = self._raw_size.numpy()
        small = size <= least
        return bool((size < most).all()) and (
            not small.any() or not self.abs_max.numpy()[small].any()
        )  # zeros are no trouble

    @once
    def _raw_low(self) -> Tensor:
        return self.flat.amin(1)

    @once
    def _raw_high(self) -> Tensor:
        return self.flat.amax(1)

    @once
    def finite(self) -> Tensor:
        """(k, n), bool."""
        return torch.isfinite(self.flat)

    @once
    def finite_count(self) -> Tensor:
        """(k,): the finite values in each row."""
        if self.is_plain:
            return self.flat.new_full(self.flat.shape[:1], self.count)
        return self.finite.sum(1).to(self.flat.dtype)

    @once
    def low(self) -> Tensor:
        """(k,): the smallest finite value; NaN where there is none."""
        return self._raw_low if self.is_plain else self._extreme(math.inf)

    @once
    def high(self) -> Tensor:
        """(k,): the largest finite value; NaN where there is none."""
        return self._raw_high if self.is_plain else self._extreme(-math.inf)

    def _extreme(self, fill: float) -> Tensor:
        if self.count == 0:
            return self.flat.new_full(self.flat.shape[:1], math.nan)
        filled = torch.where(self.finite, self.flat, fill)
        extreme = filled.amin(1) if fill > 0 else filled.amax(1)
        return torch.where(torch.isfinite(extreme), extreme, math.nan)

    @once
    def abs_max(self) -> Tensor:
        """(k,)"""
        return torch.maximum(-self.low, self.high)

    @once
    def _scale(self) -> Tensor:
        scale = torch.nan_to_num(self.abs_max, nan=1.0)
        return torch.where(scale > 0, scale, 1.0)

    @once
    def _scaled(self) -> Tensor:
        """(k, n): finite values over the row's largest, 0 elsewhere."""
        return torch.where(self.finite, self.flat, 0.0) / self._scale[:, None]

    @once
    def ascending(self) -> Tensor:
        """(k, n): each row sorted, its finite values first."""
        finite = self.flat if self.is_plain else torch.where(self.finite, self.flat, math.inf)
        if finite.device.type == "cpu":  # NumPy's sort is four times as fast there
            return torch.from_numpy(np.sort(finite.numpy(), axis=1))
        return finite.sort(1).values

    @once
    def mean(self) -> Tensor:
        """(k,)"""
        if self.is_plain:
            return self._raw_mean
        return self._scaled.sum(1) / self.finite_count * self._scale

    @once
    def root_mean_square(self) -> Tensor:
        """(k,)"""
        if self.is_plain and self._is_tame:
            return self._raw_size
        if self.is_plain:
            scaled = torch.div(self.flat, self._scale[:, None], out=self._scratch)
            return _norm(scaled) / math.sqrt(self.count) * self._scale
        return _norm(self._scaled) / self.finite_count.sqrt() * self._scale

    @once
    def std(self) -> Tensor:
        """(k,): the population standard deviation."""
        if not self.is_plain or (self.values.dtype == torch.float64 and not self._is_tame):
            mean = self.mean / self._scale
            centred = torch.where(self.finite, self._scaled - mean[:, None], 0.0)
            return _norm(centred) / self.finite_count.sqrt() * self._scale
        square = np.square(self.root_mean_square.numpy(), dtype=np.float64)
        mean_square = np.square(self.mean.numpy(), dtype=np.float64)
        variance = square - mean_square
        std = torch.from_numpy(np.sqrt(np.maximum(variance, 0.0))).to(self.flat.dtype)
        steep = mean_square >= STEEP * variance
        if steep.any():
            if self._is_tame:
                spread = _spread(torch.sub(self.flat, self.mean[:, None], out=self._scratch))
            else:  # over the scale first, so that differences do not underflow
                spread = _spread(self._scaled - (self.mean / self._scale)[:, None]) * self._scale
            spread = torch.where(self.low == self.high, 0.0, spread)  # the mean of equal values is rounded
            std = torch.where(torch.from_numpy(steep), spread, std)
        return std

    @once
    def _scratch(self) -> Tensor:
        if self._memory is None:
            return torch.empty_like(self.flat)
        return self._memory[: self.flat.numel()].view(self.flat.shape)

    # Shares are of the finite values.

    def share_equal(self, value: float) -> Tensor:
        """(k,): the share of values equal to this one."""
        share = self._shares_equal.get(value)
        if share is None:
            share = self._shares_equal[value] = self._share(torch.eq, value)
        return share

    def share_at_most(self, value: float) -> Tensor:
        """(k,): the share of values that are not above this one."""
        if self.is_plain and (least := self.low.numpy().min()) >= value:
            return self.share_equal(value) if least == value else self._none
        return self._share(torch.le, value)

    def share_at_least(self, value: float) -> Tensor:
        """(k,): the share of values that are not below this one."""
        if self.is_plain and self.high.numpy().max() < value:
            return self._none
        return self._share(torch.ge, value)

    @once
    def _none(self) -> Tensor:
        """(k,) zeros."""
        return self.flat.new_zeros(self.flat.shape[0])

    def _share(self, compare: Callable[..., Tensor], value: float) -> Tensor:
        # Comparing into floats and adding those up is several times faster on the CPU than counting booleans.
        met = compare(self.flat, value, out=self._scratch)
        if not self.is_plain:
            met = torch.where(self.finite, met, 0.0)
        return met.sum(1) / self.finite_count

    @once
    def nan_count(self) -> Tensor:
        """(k,)"""
        return self._count_of(torch.isnan)

    @once
    def inf_count(self) -> Tensor:
        """(k,)"""
        return self._count_of(torch.isinf)

    def _count_of(self, test: Callable[[Tensor], Tensor]) -> Tensor:
        if self.is_plain:
            return self._none
        return test(self.flat).sum(1).to(self.flat.dtype)


def _spread(centred: Tensor) -> Tensor:
    """Standard deviation of what lies nearly about 0: the mean it was centred at was itself rounded."""
    count, offset = centred.shape[1], centred.mean(1).double()
    square = _norm(centred).double().square() / count
    return (square - offset.square()).clamp_min(0).sqrt().to(centred.dtype)


def _norm(rows: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norm
