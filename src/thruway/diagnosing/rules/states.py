"""States of the parameters over the steps of a trace: trainable, in the optimizer, with a gradient, stale."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.reading import Parameter, Reading
from thruway.watching.facts import ParameterState

__all__ = ["ParameterHistory", "histories"]

# Plain integers, since operations of an enum take longer.
TRAINABLE, OPTIMIZED, HAS_GRADIENT, STALE = (int(state) for state in ParameterState)

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ParameterHistory:
    """The state of one parameter at the steps where it was recorded.

    Attributes:
        parameter: the parameter.
        places: (n,), positions in `Reading.steps` of the steps with a state.
        bits: (n,), the states.
        ever: the bits that the parameter had at some step.
    """

    parameter: Parameter
    places: NDArray[np.int64]
    bits: NDArray[np.uint8]
    ever: int

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
        return bool(self.ever & TRAINABLE)

    @property
    def is_optimized(self) -> bool:
        """True if the parameter was in the watched optimizer at some step."""
        return bool(self.ever & OPTIMIZED)

    @property
    def has_gradient(self) -> bool:
        """True if there was a gradient at some step."""
        return bool(self.ever & HAS_GRADIENT)

    @property
    def is_weight(self) -> bool:
        """True if the parameter has two or more dimensions, so that it is no bias and no scale of a norm."""
        return len(self.parameter.shape) >= 2


def histories(reading: Reading) -> tuple[ParameterHistory, ...]:
    """Return the history of every parameter whose state was recorded."""
    everywhere = np.arange(len(reading.steps))
    found = []
    for parameter in reading.parameters:
        is_known = np.isfinite(parameter.state)
        if is_known.any():
            places = everywhere if is_known.all() else np.flatnonzero(is_known)
            bits = parameter.state[places].astype(np.uint8)
            found.append(ParameterHistory(parameter, places, bits, int(np.bitwise_or.reduce(bits))))
    return tuple(found)
