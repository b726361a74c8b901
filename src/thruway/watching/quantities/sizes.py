"""How many numbers a quantity may give: one for each site, unless its row says that more are meant."""

import dataclasses
from collections.abc import Callable

from torch import Tensor

from thruway.errors import ShapeError
from thruway.watching.quantities.rows import Rows
from thruway.watching.quantities.table import QUANTITIES, Quantity

__all__ = ["held_to_its_size"]


def held_to_its_size(quantity: Quantity) -> Quantity:
    """The quantity, refusing to give more numbers than its row says.

    Whoever forgets to reduce gets a copy of every activation, at every site and step, and no word of it. Rows of the
    table, and what looks back over a window of steps, are as they should be.
    """
    if quantity.window is not None or QUANTITIES.get(quantity.name) is quantity:
        return quantity
    return dataclasses.replace(quantity, measure=_checked(quantity))


def _checked(quantity: Quantity) -> Callable[[Rows], Tensor]:
    def measure(rows: Rows) -> Tensor:
        found = quantity.measure(rows)
        sites = len(rows.values)
        if not isinstance(found, Tensor) or found.shape[:1] != (sites,) or found.dim() > 2:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ShapeError(f"the quantity {quantity.name!r} gave {got} for Rows of k = {sites}. XX")
        if found.dim() == 2 and quantity.numbers == 1 == found.shape[1]:
            raise ShapeError(
                f"the quantity {quantity.name!r} gave (k, 1). For one number per tensor give (k,): squeeze(1)."
            )
        if found.dim() == 2 and found.shape[1] > quantity.numbers:
            each = found.shape[1]
            raise ShapeError(
                f"the quantity {quantity.name!r} gave {each:,} numbers for a tensor of {rows.count:,} values, and may "
                f"give {quantity.numbers:,}. Reduce them to one per tensor, (k,), such as by .mean(1); or if they are "
                f"meant, say Quantity(..., numbers={each}): that many are kept of every site and step."
            )
        return found

    return measure
