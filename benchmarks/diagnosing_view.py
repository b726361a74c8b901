"""The numbers of a trace as rules with fixed thresholds read them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thruway.errors import ConfigError
from thruway.watching import Trace

__all__ = ["Array", "Sites", "Test", "View"]

Sites = list[tuple[str, int]]  # names with the first step over the threshold
Array = NDArray[np.float64]
Test = Callable[[Array], Array]


@dataclass(frozen=True)
class View:
    """The numbers of a trace and the losses, by quantity."""

    trace: Trace
    losses: list[float]

    def of(
        self, quantity: str, kind: str = "output", operations: tuple[str, ...] = ()
    ) -> tuple[list[str], Array, Array]:
        """Return the names of the sites, the steps, and the values (sites, steps); empty if nothing was measured."""
        try:
            series = self.trace.series(quantity, kind)  # type: ignore[arg-type]
        except ConfigError:
            return [], np.empty(0), np.empty((0, 0))
        kept = [i for i, s in enumerate(series.sites) if not operations or (s.activation or "") in operations]
        return [series.names[i] for i in kept], series.steps, series.values[kept]

    def over(
        self, test: Callable[[Array], Array], quantity: str, kind: str = "output", operations: tuple[str, ...] = ()
    ) -> Sites:
        """Return the sites where a test of the values is ever true."""
        names, steps, values = self.of(quantity, kind, operations)
        with np.errstate(all="ignore"):
            hit = test(values) if len(names) else np.empty((0, 0), bool)
        return [(name, int(steps[row.argmax()])) for name, row in zip(names, hit, strict=True) if row.any()]

    def first_and_last_gradient(self) -> tuple[list[str], Array, Array, Array]:
        """Return names and sizes of the gradients at the first and the last parameter that has one."""
        names, steps, values = self.of("std", "parameter_gradient")
        weights = [i for i, n in enumerate(names) if "bias" not in n]
        if len(weights) < 2:
            return [], steps, np.empty(0), np.empty(0)
        return [names[weights[0]]], steps, values[weights[0]], values[weights[-1]]
