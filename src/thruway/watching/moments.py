"""Mean and spread of one tensor at the moment it is handed in, while it is still in the processor's cache.

Stacking many small tensors saves calls; a large one is cheaper read twice where it lies than copied, held
and read later from memory. Only for the CPU, where looking at a number waits for nothing.
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
    """Means and standard deviations of equally many numbers each, in the order they came."""

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        self.count = count
        self.sites: list[Site] = []
        self._dtype = dtype
        self._least, self._most = _TAME[dtype]
        self._means: list[float] = []
        self._stds: list[float] = []

    def take(self, site: Site, tensor: Tensor) -> bool:
        """Measure this tensor; False if that needs more care: other strides, numbers that are not finite, or wild."""
        if not tensor.is_contiguous():
            return False
        flat = tensor.detach().view(-1)
        square = float(torch.dot(flat, flat)) / self.count
        mean = float(flat.sum()) / self.count
        variance = square - mean * mean
        # A NaN fails every comparison.
        if not (self._least < square * self.count < self._most and mean * mean < STEEP * variance):
            return False
        self.sites.append(site)
        self._means.append(mean)
        self._stds.append(math.sqrt(variance))
        return True

    def drain(self) -> tuple[tuple[Site, ...], dict[str, NDArray[Any]]]:
        """The sites and, by name of the quantity, their numbers; they are forgotten here."""
        dtype = np.float32 if self._dtype == torch.float32 else np.float64
        sites, none = tuple(self.sites), np.zeros(len(self.sites), dtype=dtype)
        numbers = {
            "mean": np.array(self._means, dtype=dtype),
            "std": np.array(self._stds, dtype=dtype),
            "nan": none,
            "inf": none,
        }
        self.forget()
        return sites, numbers

    def forget(self) -> None:
        """Drop what was taken."""
        self.sites, self._means, self._stds = [], [], []
