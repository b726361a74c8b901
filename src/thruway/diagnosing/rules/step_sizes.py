"""Sizes of the optimizer's steps: relative to the weights, and relative to the loss.

Two numbers tell if a step is too large, and neither needs a constant for the network at hand:

update ratio    |dw| / |w| of a weight matrix. At 1, nothing of the weight before the step remains.
overshoot       sum over parameters of |dw| |g|, divided by the loss. For SGD, |dw| |g| is lr |g|^2, the amount by which
                the linear approximation predicts the loss to fall. A loss that is at least 0 cannot fall by more than
                itself, and from twice that on not even a convex loss must come nearer to its minimum.
                Source: Polyak 1987 (Introduction to Optimization), sec. 5.3.2; Loizou et al. 2021 (Stochastic Polyak
                step-size), eq. 2.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.names import embedding_names, owner_of
from thruway.diagnosing.reading import Parameter, Reading

__all__ = ["HEALTHY_RATIO", "StepSizes", "step_sizes"]

HEALTHY_RATIO = 0.02  # between 0.01 and 0.04: the largest ratio per layer in networks that train well with SGD

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class StepSizes:
    """Sizes of the updates at every step; NaN where unknown.

    Attributes:
        names: the weight matrices.
        ratios: (weights, steps), |dw| / |w|.
        predicted_fall: (steps,), sum of |dw| |g| over all parameters.
        total: (steps,), |dw| / |w| of all weight matrices together.
    """

    names: tuple[str, ...]
    ratios: Matrix
    predicted_fall: Matrix
    total: Matrix

    @cached_property
    def largest(self) -> Matrix:
        """The largest update ratio at every step, (steps,)."""
        return _largest(self.ratios)

    def worst(self, place: int) -> list[str]:
        """Return the names of the weights by update ratio at one step, the largest first."""
        values = np.nan_to_num(self.ratios[:, place], nan=-1.0, posinf=np.inf)
        return [self.names[row] for row in np.argsort(-values, kind="stable") if values[row] >= 0]


def step_sizes(reading: Reading) -> StepSizes | None:
    """Return the sizes of the steps, or None if no update was recorded.

    Embeddings are left out, since a step changes only the rows that were used, and so are vectors such as biases.
    """
    embeddings = embedding_names(reading)
    weights = [
        p
        for p in reading.parameters
        if len(p.shape) >= 2 and owner_of(p.name) not in embeddings and np.isfinite(p.update_norm).any()
    ]
    if not weights:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        total, is_known = np.zeros(len(reading.steps)), np.zeros(len(reading.steps), dtype=bool)
        for p in reading.parameters:
            fall = p.update_norm * p.gradient_norm
            is_known |= np.isfinite(fall)
            total += np.where(np.isnan(fall), 0.0, fall)
        predicted = np.where(is_known, total, np.nan)
        updates, norms = np.stack([p.update_norm for p in weights]), np.stack([_norm(p) for p in weights])
        known = np.isfinite(updates) & np.isfinite(norms)
        squares = [np.where(known, values, 0.0) ** 2 for values in (updates, norms)]
        total = np.sqrt(squares[0].sum(0) / np.where(known.any(0), squares[1].sum(0), np.nan))
    return StepSizes(tuple(p.name for p in weights), updates / norms, predicted, total)


def _norm(p: Parameter) -> Matrix:
    """Return |w|, at least the norm that PyTorch's default initialisation gives.

    Weights that start at zero or very small, as those of zero-initialised branches, move by many times their norm.
    """
    least = np.sqrt(p.shape[0] / 3.0)  # numel values of variance 1 / (3 fan_in)
    return np.asarray(np.fmax(p.norm, least), dtype=np.float64)


def _largest(values: Matrix) -> Matrix:
    known: NDArray[Any] = np.isfinite(values)
    return np.where(known.any(0), np.max(np.where(known, values, -np.inf), 0), np.nan)
