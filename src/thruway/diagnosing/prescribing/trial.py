"""Trial of one cure: its runs, the loss gained, the change of the model, and what is still found afterwards."""

import math
import statistics
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.finding import Cure, Finding, finite_or_none

__all__ = ["Arm", "Trial"]

Arm = Literal["cure", "placebo", "no change"]


@dataclass(frozen=True, eq=False)
class Trial:
    """One cure, the placebo, or no change, and its runs.

    Attributes:
        cure: the change.
        arm: "cure", "placebo" (a cure of another symptom) or "no change".
        applicable: False if the change does not fit the model; there are no numbers then.
        reason: why it is not applicable.
        first: loss before the first step, by seed.
        final: mean loss over the last tenth of the steps, by seed; NaN if the run diverged.
        gains: loss gained relative to no change with the same seed, in units of the first loss.
        interval: paired interval of the mean gain, (low, high).
        curves: measured loss, (seeds, points); NaN after divergence.
        points: number of steps before each point of the curves.
        losses: training loss of every step, (seeds, steps).
        remaining: findings of a new diagnosis, of one seed.
        cleared: True if the findings that led here are gone; None if they did not show in the unchanged run either.
        diff: unified diff of the printed module tree; "" if the tree does not change.
        code: the change as code for the training script.
        note: reason why the runs were trained one after another; "" if they were trained together.
    """

    cure: Cure
    arm: Arm
    applicable: bool = True
    reason: str = ""
    first: tuple[float, ...] = ()
    final: tuple[float, ...] = ()
    gains: tuple[float, ...] = ()
    interval: tuple[float, float] = (-math.inf, math.inf)
    curves: NDArray[np.float64] | None = None
    points: tuple[int, ...] = ()
    losses: NDArray[np.float64] | None = None
    remaining: tuple[Finding, ...] = ()
    cleared: bool | None = None
    diff: str = ""
    code: str = ""
    note: str = ""

    @property
    def gain(self) -> float:
        """The median over seeds of the loss gained, in units of the first loss; NaN if not applicable."""
        return statistics.median(self.gains) if self.gains else math.nan

    @property
    def helps(self) -> bool:
        """True if the interval of the gain lies above 0."""
        return self.applicable and self.interval[0] > 0

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as a dictionary of JSON values; numbers that are not finite become None."""
        return {
            "cure": {"name": self.cure.name, "text": self.cure.text, "source": self.cure.source},
            "arm": self.arm,
            "applicable": self.applicable,
            "reason": self.reason,
            "helps": self.helps,
            "gain": finite_or_none(self.gain),
            "interval": [finite_or_none(end) for end in self.interval],
            "first": [finite_or_none(value) for value in self.first],
            "final": [finite_or_none(value) for value in self.final],
            "gains": [finite_or_none(value) for value in self.gains],
            "points": list(self.points),
            "curves": []
            if self.curves is None
            else [[finite_or_none(v) for v in curve] for curve in self.curves.tolist()],
            "remaining": [finding.to_dict() for finding in self.remaining],
            "cleared": self.cleared,
            "diff": self.diff,
            "code": self.code,
            "note": self.note,
        }
