"""Blocks of tensors of the same shape from several sites, and reductions shared by quantities.

One call reduces all rows of the block, and each reduction is computed once, however many quantities use it. On the
CPU the values are checked first. The plain formulas are used for finite values; rows whose squares would not be normal
numbers are scaled by their largest value, so that 1e-30 is not squared into 0, nor 1e30 into infinity. For a block with
a non-finite value, and on devices where a check would synchronise with the host, non-finite values are excluded and
every row is scaled.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["STEEP", "Rows", "flat_rows"]

# Root mean squares in this range have a normal square; values whose squares underflow are too small to matter.
_SAFE_RMS = {torch.float32: (1e-15, 1e18), torch.float64: (1e-150, 1e150)}
# Up to this ratio of squared mean to variance, E[x^2] - mean^2 has a relative error of about 1e-5 in float32.
STEEP = 30.0

T = TypeVar("T")


class cached(Generic[T]):  # noqa: N801 - a decorator, used like @property
    """A property that is computed once.

    Before Python 3.12, functools.cached_property acquires a lock at every access.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, owner: Any, kind: type) -> T:
        value = owner.__dict__[self._name] = self._compute(owner)
        return value


def flat_rows(values: Tensor) -> Tensor:
    """Reshape (k, ...) to (k, n), with the elements in an order that needs no copy."""
    if values.dim() == 3 and values.stride(1) == 1 and values.stride(2) == values.shape[1] > 1:
        values = values.mT  # features before inputs, the layout of HighwayStack
    return values.reshape(values.shape[0], -1)


class Rows:
    """A block of k tensors of the same shape, one per site, and their reductions.

    Args:
        values: (k, ...), float32 or float64.
        activation: activation of which these are outputs; None for other tensors.
        unit_dim: dimension of the units in one tensor.
        careful: If True, use the formulas that are valid for any values, without checking the values.
        scratch: memory for at least k·n numbers, which is overwritten.
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
        self._checks_values = values.device.type == "cpu" and not careful
        self._memory = scratch
        self._shares_equal: dict[float, Tensor] = {}

    @cached
    def flat(self) -> Tensor:
        """The values as (k, n), with the elements in an order that needs no copy."""
        return flat_rows(self.values)

    @property
    def count(self) -> int:
        """n, the number of values in each row."""
        return self.flat.shape[1]

    @property
    def inputs(self) -> tuple[int, ...]:
        """The dimensions of `values` that are inputs (samples, positions), not rows or units."""
        if self.values.dim() == 1:  # a single number per row: one unit, no inputs
            return ()
        units = self.unit_dim % (self.values.dim() - 1) + 1
        return tuple(d for d in range(1, self.values.dim()) if d != units)

    # The sums are computed first: they show whether the plain formulas can be used.

    @cached
    def _raw_mean(self) -> Tensor:
        return self.flat.mean(1)

    @cached
    def _raw_rms(self) -> Tensor:
        """Root mean square by the plain formula, which is correct if squares neither overflow nor underflow."""
        return _norm(self.flat) / math.sqrt(self.count)

    @cached
    def all_finite(self) -> bool:
        """True if all values and their squares are known to be finite, because the sums of both are."""
        if not self._checks_values or self.values.numel() == 0:
            return False
        return bool(np.isfinite(self._raw_rms.numpy()).all() and np.isfinite(self._raw_mean.numpy()).all())

    @property
    def is_plain(self) -> bool:
        """Deprecated name of `all_finite`."""
        warnings.warn("Rows.is_plain is deprecated; use all_finite.", DeprecationWarning, stacklevel=2)
        return self.all_finite

    @cached
    def squares_in_range(self) -> bool:
        """True if squares neither overflow nor underflow, for a block of finite values."""
        least, most = _SAFE_RMS[self.values.dtype]
        size = self._raw_rms.numpy()
        small = size <= least
        return bool((size < most).all()) and (
            not small.any() or not self.abs_max.numpy()[small].any()
        )  # rows of zeros are in range

    @property
    def plain_root_mean_square(self) -> Tensor | None:
        """(k,): the root mean square if it is known that all squares are in range; None otherwise."""
        is_known = self._checks_values and np.isfinite(self._raw_rms.numpy()).all() and self.squares_in_range
        return self._raw_rms if is_known else None

    @cached
    def _raw_low(self) -> Tensor:
        return self.flat.amin(1)

    @cached
    def _raw_high(self) -> Tensor:
        return self.flat.amax(1)

    @cached
    def finite(self) -> Tensor:
        """(k, n), bool: True for finite values."""
        return torch.isfinite(self.flat)

    @cached
    def finite_count(self) -> Tensor:
        """(k,): the number of finite values in each row."""
        if self.all_finite:
            return self.flat.new_full(self.flat.shape[:1], self.count)
        return self.finite.sum(1).to(self.flat.dtype)

    @cached
    def low(self) -> Tensor:
        """(k,): the smallest finite value; NaN if no value is finite."""
        return self._raw_low if self.all_finite else self._extreme(math.inf)

    @cached
    def high(self) -> Tensor:
        """(k,): the largest finite value; NaN if no value is finite."""
        return self._raw_high if self.all_finite else self._extreme(-math.inf)

    def _extreme(self, fill: float) -> Tensor:
        if self.count == 0:
            return self.flat.new_full(self.flat.shape[:1], math.nan)
        filled = torch.where(self.finite, self.flat, fill)
        extreme = filled.amin(1) if fill > 0 else filled.amax(1)
        return torch.where(torch.isfinite(extreme), extreme, math.nan)

    @cached
    def abs_max(self) -> Tensor:
        """(k,): the largest absolute value among the finite ones."""
        return torch.maximum(-self.low, self.high)

    @cached
    def _scale(self) -> Tensor:
        scale = torch.nan_to_num(self.abs_max, nan=1.0)
        return torch.where(scale > 0, scale, 1.0)

    @cached
    def _scaled(self) -> Tensor:
        """(k, n): finite values divided by the row's largest absolute value, 0 elsewhere."""
        return torch.where(self.finite, self.flat, 0.0) / self._scale[:, None]

    @cached
    def ascending(self) -> Tensor:
        """(k, n): the rows sorted, with non-finite values last."""
        finite = self.flat if self.all_finite else torch.where(self.finite, self.flat, math.inf)
        if finite.device.type == "cpu":  # NumPy's sort is four times as fast on the CPU
            return torch.from_numpy(np.sort(finite.numpy(), axis=1))
        return finite.sort(1).values

    @cached
    def mean(self) -> Tensor:
        """(k,): the arithmetic mean."""
        if self.all_finite:
            return self._raw_mean
        return self._scaled.sum(1) / self.finite_count * self._scale

    @cached
    def root_mean_square(self) -> Tensor:
        """(k,): the root mean square."""
        if self.all_finite and self.squares_in_range:
            return self._raw_rms
        if self.all_finite:
            scaled = torch.div(self.flat, self._scale[:, None], out=self._scratch)
            return _norm(scaled) / math.sqrt(self.count) * self._scale
        return _norm(self._scaled) / self.finite_count.sqrt() * self._scale

    @cached
    def std(self) -> Tensor:
        """(k,): the population standard deviation."""
        if not self.all_finite or (self.values.dtype == torch.float64 and not self.squares_in_range):
            mean = self.mean / self._scale
            centred = torch.where(self.finite, self._scaled - mean[:, None], 0.0)
            return _norm(centred) / self.finite_count.sqrt() * self._scale
        square = np.square(self.root_mean_square.numpy(), dtype=np.float64)
        mean_square = np.square(self.mean.numpy(), dtype=np.float64)
        variance = square - mean_square
        std = torch.from_numpy(np.sqrt(np.maximum(variance, 0.0))).to(self.flat.dtype)
        steep = mean_square >= STEEP * variance
        if steep.any():
            if self.squares_in_range:
                spread = _spread(torch.sub(self.flat, self.mean[:, None], out=self._scratch))
            else:  # scaled first, so that differences do not underflow
                spread = _spread(self._scaled - (self.mean / self._scale)[:, None]) * self._scale
            # The mean of equal values is rounded, which would give them a spread.
            spread = torch.where(self.low == self.high, 0.0, spread)
            std = torch.where(torch.from_numpy(steep), spread, std)
        return std

    @cached
    def _scratch(self) -> Tensor:
        if self._memory is None:
            return torch.empty_like(self.flat)
        return self._memory[: self.flat.numel()].view(self.flat.shape)

    # Shares of the finite values

    def share_equal(self, value: float) -> Tensor:
        """(k,): the share of values equal to `value`."""
        share = self._shares_equal.get(value)
        if share is None:
            share = self._shares_equal[value] = self._share(torch.eq, value)
        return share

    def share_at_most(self, value: float) -> Tensor:
        """(k,): the share of values that are at most `value`."""
        if self.all_finite and (least := self.low.numpy().min()) >= value:
            return self.share_equal(value) if least == value else self._zeros
        return self._share(torch.le, value)

    def share_at_least(self, value: float) -> Tensor:
        """(k,): the share of values that are at least `value`."""
        if self.all_finite and self.high.numpy().max() < value:
            return self._zeros
        return self._share(torch.ge, value)

    @cached
    def _zeros(self) -> Tensor:
        """(k,): zeros."""
        return self.flat.new_zeros(self.flat.shape[0])

    def _share(self, compare: Callable[..., Tensor], value: float) -> Tensor:
        # Comparing into floats and summing these is several times as fast on the CPU as counting booleans.
        met = compare(self.flat, value, out=self._scratch)
        if not self.all_finite:
            met = torch.where(self.finite, met, 0.0)
        return met.sum(1) / self.finite_count

    @cached
    def nan_count(self) -> Tensor:
        """(k,): the number of NaN values."""
        return self._count_of(torch.isnan)

    @cached
    def inf_count(self) -> Tensor:
        """(k,): the number of infinite values."""
        return self._count_of(torch.isinf)

    def _count_of(self, test: Callable[[Tensor], Tensor]) -> Tensor:
        return self._zeros if self.all_finite else test(self.flat).sum(1).to(self.flat.dtype)


def _spread(centred: Tensor) -> Tensor:
    """Return the standard deviation of centred rows, corrected for the rounding of the mean that was subtracted."""
    count, offset = centred.shape[1], centred.mean(1).double()
    square = _norm(centred).double().square() / count
    return (square - offset.square()).clamp_min(0).sqrt().to(centred.dtype)


def _norm(rows: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norm
