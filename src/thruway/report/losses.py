"""Losses on a logarithmic axis: zeros, NaN and diverged runs."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LOSS_FLOOR", "diverged_level", "for_log_axis", "has_diverged"]

# A float32 cross-entropy below about 1e-8 is indistinguishable from 0, and 0 has no logarithm.
LOSS_FLOOR = 1e-8


def for_log_axis(losses: ArrayLike) -> NDArray[np.float64]:
    """Prepare losses for a log axis: NaN and infinity become NaN, values below `LOSS_FLOOR` become `LOSS_FLOOR`.

    >>> for_log_axis([0.5, 0.0, float("inf")])
    array([5.e-01, 1.e-08, nan])
    """
    values = np.asarray(losses, dtype=np.float64)
    return np.where(np.isfinite(values), np.maximum(values, LOSS_FLOOR), np.nan)


def has_diverged(row: Mapping[str, Any]) -> bool:
    """Return True if a trial is marked as diverged or its final loss is missing or not finite.

    >>> has_diverged({"final_loss": 0.1}), has_diverged({"final_loss": float("nan")}), has_diverged({"diverged": True})
    (False, True, True)
    """
    loss = row.get("final_loss")
    return bool(row.get("diverged")) or loss is None or not math.isfinite(loss)


def diverged_level(losses: Iterable[float]) -> float:
    """Return the height at which diverged trials are drawn, above every finite loss.

    >>> round(diverged_level([0.01, 1.0]), 3)
    2.512
    """
    finite = [math.log10(max(loss, LOSS_FLOOR)) for loss in losses if math.isfinite(loss)]
    if not finite:
        return 1.0
    return float(10 ** (max(finite) + max(0.15, 0.2 * (max(finite) - min(finite)))))
