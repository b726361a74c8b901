"""A warm-up that is far too long: it takes more steps than any usual one until the learning rate moves a weight."""

import numpy as np

from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.step_sizes import HEALTHY_RATIO

__all__ = ["LONGEST_WARMUP", "steps_of_warmup"]

LONGEST_WARMUP = 10_000  # steps. Source: Devlin et al. 2019 (BERT), app. A.2; 4,000 in Vaswani et al. 2017, sec. 5.3


def steps_of_warmup(reading: Reading, ratio: float) -> float | None:
    """Return the step at which a linear warm-up would give updates of a tenth of the usual ratio.

    None if the rate does not rise to the end of the trace, or rises faster and faster.

    Args:
        reading: the trace.
        ratio: the update ratio at the end of the trace.
    """
    rates = reading.values("learning_rate", "step")
    if rates is None or not ratio > 0:
        return None
    rate = np.where(np.isfinite(rates.values), rates.values, 0.0).max(0)
    middle = len(rate) // 2
    early, late = (
        (rate[b] - rate[a]) / max(reading.steps[b] - reading.steps[a], 1) for a, b in ((0, middle), (middle, -1))
    )
    if not late > 0 or rate[-1] < rate.max() or late > 1.1 * early:
        return None
    factor = HEALTHY_RATIO / 10 / ratio
    return float(reading.steps[-1] + (factor - 1.0) * rate[-1] / late)
