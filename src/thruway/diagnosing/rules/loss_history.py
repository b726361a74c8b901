"""The loss over the steps of a trace: its level, noise, rises and falls."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.reading import Reading

__all__ = ["LossHistory", "loss_history"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class LossHistory:
    """The loss at the steps where it was recorded.

    Attributes:
        places: (n,), positions in `Reading.steps`.
        values: (n,), the losses; NaN or infinite after a failure.
        steps: (n,), the numbers of the steps.
    """

    places: NDArray[np.int64]
    values: Matrix
    steps: NDArray[np.int64]

    @property
    def finite(self) -> Matrix:
        """The losses before the first one that is not finite."""
        bad = np.flatnonzero(~np.isfinite(self.values))
        return self.values[: bad[0]] if len(bad) else self.values

    @property
    def failed_at(self) -> int | None:
        """Position in `values` of the first loss that is not finite, or None."""
        bad = np.flatnonzero(~np.isfinite(self.values))
        return int(bad[0]) if len(bad) else None

    @property
    def noise(self) -> float:
        """The standard deviation from batch to batch, robust to jumps: MAD of the differences over sqrt(2)."""
        differences = np.diff(self.finite)
        if len(differences) < 2:
            return 0.0
        return float(1.4826 * np.median(np.abs(differences - np.median(differences))) / np.sqrt(2.0))

    def level(self, first: int, last: int) -> float:
        """Return the median of values[first:last]."""
        return float(np.median(self.finite[first:last]))

    @property
    def last_level(self) -> float:
        """The median of the last quarter of the finite losses, at least three where there are so many."""
        n = len(self.finite)
        return self.level(max(n - max(n // 4, 3), 0), n)

    @property
    def first_level(self) -> float:
        """The median of the first tenth of the finite losses."""
        n = len(self.finite)
        return self.level(0, max(n // 10, 1))

    @property
    def relative_fall(self) -> float:
        """The fall from the first to the last level, relative to the first; NaN for a level of 0."""
        first = self.first_level
        return (first - self.last_level) / abs(first) if first else float("nan")


def loss_history(reading: Reading) -> LossHistory | None:
    """Return the history of the loss, or None if no loss is known."""
    loss = reading.loss
    if loss is None:
        return None
    # NaN stands both for "not recorded at this step" and for a loss that is NaN. After the last finite loss it is
    # a failure if a parameter or an output is bad as well; before it, a step without a loss.
    finite = np.flatnonzero(np.isfinite(loss))
    if not len(finite):
        return None if reading.trace.first_bad is None else LossHistory(np.arange(len(loss)), loss, reading.steps)
    has_failed = reading.trace.first_bad is not None or np.isinf(loss).any()
    keep = np.isfinite(loss) | np.isinf(loss)
    if has_failed:
        keep[finite[-1] + 1 :] = True
    places = np.flatnonzero(keep)
    return LossHistory(places, loss[places], reading.steps[places])
