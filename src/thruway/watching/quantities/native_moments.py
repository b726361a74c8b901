"""What Moments measures, with the compiled sweep: float32 on the CPU, each tensor at once and read only once."""

import ctypes
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thruway.watching.operations import ENDS, Ends
from thruway.watching.quantities.native_library import SUMS, Plan, native_sweep
from thruway.watching.sites import Site

__all__ = ["Swept"]

_ROW = SUMS * 8  # bytes that a row's sums take
_PLAIN = (Tensor, nn.Parameter)


class Swept:
    """As Moments: means, standard deviations and shares of `count` float32 numbers each, as they came."""

    def __init__(self, count: int, activation: str | None = None, shares: Iterable[str] = ()) -> None:
        sweep = native_sweep()
        if sweep is None:
            raise RuntimeError("there is no compiled sweep here; Moments measures the same.")
        self.count = count
        self._sweep = sweep
        self._activation = activation
        self._shares = tuple(shares)
        ends = ENDS.get(str(activation), Ends(None, None))
        low, high = (math.nan if end is None else end for end in (ends.low, ends.high))  # no number is at NaN
        self._plan = Plan(count, bool(self._shares), low, high)
        self._plan_at = ctypes.addressof(self._plan)
        self._sites: list[Site] = []
        self._latest: tuple[Site, ...] = ()
        self._sums = np.zeros((0, SUMS))
        self._rows_at = np.zeros(0, dtype=np.int64)
        self._reserve(16)

    def __reduce__(self) -> tuple[Any, ...]:
        return Swept, (self.count, self._activation, self._shares)  # addresses mean nothing in a copy

    def _reserve(self, rows: int) -> None:
        sums = np.zeros((rows, SUMS))
        sums[: len(self._sums)] = self._sums
        self._sums, self._sums_at = sums, sums.ctypes.data
        self._rows_at = np.zeros(rows, dtype=np.int64)
        self._rows_at_at = self._rows_at.ctypes.data

    def take(self, site: Site, tensor: Tensor) -> bool:
        """Measure one tensor now, while it is still in the processor's cache; False if it needs more care."""
        if not _is_plain(tensor):
            return False
        if not tensor.is_contiguous() and not _is_channels_last(tensor):
            tensor = tensor.detach().contiguous()
        sites = self._sites
        taken = len(sites)
        if taken == len(self._sums):
            self._reserve(2 * taken)
        if not self._sweep.rows(self._plan_at, tensor.data_ptr(), 1, 0, self._sums_at + taken * _ROW):
            return False
        sites.append(site)
        return True

    def take_each(self, sites: list[Site], tensors: list[Tensor]) -> bool:
        """The same for several in one call, which for small ones costs more than its work; all of them or none."""
        if not all(map(_is_plain, tensors)):
            return False
        whole = [t if t.is_contiguous() or _is_channels_last(t) else t.detach().contiguous() for t in tensors]
        taken, rows = len(self._sites), len(sites)
        if taken + rows > len(self._sums):
            self._reserve(2 * (taken + rows))
        self._rows_at[:rows] = [tensor.data_ptr() for tensor in whole]
        if not self._sweep.each(self._plan_at, self._rows_at_at, rows, self._sums_at + taken * _ROW):
            return False
        self._sites += sites
        return True

    def take_rows(self, sites: tuple[Site, ...], flat: Tensor) -> bool:
        """The same for (k, count), a row per site; all of them or none."""
        if not _is_plain(flat):
            return False
        if flat.stride(1) != 1:
            flat = flat.contiguous()
        taken, rows = len(self._sites), len(sites)
        if taken + rows > len(self._sums):
            self._reserve(2 * (taken + rows))
        if not self._sweep.rows(self._plan_at, flat.data_ptr(), rows, flat.stride(0), self._sums_at + taken * _ROW):
            return False
        self._sites += sites
        return True

    def drain(self) -> tuple[tuple[Site, ...], dict[str, NDArray[Any]]]:
        """The sites and, by name of the quantity, their numbers; they are forgotten here."""
        # The same tuple as long as the sites are the same: whoever compares layouts will be quick.
        sites = self._latest = self._latest if self._sites == list(self._latest) else tuple(self._sites)
        self._sites = []
        parts = self._sums[: len(sites)] / self.count
        mean = parts[:, 0]
        none = np.zeros(len(sites), dtype=np.float32)
        numbers = {
            "mean": mean.astype(np.float32),
            "std": np.sqrt(np.maximum(parts[:, 1] - mean * mean, 0.0)).astype(np.float32),
            "nan": none,
            "inf": none,
        }
        for column, name in enumerate(("zeros", "saturation_low", "saturation_high"), start=2):
            if name in self._shares:
                numbers[name] = parts[:, column].astype(np.float32)
        return sites, numbers

    def forget(self) -> None:
        """Drop what was taken."""
        self._sites = []

    def drop_memory(self) -> None:
        """Nothing of the model's is ever held."""


def _is_plain(tensor: Tensor) -> bool:
    """Its numbers lie in memory as they are: no subclass of its own mind, no negated view, no symbol for zeros."""
    return type(tensor) in _PLAIN and tensor.is_cpu and not tensor.is_neg() and tensor.data_ptr() != 0


def _is_channels_last(tensor: Tensor) -> bool:
    """Without gaps, though in another order, which no number here depends on."""
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
