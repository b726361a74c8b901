"""A schedule that ends long before the training: the learning rate is next to nothing while there is much to learn.

The usual mistake is to call `scheduler.step()` for every batch of a schedule whose lengths are counted in epochs.
"""

from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.loss_history import LossHistory
from thruway.diagnosing.rules.wording import number, percent

__all__ = ["find_early_schedule"]

_ENDED = 1e-3  # of the highest rate: all later steps together, up to a thousand, do less than one step before
_LEAST_LEFT = 2 / 3  # of the steps of the trace that come after the end of the schedule
_LEARNT = 0.5  # relative fall of the loss from which a run has learnt: then the end of a schedule is no fault
_COULD_FALL = _LEARNT / 2  # of the loss: the steps cannot have taught the network anything
_SAME_GRADIENT = 0.5  # of the gradient's norm before the end; at a minimum it would be far smaller


def find_early_schedule(reading: Reading, history: LossHistory, *, could_fall: float | None) -> Iterator[Finding]:
    """Yield a finding if the rate fell to nothing in the first third of the trace, and the loss stopped falling there.

    No finding: a run that had learnt, one whose gradient is small at the end, or one whose loss had not begun to fall
    although the steps were long enough for that: there may be nothing to learn.

    Args:
        reading: the trace.
        history: its losses.
        could_fall: the fall of the loss that gradients and updates of all steps predict; None if it is of no use.
    """
    rates = reading.values("learning_rate", "step")
    if rates is None or len(history.finite) < 20:
        return
    rate = np.where(np.isfinite(rates.values), rates.values, 0.0).max(0)
    in_use = np.flatnonzero(rate >= _ENDED * rate.max())
    end = int(in_use[-1]) + 1  # the first place after the schedule
    if not rate.max() > 0 or len(rate) - end < max(10, _LEAST_LEFT * len(rate)):
        return
    first, last = float(history.finite[0]), history.last_level
    has_begun = first - last > 3 * history.noise
    is_short = could_fall is not None and could_fall < _COULD_FALL * first
    if not first > 0 or not first - last < _LEARNT * first or not (has_begun or is_short):
        return
    share = _gradient_left(reading, end)
    if not share > _SAME_GRADIENT:
        return
    step, before = int(reading.steps[end]), int(reading.steps[end - 1])
    total = int(reading.steps[-1] - reading.steps[0]) + 1
    yield Finding(
        "lr_too_low",
        f"The learning rate fell from {number(float(rate.max()))} to {number(float(rate[end]))} by step {step:,} of "
        f"{total:,}, and the loss stayed at {number(last)} from there on: the schedule ends too early.",
        (),
        since=(before, step),
        evidence=(
            Evidence(
                "learning_rate",
                "",
                step,
                float(rate[end]),
                f"at step {step:,} the learning rate is {percent(float(rate[end] / rate.max()))} of its highest value, "
                "and it stays below",
                "threshold",
                None,
                float(_ENDED * rate.max()),
            ),
            Evidence(
                "gradient_norm",
                "",
                None,
                share,
                f"the gradient is {percent(share)} of what it was before: with its first rate the loss would fall on",
                "theory",
            ),
            Evidence(
                "loss",
                "",
                int(reading.steps[-1]),
                last,
                f"not the end of a training: the loss only went from {number(first)} to {number(last)}, and "
                f"{(len(rate) - end) / len(rate):.0%} of the steps come after it",
                "ruled out",
            ),
        ),
        cures=(ADVICE["schedule"],),
        confidence=0.85,
    )


def _gradient_left(reading: Reading, end: int) -> float:
    """Return the median norm of the gradient after a place, relative to that before; NaN if it was not measured."""
    norms = reading.values("gradient_norm", "step")
    if norms is None:
        return float("nan")
    before, after = (part[np.isfinite(part)] for part in (norms.values[0, :end], norms.values[0, end:]))
    if not len(before) or not len(after) or not np.median(before) > 0:
        return float("nan")
    return float(np.median(after) / np.median(before))
