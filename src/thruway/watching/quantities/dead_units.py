"""Units that did nothing for a while: the memory behind quantities that look back."""

import torch
from torch import Tensor

from thruway.watching.quantities.table import Quantity
from thruway.watching.sites import Site

__all__ = ["LastActive"]


class LastActive:
    """The share of units that did nothing in the last `window` samples, exactly, from one number per unit.

    Remembering when each unit was last active needs no history of the window.
    """

    def __init__(self) -> None:
        self._samples: dict[tuple[str, Site], tuple[int, Tensor]] = {}

    def __call__(self, quantity: Quantity, sites: tuple[Site, ...], active: Tensor) -> Tensor:
        """active (k, units) -> (k,). The window is as long as the past, until that is longer."""
        assert quantity.window is not None
        shares = []
        for site, row in zip(sites, active, strict=True):
            seen, last = self._samples.get((quantity.name, site), (0, None))
            if last is None or last.shape != row.shape:
                seen, last = 0, torch.full_like(row, -1, dtype=torch.int32)
            last = torch.where(row, seen, last)
            self._samples[quantity.name, site] = seen + 1, last
            shares.append((last < max(0, seen + 1 - quantity.window)).float().mean())
        return torch.stack(shares)
