"""A loss that grows although no single step is too large, as with the wrong sign of the loss."""

from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.loss_graph import contains_layers, loss_nodes
from thruway.diagnosing.rules.loss_history import LossHistory, loss_history
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.step_sizes import step_sizes
from thruway.diagnosing.rules.wording import number, percent

__all__ = ["DIVERGING"]

GROWTH = 2.0  # factor from the first to the last level of the loss
LEAST_STEPS = 8


def find_diverging(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if the loss of the last steps is far above that of the first, and rising.

    Losses that can be negative have no scale to compare with. The loss of a network that is computed by another one
    rises as that one learns, as in a GAN.
    """
    history = loss_history(reading)
    if history is None or contains_layers(loss_nodes(reading)):
        return
    values = history.finite
    if len(values) < LEAST_STEPS or not (values > 0).all():
        return
    quarter = len(values) // 4
    levels = [history.level(k * quarter, (k + 1) * quarter) for k in range(3)] + [history.last_level]
    rises = levels[3] > levels[2] > levels[1] > levels[0]
    excess = levels[3] - levels[0]
    # The standard error of a median of k values is 1.25 noise / sqrt(k).
    if not rises or levels[3] < GROWTH * values[0] or excess < 5.0 * 1.25 * history.noise / np.sqrt(quarter):
        return
    yield _finding(reading, history, levels)


def _finding(reading: Reading, history: LossHistory, levels: list[float]) -> Finding:
    values = history.finite
    lowest = int(np.argmin(values))
    step = int(reading.steps[history.places[min(lowest + 1, len(values) - 1)]])
    sizes = step_sizes(reading)
    ratio = float("nan") if sizes is None else float(np.nanmedian(sizes.largest))
    rows = [
        Evidence(
            "loss",
            "",
            int(reading.steps[history.places[len(values) - 1]]),
            levels[3],
            f"the loss rose from {number(float(values[0]))} to {number(levels[3])}, and still rises",
            "threshold",
            float(values[0]),
            GROWTH * float(values[0]),
        )
    ]
    if np.isfinite(ratio):
        text = (
            f"a typical step moves the weights by {percent(ratio)}: small enough to lower the loss along its gradient"
        )
        rows.append(Evidence("update_ratio", "", None, ratio, text, "theory"))
    rows.append(
        Evidence(
            "loss",
            "",
            None,
            history.noise,
            f"not noise: from batch to batch the loss varies by {number(history.noise)}",
            "ruled out",
        )
    )
    cause = f"The loss grows from {number(float(values[0]))} to {number(levels[3])}"
    if ratio < 0.1:
        cause += (
            ", although the steps are small: check the sign of the loss, the targets, and what else changes the weights"
        )
    return Finding(
        "diverging",
        f"{cause}.",
        (),
        (int(reading.steps[history.places[lowest]]), step),
        tuple(rows),
        (CURES["lower_lr"], CURES["clip"]),
        margin=levels[3] / (GROWTH * float(values[0])),
        confidence=0.8,
    )


DIVERGING = Rule(
    "diverging",
    find_diverging,
    needs=(("loss", "step"),),
    explains=frozenset(("nan_or_inf", "exploding_activation", "saturated", "dead_units")),
    least_steps=LEAST_STEPS,
    advice="Pass losses= to diagnose.",
)
