"""A loss that grows, or falls below all bounds, although no single step is too large: the loss itself is wrong.

Its sign is wrong, or it is no loss at all, such as nll_loss of raw outputs, which has no minimum.
"""

from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Cure, Evidence, Finding
from thruway.diagnosing.reading import Matrix, Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.loss_graph import contains_layers, loss_nodes, negated_loss, unbounded_loss
from thruway.diagnosing.rules.loss_history import LossHistory, loss_history
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.step_sizes import StepSizes, step_sizes
from thruway.diagnosing.rules.wording import number, percent

__all__ = ["DIVERGING"]

_TURNED = 8.0  # times the lowest loss, so that several steps have raised it
GROWTH = 2.0  # factor from the first to the last level of the loss
# The same, if the rise is that of steps along the gradient instead of against it. It is tested against the noise of the
# batches, so that a tenth is only left for what may change beside the weights, such as the share of a penalty.
AGAINST_GRADIENT = 1.1
LEAST_STEPS = 8
_LEAST_QUARTER = 5  # steps
_FAR_BELOW = 10.0  # times the largest absolute loss of the first half of the run


def find_diverging(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if the loss of the last steps is far above that of the first, and rising, or falls without bound.

    Otherwise losses that can be negative have no scale to compare with. The loss of a network that is computed by
    another one rises as that one learns, as in a GAN.
    """
    history, nodes = reading.derived(loss_history), loss_nodes(reading)
    if history is None or contains_layers(nodes):
        return
    values = history.finite
    if len(values) < LEAST_STEPS:
        return
    wrong = negated_loss(nodes) or unbounded_loss(nodes) or _falls_ever_faster(reading, history)
    sign = -1.0 if wrong else 1.0
    if not wrong and not (values > 0).all():
        return
    quarter = len(values) // 4
    levels = [history.level(k * quarter, (k + 1) * quarter) for k in range(3)] + [history.last_level]
    rises = (np.diff(levels) * sign > 0).all()
    # The standard error of a median of k values is 1.25 noise / sqrt(k).
    is_noise = sign * (levels[3] - levels[0]) < 5.0 * 1.25 * history.noise / np.sqrt(quarter)
    if rises and not is_noise and (wrong or levels[3] >= _least_growth(reading, history) * values[0]):
        yield _finding(reading, history, levels, wrong, 0 if wrong else int(np.argmin(values)))
    elif not wrong and _has_turned(reading, history):
        yield _finding(reading, history, levels, "", int(np.argmin(values)))


def _falls_ever_faster(reading: Reading, history: LossHistory) -> str:
    """Return a sentence if a negative loss falls by more in each quarter of the run, as its gradient grows, else "".

    A loss with a minimum does so for a while at most, when it leaves a plateau: then it does not fall to many times
    the size that it had in the first half of the run.
    """
    values, norms = history.finite, reading.values("gradient_norm", "step")
    quarter = len(values) // 4
    if quarter < _LEAST_QUARTER or norms is None or not values[-1] < 0:
        return ""
    gradient = norms.values[0][history.places[: len(values)]]
    parts = [slice(k * quarter, (k + 1) * quarter) for k in range(4)]
    known = [part[np.isfinite(part)] for part in (gradient[p] for p in parts)]
    if not all(len(part) for part in known):
        return ""
    sizes, levels = [float(np.median(part)) for part in known], [float(np.median(values[p])) for p in parts]
    falls = -np.diff(levels)
    is_faster = falls[0] > 0 and (np.diff(falls) > 0).all() and (np.diff(sizes) > 0).all()
    before = float(np.abs(values[: 2 * quarter]).max())
    if not is_faster or not levels[3] < -_FAR_BELOW * before:
        return ""
    return f"it falls faster and faster, while the gradient grows from {number(sizes[0])} to {number(sizes[3])}"


def _least_growth(reading: Reading, history: LossHistory) -> float:
    """Return the growth of the loss that is too much.

    It is less if the loss rises as fast as its gradient says that it should fall, and infinite if the one has nothing
    to do with the other, as for a loss whose targets move in Q-learning.
    """
    sizes = reading.derived(step_sizes)
    if sizes is None:
        return GROWTH
    values = history.finite
    lowest = int(np.argmin(values))
    share = _share_of_predicted(reading, sizes, history, lowest, _grown_at(values, lowest, GROWTH))
    return AGAINST_GRADIENT if share > 0.3 else GROWTH if share > 0.1 else float("inf")


def _grown_at(values: Matrix, lowest: int, factor: float) -> int:
    """Return the place of the first loss above a multiple of the lowest one, or of the last loss."""
    above = np.flatnonzero(values[lowest:] > factor * values[lowest])
    return lowest + int(above[0]) if len(above) else len(values) - 1


def _share_of_predicted(reading: Reading, sizes: StepSizes, history: LossHistory, first: int, last: int) -> float:
    """Return the rise of the loss between two places over the fall that gradients and updates predict."""
    places = history.places[first : last + 1]
    spacing = (reading.steps[-1] - reading.steps[0]) / max(len(reading.steps) - 1, 1)
    total = float(np.nansum(sizes.predicted_fall[places])) * spacing
    return float(history.finite[last] - history.finite[first]) / total if total > 0 else 0.0


def _has_turned(reading: Reading, history: LossHistory) -> bool:
    """Return True if the loss fell, and from its lowest point on rises as fast as its gradient says it should fall.

    Steps that are too large predict a fall of more than the loss (see `lr_damage.unstable_since`), and a change of the
    data or of the task changes the loss by far more than the steps do.
    """
    sizes, values = reading.derived(step_sizes), history.finite
    lowest = int(np.argmin(values))
    if sizes is None or not LEAST_STEPS <= lowest <= len(values) - LEAST_STEPS:
        return False
    tail = values[lowest:]
    quarter = len(tail) // 4
    levels = [float(np.median(tail[k * quarter : (k + 1) * quarter])) for k in range(4)]
    if not (np.diff(levels) > 0).all() or levels[3] < max(GROWTH * levels[0], float(values[0])):
        return False
    end = _grown_at(values, lowest, _TURNED)
    first = lowest + int(np.flatnonzero(values[lowest : end + 1] <= GROWTH * values[lowest])[-1])
    places = history.places[first:end]
    with np.errstate(divide="ignore", invalid="ignore"):
        overshoot = sizes.predicted_fall[places] / values[first:end]
    known = overshoot[np.isfinite(overshoot)]
    share = _share_of_predicted(reading, sizes, history, first, end)
    return bool(len(known) and np.median(known) < 1.0 and 0.3 < share < 3.0)


def _finding(reading: Reading, history: LossHistory, levels: list[float], wrong: str, lowest: int) -> Finding:
    values = history.finite
    start = float(values[0] if wrong or history.values[0] < 2 * values[lowest] else values[lowest])
    step = int(reading.steps[history.places[min(lowest + 1, len(values) - 1)]])
    sizes = reading.derived(step_sizes)
    ratio = float("nan") if sizes is None else float(np.nanmedian(sizes.largest))
    change = "fell" if wrong else "rose"
    rows = [
        Evidence(
            "loss",
            "",
            int(reading.steps[history.places[len(values) - 1]]),
            levels[3],
            f"the loss {change} from {number(start)} to {number(levels[3])}, and goes on",
            "threshold",
            start,
            0.0 if wrong else _least_growth(reading, history) * start,
        )
    ]
    if wrong:
        rows.append(Evidence("loss_graph", "", step, start, f"{wrong}: it has no minimum", "theory"))
    else:
        text = "small enough to lower the loss along its gradient"
        rows.append(
            Evidence(
                "update_ratio",
                "",
                None,
                ratio,
                f"a typical step moves the weights by {percent(ratio)}: {text}",
                "theory",
            )
        )
    text = f"not noise: from batch to batch the loss varies by {number(history.noise)}"
    rows.append(Evidence("loss", "", None, history.noise, text, "ruled out"))
    cause = f"The loss {'falls' if wrong else 'grows'} from {number(start)} to {number(levels[3])}"
    if wrong:
        cause += f" without a bound: {wrong}"
    elif ratio < 0.1:
        cause += (
            ", although the steps are small: check the sign of the loss, the targets, and what else changes the weights"
        )
    return Finding(
        "diverging",
        f"{cause}.",
        (),
        since=(int(reading.steps[history.places[lowest]]), step),
        evidence=tuple(rows),
        cures=_cures(wrong, is_along=ratio < 0.1),
        margin=1.0 if wrong else max(levels[3] / (GROWTH * start), 1.0),
        confidence=0.95 if wrong else 0.8,
    )


def _cures(wrong: str, *, is_along: bool) -> tuple[Cure, ...]:
    """Return cures: of a loss without a minimum, of small steps that raise the loss, and of large ones."""
    if wrong:
        return (ADVICE["log_softmax" if "nll_loss" in wrong else "check_sign"],)
    return (ADVICE["check_sign"], CURES["lower_lr"]) if is_along else (CURES["lower_lr"], CURES["clip"])


DIVERGING = Rule(
    "diverging",
    find_diverging,
    needs=(("loss", "step"),),
    explains=frozenset(
        [
            "nan_or_inf",
            "exploding_activation",
            "exploding_gradient",
            "saturated",
            "dead_units",
            "dying_relu",
            "lr_too_high",
            "rank_collapse",
            "constant_output",
            "vanishing_gradient",
        ]
    ),
    least_steps=LEAST_STEPS,
    advice="Pass losses= to diagnose.",
)
