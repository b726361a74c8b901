"""States of the parameters over the steps of a trace: trainable, in the optimizer, with a gradient, stale."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.reading import Parameter, Reading

__all__ = ["ParameterHistory", "histories"]

TRAINABLE, OPTIMIZED, HAS_GRADIENT, STALE = 1, 2, 4, 8  # the bits of watching.ParameterState

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ParameterHistory:
    """The state of one parameter at the steps where it was recorded.

    Attributes:
        parameter: the parameter.
        places: (n,), positions in `Reading.steps` of the steps with a state.
        bits: (n,), the states.
    """

    parameter: Parameter
    places: NDArray[np.int64]
    bits: NDArray[np.int64]

    @property
    def name(self) -> str:
        """The name of the parameter."""
        return self.parameter.name

    def has(self, bit: int) -> Flags:
        """Return (n,), True at the steps whose state has the bit."""
        return np.asarray(self.bits & bit, dtype=np.bool_)

    @property
    def is_trainable(self) -> bool:
        """True if requires_grad was True at some step."""
        return bool(self.has(TRAINABLE).any())

    @property
    def is_optimized(self) -> bool:
        """True if the parameter was in the watched optimizer at some step."""
        return bool(self.has(OPTIMIZED).any())

    @property
    def has_gradient(self) -> bool:
        """True if there was a gradient at some step."""
        return bool(self.has(HAS_GRADIENT).any())

    @property
    def is_weight(self) -> bool:
        """True if the parameter has two or more dimensions, so that it is no bias and no scale of a norm."""
        return len(self.parameter.shape) >= 2


def histories(reading: Reading) -> tuple[ParameterHistory, ...]:
    """Return the history of every parameter whose state was recorded."""
    found = []
    for parameter in reading.parameters:
        places = np.flatnonzero(np.isfinite(parameter.state))
        if len(places):
            found.append(ParameterHistory(parameter, places, parameter.state[places].astype(np.int64)))
    return tuple(found)
