"""Mean and spread without detours, for sites of which no more is wanted, where the numbers are tame.

On the CPU only, where looking at a number waits for nothing. Whatever needs more care is refused here and
goes through Rows: other strides, values that are not finite, squares that would leave the range, a mean
that dwarfs the spread.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thruway.watching.rows import STEEP
from thruway.watching.sites import Site

__all__ = ["Moments"]

# Sums of squares in here have neither overflowed nor lost what matters to underflow.
_TAME = {torch.float32: (1e-26, 1e37), torch.float64: (1e-290, 1e305)}


class Moments:
    """Means and standard deviations of `count` numbers each, in the order they came."""

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        self.count = count
        self._least, self._most = _TAME[dtype]
        self._dtype = np.float32 if dtype == torch.float32 else np.float64
        self._sites: list[Site] = []
        self._means: list[float] = []
        self._stds: list[float] = []

    def take(self, site: Site, tensor: Tensor) -> bool:
        """Measure one tensor now, while it is still in the processor's cache; False if it needs more care."""
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
        self._means.append(mean)
        self._stds.append(math.sqrt(variance))
        return True

    def take_rows(self, sites: tuple[Site, ...], flat: Tensor) -> bool:
        """The same for (k, count), a row per site; all of them or none."""
        size = torch.linalg.vector_norm(flat, dim=1).numpy().astype(np.float64)
        if not (math.sqrt(self._least) < size.min() and size.max() < math.sqrt(self._most)):
            return False
        mean = flat.mean(1).numpy().astype(np.float64)
        mean_square = mean * mean
        variance = size * size / self.count - mean_square
        if not (mean_square < STEEP * variance).all():
            return False
        self._sites += sites
        self._means += mean.tolist()
        self._stds += np.sqrt(variance).tolist()
        return True

    def drain(self) -> tuple[tuple[Site, ...], dict[str, NDArray[Any]]]:
        """The sites and, by name of the quantity, their numbers; they are forgotten here."""
        sites, none = tuple(self._sites), np.zeros(len(self._sites), dtype=self._dtype)
        numbers = {
            "mean": np.array(self._means, dtype=self._dtype),
            "std": np.array(self._stds, dtype=self._dtype),
            "nan": none,
            "inf": none,
        }
        self.forget()
        return sites, numbers

    def forget(self) -> None:
        """Drop what was taken."""
        self._sites, self._means, self._stds = [], [], []
