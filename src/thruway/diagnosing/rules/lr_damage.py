"""Damage that a step which is too large does to the loss and to the units."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.loss_history import LossHistory
from thruway.diagnosing.rules.wording import number, percent

__all__ = ["OVERSHOOT", "Harm", "harm_to_loss", "lost_units", "unstable_since"]

OVERSHOOT = 2.0  # predicted fall over loss from which a step is too long even for a convex loss
RISE = 1.5  # factor on the loss before the step that is no noise if the median of several later losses exceeds it
ALIVE, LOST = 0.75, 0.9  # shares of flat values: at most before the step, and at least at the end
RECOVERED = 0.5  # share of the loss before the step below which the rest of the run has made up for it


@dataclass(frozen=True)
class Harm:
    """Damage to the loss after a step.

    Attributes:
        text: the damage in words.
        ruled_out: the reason why it is not the noise of one batch.
        is_lasting: True if the loss ended no lower than before the step, or failed.
    """

    text: str
    ruled_out: str
    is_lasting: bool


def harm_to_loss(history: LossHistory, place: int, *, is_replaced: bool) -> Harm | None:
    """Return the damage to the loss after the update of the step at `place`, or None.

    Args:
        history: the loss.
        place: position of the step.
        is_replaced: True if the step was as large as a weight, so that any rise within the next steps is its doing.
    """
    before = history.finite[history.places[: len(history.finite)] <= place]
    after = history.finite[history.places[: len(history.finite)] > place]
    if not len(before):
        return None
    start = float(np.median(before[-5:]) if len(before) >= 5 else before.min())
    failed_later = history.failed_at is not None and int(history.places[history.failed_at]) > place
    # A loss that fell in between was not broken by this step.
    if failed_later and not (len(after) >= 5 and np.median(after[-5:]) < RECOVERED * start):
        assert history.failed_at is not None
        failed = int(history.steps[history.failed_at])
        return Harm(f"the loss is not finite at step {failed}", "the loss was finite before the step", True)
    if len(after) < 2 or not start > 0:
        return None
    soon, last = float(np.median(after[:5])), float(np.median(after[-max(len(after) // 4, 3) :]))
    highest = float(np.median(np.sort(after)[-max(len(after) // 10, 3) :]))
    has_risen = soon > RISE * start or highest > 4.0 * start
    has_jumped = is_replaced and float(after[:5].max()) > start + 3.0 * min(history.noise, start / 30)
    if last < (RECOVERED / 2 if is_replaced else RECOVERED) * start:  # a few rising steps on the way to a low loss
        return None
    is_stuck = last >= 0.95 * start
    if has_risen or has_jumped:
        peak = float(after.max() if not after[:5].max() > RISE * start else after[:5].max())
        ruled_out = f"not one noisy batch: the median of the next {len(after[:5])} losses is {number(soon)}"
        if not soon > RISE * start:
            ruled_out = f"not one noisy batch: the highest tenth of the later losses has the median {number(highest)}"
        if has_jumped and not has_risen:
            ruled_out = "not one noisy batch: a step of the size of a weight leaves nothing of it, whatever the batch"
        return Harm(f"the loss rose from {number(start)} to {number(peak)}", ruled_out, is_stuck)
    if start - last < max(history.noise, 0.01 * start) and len(after) >= (2 if is_replaced else 10):
        text = f"the loss is {number(last)} after {len(after)} more steps, from {number(start)}"
        return Harm(text, "not a slow start: the weights moved by more than a tenth of their norm in one step", True)
    return None


def lost_units(reading: Reading, place: int) -> Harm | None:
    """Return the damage to a layer whose units were alive at the step at `place` and are flat at the end, or None.

    Flat are zeros of a ReLU and saturated values.
    """
    for quantity, what in (("zeros", "are zero"), ("saturation", "are saturated")):
        values = reading.values(quantity, "output")
        if values is None:
            continue
        for site, row in zip(values.sites, values.values, strict=True):
            known = np.flatnonzero(np.isfinite(row))
            before, after = row[known[known <= place]], row[known[known > place]]
            if site.is_gate or not len(before) or len(after) < 2:
                continue
            last = float(np.median(after[-max(len(after) // 4, 2) :]))
            if before[-1] < ALIVE and last > LOST:
                text = f"{percent(last)} of {site.name} {what} afterwards"
                return Harm(
                    text, f"not so from the start: at the step before it was {percent(float(before[-1]))}", True
                )
    return None


def unstable_since(history: LossHistory, overshoot: NDArray[np.float64]) -> int | None:
    """Return the place of the step from which the loss grows because every step overshoots, or None.

    Along a direction of curvature c, a step of lr > 2 / c multiplies the distance from the minimum and predicts a fall
    of more than four times the loss. With smaller steps the loss grows for another reason, such as a wrong sign.
    """
    values = history.finite
    if len(values) < 4:
        return None
    lowest = int(np.argmin(values))
    above = np.flatnonzero(values[lowest:] > 2.0 * values[lowest])
    if not values[lowest] > 0 or not len(above) or values[-1] < values[lowest + above[0]]:
        return None
    # Near 0, losses differ by large factors from batch to batch.
    if history.failed_at is None and history.last_level < RISE * values[0]:
        return None
    doubled = lowest + int(above[0])
    places = history.places[lowest : doubled + 1]
    known = overshoot[places][np.isfinite(overshoot[places])]
    return int(places[0]) if len(known) and np.median(known) >= 2 * OVERSHOOT else None
