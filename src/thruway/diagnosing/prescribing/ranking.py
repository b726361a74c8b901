"""Ranking of cures by the loss gained relative to no change with the same seed."""

import math
from collections.abc import Sequence

from thruway.diagnosing.prescribing.intervals import paired_interval
from thruway.diagnosing.prescribing.trial import Trial

__all__ = ["best_of", "gain_of", "ranked"]

_TIE = 0.05  # difference of two gains that does not matter, in units of the first loss


def gain_of(start: float, without: float, cured: float) -> float:
    """Return the loss gained by a cure, in units of the first loss.

    A run that diverges, or ends above the first loss, counts as one that ends there: how far a loss has exploded says
    nothing about the cure. Gains of positive losses therefore lie in [-1, 1].

    Args:
        start: first loss: the smallest of all arms with this seed, since some start from an exploded one.
        without: final loss without the cure.
        cured: final loss with it.

    >>> gain_of(2.0, 2.0, 0.5), gain_of(2.0, float("nan"), 1.0), gain_of(2.0, 1.0, 1e6)
    (0.75, 0.5, -0.5)
    """
    if not math.isfinite(start):
        return 0.0
    before, after = (min(value, start) if math.isfinite(value) else start for value in (without, cured))
    return (before - after) / (start if start > 0 else 1.0)


def ranked(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Return the trials: first those that help, by the median loss gained, and last those that are not applicable.

    Of two cures whose paired difference is not distinguishable from 5 % of the first loss, one that clears the findings
    comes before one that does not.
    """
    applicable = sorted((t for t in trials if t.applicable), key=lambda t: (not t.helps, -t.gain))
    if applicable and applicable[0].cleared is not True:
        leader = applicable[0]
        for place, trial in enumerate(applicable):
            if trial.cleared is True and trial.helps and _is_as_good(trial, leader):
                applicable.insert(0, applicable.pop(place))
                break
    return (*applicable, *(t for t in trials if not t.applicable))


def _is_as_good(trial: Trial, leader: Trial) -> bool:
    low, _ = paired_interval([a - b for a, b in zip(leader.gains, trial.gains, strict=True)])
    return low <= _TIE


def best_of(ranking: Sequence[Trial], placebo: Trial | None) -> Trial | None:
    """Return the first cure of the ranking if it helps, and more than the placebo; None if none helps.

    A placebo that gains as much does not count against a cure that clears the findings, which the placebo leaves.
    """
    if not ranking or not ranking[0].helps:
        return None
    best = ranking[0]
    if placebo is None or best.gain > placebo.gain or (best.cleared is True and placebo.cleared is not True):
        return best
    return None
