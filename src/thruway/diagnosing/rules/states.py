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
    bits: NDArray[np.int64]
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
    parameters = [p for p in reading.parameters if np.isfinite(p.state).any()]
    if not parameters:
        return ()
    states = np.stack([p.state for p in parameters])
    known = np.isfinite(states)
    bits = np.where(known, states, 0.0).astype(np.int64)
    ever = np.bitwise_or.reduce(bits, axis=1)
    if known.all():
        places = np.arange(states.shape[1])
        return tuple(ParameterHistory(p, places, row, int(e)) for p, row, e in zip(parameters, bits, ever, strict=True))
    return tuple(
        ParameterHistory(p, np.flatnonzero(is_known), row[is_known], int(e))
        for p, row, is_known, e in zip(parameters, bits, known, ever, strict=True)
    )
