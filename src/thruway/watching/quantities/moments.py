"""Mean, spread and flat ends without detours, for sites of which no more is wanted, where the numbers are tame.

On the CPU only, where looking at a number waits for nothing. Whatever needs more care is refused here and
goes through Rows: other strides, values that are not finite, squares that would leave the range, a mean
that dwarfs the spread.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thruway.watching.operations import ENDS, Ends
from thruway.watching.quantities.rows import STEEP
from thruway.watching.sites import Site

__all__ = ["MOMENTS", "SHARES", "Moments"]

# What is measured here; everything else is for Rows.
MOMENTS = frozenset(("mean", "std", "nan", "inf"))
SHARES = frozenset(("zeros", "saturation_low", "saturation_high"))

# Activations that never go below their lower end: what is at most there is exactly there.
_CLIPPED = frozenset(("relu", "relu6", "hardtanh", "hardsigmoid"))

# Beyond this ratio of squared mean to variance a row may be constant, and its spread the rounding of its mean.
_CONSTANT = 1e8

# Sums of squares in here have neither overflowed nor lost what matters to underflow.
_TAME = {torch.float32: (1e-26, 1e37), torch.float64: (1e-290, 1e305)}


class Moments:
    """Means, standard deviations and, for an activation's outputs, shares of `count` numbers each, as they came."""

    def __init__(
        self, dtype: torch.dtype, count: int, activation: str | None = None, shares: Iterable[str] = ()
    ) -> None:
        self.count = count
        self._least, self._most = _TAME[dtype]
        self._dtype = np.float32 if dtype == torch.float32 else np.float64
        self._activation = activation
        self._ends = ENDS.get(str(activation), Ends(None, None))
        self._sites: list[Site] = []
        self._numbers: dict[str, list[float]] = {name: [] for name in ("mean", "std", *shares)}
        self._shares = tuple(shares)
        self._scratch: Tensor | None = None

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
        self._numbers["mean"].append(mean)
        self._numbers["std"].append(math.sqrt(variance))
        for name in self._shares:
            self._numbers[name] += self._row_shares(name, flat.unsqueeze(0))
        return True

    def take_rows(self, sites: tuple[Site, ...], flat: Tensor) -> bool:
        """The same for (k, count), a row per site; all of them or none."""
        size = torch.linalg.vector_norm(flat, dim=1).numpy().astype(np.float64)
        if not (math.sqrt(self._least) < size.min() and size.max() < math.sqrt(self._most)):
            return False
        means = flat.mean(1)
        mean = means.numpy().astype(np.float64)
        variance = size * size / self.count - mean * mean
        if not (mean * mean < STEEP * variance).all():  # gates that hardly move: about their means, then
            centred = torch.sub(flat, means[:, None], out=self._memory(flat))
            variance = np.square(torch.linalg.vector_norm(centred, dim=1).numpy(), dtype=np.float64) / self.count
            variance -= np.square(centred.mean(1).numpy(), dtype=np.float64)  # the mean it was centred at was rounded
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
            return self._rows_met(torch.eq, flat, 0.0)
        if name == "saturation_low" and low is not None:
            if self._activation in _CLIPPED:
                zeros = self._numbers.get("zeros")
                return zeros[-rows:] if zeros and low == 0.0 else self._rows_met(torch.eq, flat, low)
            return self._rows_met(torch.le, flat, low) if float(flat.amin()) <= low else [0.0] * rows
        if name == "saturation_high" and high is not None:
            return self._rows_met(torch.ge, flat, high) if float(flat.amax()) >= high else [0.0] * rows
        raise ValueError(f"{name} is no share of {self._activation}")

    def _rows_met(self, compare: Callable[..., Tensor], flat: Tensor, value: float) -> list[float]:
        met: list[float] = (compare(flat, value, out=self._memory(flat)).sum(1) / self.count).tolist()
        return met

    def _memory(self, like: Tensor) -> Tensor:
        """Room for as many numbers, used again and again."""
        if self._scratch is None or self._scratch.numel() < like.numel():
            self._scratch = torch.empty(like.numel(), dtype=like.dtype)
        return self._scratch[: like.numel()].view(like.shape)

    def drain(self) -> tuple[tuple[Site, ...], dict[str, NDArray[Any]]]:
        """The sites and, by name of the quantity, their numbers; they are forgotten here."""
        sites, none = tuple(self._sites), np.zeros(len(self._sites), dtype=self._dtype)
        numbers = {name: np.array(values, dtype=self._dtype) for name, values in self._numbers.items()}
        self.forget()
        return sites, numbers | {"nan": none, "inf": none}

    def forget(self) -> None:
        """Drop what was taken."""
        self._sites = []
        self._numbers = {name: [] for name in self._numbers}

    def drop_memory(self) -> None:
        """Hold no tensor to work in."""
        self._scratch = None
