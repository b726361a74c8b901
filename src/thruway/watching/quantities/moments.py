"""Mean, standard deviation, zeros and saturation by the fastest formulas, for sites where nothing else is measured.

They are only used on the CPU, where reading a number needs no synchronisation. Tensors that need other formulas are
rejected and measured by Rows: those with other strides, values that are not finite, squares outside the range of the
dtype, or a mean much larger than the standard deviation.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thruway.watching.quantities.rows import STEEP
from thruway.watching.quantities.saturation import ends_of
from thruway.watching.sites import Site

__all__ = ["MOMENTS", "SHARES", "Moments"]

# The quantities measured here; all others need Rows.
MOMENTS = frozenset(("mean", "std", "nan", "inf"))
SHARES = frozenset(("zeros", "saturation_low", "saturation_high"))

# Above this ratio of squared mean to variance, a row may be constant and its spread the rounding error of its mean.
_CONSTANT = 1e8

# Sums of squares in this range have neither overflowed nor lost a relevant part to underflow.
_SAFE_SUM = {torch.float32: (1e-26, 1e37), torch.float64: (1e-290, 1e305)}


class Moments:
    """Means, standard deviations and, for outputs of an activation, shares, of tensors with `count` numbers each."""

    def __init__(
        self, dtype: torch.dtype, count: int, activation: str | None = None, shares: Iterable[str] = ()
    ) -> None:
        self.count = count
        self._least, self._most = _SAFE_SUM[dtype]
        self._dtype = np.float32 if dtype == torch.float32 else np.float64
        self._activation = activation
        self._ends = ends_of(activation)
        self._sites: list[Site] = []
        self._numbers: dict[str, list[float]] = {name: [] for name in ("mean", "std", *shares)}
        self._shares = tuple(shares)
        self._scratch: Tensor | None = None

    def add(self, site: Site, tensor: Tensor) -> bool:
        """Measure a tensor immediately, while it is in the processor's cache.

        Return False if it needs the formulas of Rows.
        """
        if not tensor.is_contiguous():
            return False
        flat = tensor.detach().view(-1)
        square = float(torch.dot(flat, flat))
        mean = float(flat.sum()) / self.count
        variance = square / self.count - mean * mean
        # A NaN fails every comparison.
        if not (self._least < square < self._most and mean * mean < STEEP * variance):
            return False
        self._sites.append(site)
        self._numbers["mean"].append(mean)
        self._numbers["std"].append(math.sqrt(variance))
        for name in self._shares:
            self._numbers[name] += self._row_shares(name, flat.unsqueeze(0))
        return True

    def add_rows(self, sites: tuple[Site, ...], flat: Tensor) -> bool:
        """Measure all rows of a tensor (k, count), one per site, or none of them."""
        size = torch.linalg.vector_norm(flat, dim=1).numpy().astype(np.float64)
        if not (math.sqrt(self._least) < size.min() and size.max() < math.sqrt(self._most)):
            return False
        means = flat.mean(1)
        mean = means.numpy().astype(np.float64)
        variance = size * size / self.count - mean * mean
        if not (mean * mean < STEEP * variance).all():  # gates that hardly vary: squares about their means
            centred = torch.sub(flat, means[:, None], out=self._scratch_like(flat))
            variance = np.square(torch.linalg.vector_norm(centred, dim=1).numpy(), dtype=np.float64) / self.count
            variance -= np.square(centred.mean(1).numpy(), dtype=np.float64)  # the subtracted mean was rounded
            if not (mean * mean < _CONSTANT * variance).all():
                return False
        self._sites += sites
        self._numbers["mean"] += mean.tolist()
        self._numbers["std"] += np.sqrt(variance).tolist()
        for name in self._shares:
            self._numbers[name] += self._row_shares(name, flat)
        return True

    def _row_shares(self, name: str, flat: Tensor) -> list[float]:
        low, high, rows = self._ends.low, self._ends.high, flat.shape[0]
        if name == "zeros":
            return self._shares_where(torch.eq, flat, 0.0)
        if name == "saturation_low" and low is not None:
            if self._ends.low_is_minimum:
                zeros = self._numbers.get("zeros")
                return zeros[-rows:] if zeros and low == 0.0 else self._shares_where(torch.eq, flat, low)
            return self._shares_where(torch.le, flat, low) if float(flat.amin()) <= low else [0.0] * rows
        if name == "saturation_high" and high is not None:
            return self._shares_where(torch.ge, flat, high) if float(flat.amax()) >= high else [0.0] * rows
        raise ValueError(f"{self._activation} has no {name}")

    def _shares_where(self, compare: Callable[..., Tensor], flat: Tensor, value: float) -> list[float]:
        shares: list[float] = (compare(flat, value, out=self._scratch_like(flat)).sum(1) / self.count).tolist()
        return shares

    def _scratch_like(self, like: Tensor) -> Tensor:
        """Return reused memory for this many numbers."""
        if self._scratch is None or self._scratch.numel() < like.numel():
            self._scratch = torch.empty(like.numel(), dtype=like.dtype)
        return self._scratch[: like.numel()].view(like.shape)

    def drain(self) -> tuple[tuple[Site, ...], dict[str, NDArray[Any]]]:
        """Return the sites and their numbers by quantity, and remove them."""
        sites, zeros = tuple(self._sites), np.zeros(len(self._sites), dtype=self._dtype)
        numbers = {name: np.array(values, dtype=self._dtype) for name, values in self._numbers.items()}
        self.clear()
        return sites, numbers | {"nan": zeros, "inf": zeros}

    def clear(self) -> None:
        """Remove the numbers measured so far."""
        self._sites = []
        self._numbers = {name: [] for name in self._numbers}

    def free_scratch(self) -> None:
        """Release the reused memory."""
        self._scratch = None
