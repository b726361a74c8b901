"""One run of a trial with its results, the runs that are trained together, and the settings that all runs share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from thruway.diagnosing.finding import Finding
from thruway.diagnosing.prescribing.setup import Setup

__all__ = ["Group", "Plan", "Results", "Run"]

Batch = tuple[Any, Any]


@dataclass(frozen=True)
class Plan:
    """Settings that all runs share.

    Attributes:
        batches: the batches of all steps; step i uses batch i modulo their number.
        loss: function of (outputs, targets).
        steps: number of steps.
        measured: number of batches, from the first on, over which the curve is measured.
        points: steps before which the curve is measured; the last one is `steps`, after the last update.
        snapshots: steps from which a run is diagnosed again.
    """

    batches: Sequence[Batch]
    loss: Callable[[Any, Any], Tensor]
    steps: int
    measured: int
    points: tuple[int, ...]
    snapshots: tuple[int, ...]


@dataclass
class Results:
    """Results of one run.

    Attributes:
        curve: loss on the measured batches at each point of the plan, NaN once diverged.
        losses: training loss of every step.
        remaining: findings of the new diagnosis.
        note: reason why the run was trained alone; "" if it was trained together with others.
        error: message of the error that ended the run; "" without one.
    """

    curve: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    losses: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    remaining: tuple[Finding, ...] = ()
    note: str = ""
    error: str = ""


@dataclass
class Run:
    """One run of one arm with one seed.

    Attributes:
        arm: name of the arm.
        seed: the seed.
        setup: model, optimizer and loop. It is trained in place if it is trained alone.
        spare: setup of the same architecture in which the run is diagnosed again; None if it is not.
        results: results, once the run is trained.
    """

    arm: str
    seed: int
    setup: Setup
    spare: Setup | None = None
    results: Results = field(default_factory=Results)


@dataclass(frozen=True)
class Group:
    """Runs that are trained together, or one after another for a reason."""

    runs: Sequence[Run]
    reason: str = ""
