"""Findings about gradients that vanish or explode through the time steps of a recurrence."""

import math
from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.loss_history import loss_history
from thruway.diagnosing.rules.through_time import Recurrence, recurrences
from thruway.diagnosing.rules.wording import layer_text, number, percent

__all__ = ["exploding_through_time", "late_fall", "vanishing_through_time"]

_RATIO = 1e3
# A loss that still falls, or has fallen far, needs no more from the first time steps than it gets.
_STILL_FALLS, _HAS_FALLEN = 0.05, 0.7


def vanishing_through_time(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if the gradient of the first time steps vanishes and the loss does not fall."""
    fall = late_fall(reading)
    if fall is None:
        return
    for recurrence in recurrences(reading):
        ratio = recurrence.log_ratio
        if recurrence.is_gated and not recurrence.is_measured:
            continue
        spell = reading.spell(ratio < -math.log(_RATIO), np.isfinite(ratio))
        if spell is not None and spell[1] is None:
            yield _finding(reading, recurrence, spell, fall)
            return


def late_fall(reading: Reading) -> float | None:
    """Return the relative fall of the loss in the last two thirds of training, None if the network learns.

    The fall before is often that to the loss of a constant output, which needs no gradient through time.
    """
    history = loss_history(reading)
    if history is None or len(history.finite) < 30:
        return None
    n = len(history.finite)
    early, late = history.level(n // 3, n // 3 + max(3, n // 6)), history.last_level
    fall = (early - late) / abs(early) if early else 0.0
    return fall if fall < _STILL_FALLS and history.relative_fall < _HAS_FALLEN else None


def exploding_through_time(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if the gradient grows from the last time step to the first."""
    for recurrence in recurrences(reading):
        ratio = recurrence.log_ratio
        sick, known = ratio > math.log(_RATIO), np.isfinite(ratio)
        spell = reading.spell(sick, known)
        places = np.flatnonzero(known)
        if spell is None and len(places) and sick[places[0]]:
            spell = (None, int(reading.steps[places[0]])), int(reading.steps[places[0]])
        if spell is not None:
            yield _finding(reading, recurrence, spell, math.nan)
            return


def _finding(
    reading: Reading,
    recurrence: Recurrence,
    spell: tuple[tuple[int | None, int], int | None],
    fall: float,
) -> Finding:
    since, until = spell
    at = int(np.searchsorted(reading.steps, since[1]))
    log_ratio = float(recurrence.log_ratio[at])
    is_exploding = log_ratio > 0
    factor = math.exp(log_ratio / max(1, recurrence.steps - 1))
    ratio = math.exp(min(max(log_ratio, -600.0), 600.0))
    limit = _RATIO if is_exploding else 1 / _RATIO
    how = "is" if recurrence.is_measured else "should be, by the scale of the recurrent weight,"
    gain = (
        f" std(weight_hh) * sqrt(units) is {number(recurrence.gain)}; near 1 gradients neither grow nor shrink."
        if math.isfinite(recurrence.gain)
        else ""
    )
    return Finding(
        "exploding_gradient" if is_exploding else "vanishing_gradient",
        f"The gradient {'grows' if is_exploding else 'shrinks'} by a factor of {number(factor)} per time step of "
        f"{layer_text(recurrence.name)} on its way back through {recurrence.steps} steps: at the first step it {how} "
        f"{number(ratio)} "
        f"times that at the last.{gain}",
        (recurrence.name,),
        since=since,
        evidence=(
            Evidence(
                "gradient_ratio",
                recurrence.name,
                since[1],
                ratio,
                f"The gradient at the first of {recurrence.steps} time steps {how} {number(ratio)} times that at "
                "the last.",
                "threshold",
                1.0,
                limit,
            ),
            Evidence(
                "gradient_factor",
                recurrence.name,
                since[1],
                factor,
                "A factor of 1 per step preserves gradients; "
                f"{number(limit ** (1 / max(1, recurrence.steps - 1)))} is the "
                f"limit for {recurrence.steps} steps, and it is {number(factor)}.",
                "theory",
                1.0,
            ),
            Evidence(
                "relative_fall",
                "",
                since[1],
                fall,
                "It is not the sum of the gradients of all outputs: the growth is from step to step."
                if is_exploding
                else "The network does not learn without the first time steps: in the last two thirds of the trace the "
                f"loss falls by {percent(max(fall, 0.0))}.",
                "ruled out",
            ),
        ),
        cures=tuple(
            CURES[name]
            for name in (("clip", "critical_init", "lower_lr") if is_exploding else ("critical_init", "skip"))
        ),
        span=(recurrence.name, recurrence.name),
        until=until,
        margin=max(1.0, ratio / limit if is_exploding else min(1e300, limit / ratio)),
        confidence=0.85 if recurrence.is_measured else 0.75,
    )
