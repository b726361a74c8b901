"""A learning rate that is too high: steps that are too large for the weights or the loss, and a loss that suffers."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.loss_history import loss_history
from thruway.diagnosing.rules.lr_damage import OVERSHOOT, Harm, harm_to_loss, lost_units, unstable_since
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.step_sizes import HEALTHY_RATIO, StepSizes, step_sizes
from thruway.diagnosing.rules.wording import number, percent, power_of_ten

__all__ = ["LR_TOO_HIGH"]

REPLACED = 1.0  # update ratio at which nothing of the weight before the step remains
MOST = 10_000  # factor; beyond it the gradient is at fault, not the rate
LARGE = 0.1  # update ratio: ten such steps in one direction replace the weight


def find_lr_too_high(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if steps are too large and the loss suffers from them."""
    sizes = reading.derived(step_sizes)
    if sizes is None or reading.trace.optimizer == "LBFGS":  # its rate scales a step found from curvature, near 1
        return
    largest, overshoot, history = sizes.largest, _overshoot(reading, sizes), reading.derived(loss_history)
    is_strong = (largest >= REPLACED) | (overshoot >= OVERSHOOT)
    is_suspect = (largest >= LARGE) & (is_strong | (overshoot >= OVERSHOOT / 4) | (largest >= REPLACED / 4))
    # A step that lowers the loss by a few per cent at most cannot be too long for it.
    is_suspect &= ~(overshoot < OVERSHOOT / 20)
    places = [int(place) for place in np.flatnonzero(is_suspect)[:1]]
    if history is not None:
        unstable = unstable_since(history, overshoot)
        places += [] if unstable is None else [unstable]
        for place in places:
            harm = harm_to_loss(history, place, is_replaced=bool(largest[place] >= REPLACED))
            if harm is None and is_strong[place] and largest[place] >= REPLACED / 2:
                harm = lost_units(reading, place)
            if harm is not None and (harm.is_lasting or is_strong[place] or place == unstable):
                yield _finding(reading, sizes, overshoot, place, harm)
                return
    if history is None or len(history.values) <= 2:
        # No later loss can confirm or refute the damage.
        is_enough = (largest >= REPLACED) | ((largest >= REPLACED / 2) & (overshoot >= OVERSHOOT))
        for place in np.flatnonzero(is_enough)[:1]:
            yield _finding(reading, sizes, overshoot, int(place), None)


def _overshoot(reading: Reading, sizes: StepSizes) -> NDArray[np.float64]:
    """Return the predicted fall of the loss over the loss, (steps,); NaN where the loss is unknown or not above 0."""
    loss = reading.loss
    if loss is None:
        return np.full(len(reading.steps), np.nan)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.where(loss > 0, sizes.predicted_fall / loss, np.nan)


def _finding(
    reading: Reading, sizes: StepSizes, overshoot: NDArray[np.float64], place: int, harm: Harm | None
) -> Finding:
    step = int(reading.steps[place])
    names = sizes.worst(place)
    ratio = float(sizes.largest[place])
    # One learning rate moves all weights: the largest ratio is often that of one small layer.
    total = float(sizes.total[place])
    factor = max(2.0, (total if np.isfinite(total) else ratio) / HEALTHY_RATIO)
    power = power_of_ten(factor)
    threshold = REPLACED if ratio >= REPLACED else LARGE
    rows = [
        Evidence(
            "update_ratio",
            names[0],
            step,
            ratio,
            f"step {step} moved {names[0]} by {percent(ratio)} of its norm; about 2 % is healthy",
            "threshold",
            HEALTHY_RATIO,
            threshold,
        )
    ]
    rows.append(_theory(reading, sizes, overshoot, place, names[0], ratio))
    if harm is not None:
        rows.append(Evidence("loss", "", step, _loss_at(reading, place), harm.ruled_out, "ruled out"))
    sites = tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in names[:8]))
    cause = f"Step {step} moved {names[0]} by {percent(ratio)} of its norm"
    if harm is not None:
        cause += f", and {harm.text}"
    cause += f": the learning rate{_rate(reading, place)} is too high. "
    if factor > MOST:
        cause += "No usual learning rate suits gradients of this size."
    else:
        cause += f"All weights together moved by {percent(total)}: lower it about {float(f'{factor:.0e}'):,.0f}x."
    cure = CURES["much_lower_lr" if power >= 100 else "lower_lr"]
    if power > 100:
        cure = replace(cure, text=f"{cure.text}, and again while the steps are too large")
    other = CURES["lower_lr" if power >= 100 else "much_lower_lr"]
    confidence = 0.7 if harm is None else 0.95 if harm.is_lasting or ratio >= REPLACED else 0.85
    # The symptom begins with the first of the large steps in a row.
    start = place
    while start and sizes.largest[start - 1] >= LARGE and not overshoot[start - 1] < OVERSHOOT / 20:
        start -= 1
    before = int(reading.steps[start - 1]) if start else None
    return Finding(
        "lr_too_high",
        cause,
        sites,
        since=(before, int(reading.steps[start])),
        evidence=tuple(rows),
        cures=(cure, CURES["clip"], other),
        margin=max(ratio / threshold, 1.0),
        confidence=confidence,
    )


def _theory(
    reading: Reading, sizes: StepSizes, overshoot: NDArray[np.float64], place: int, name: str, ratio: float
) -> Evidence:
    step = int(reading.steps[place])
    if overshoot[place] >= 1:
        fall, loss = float(sizes.predicted_fall[place]), _loss_at(reading, place)
        text = (
            f"to first order the step lowers the loss by up to {number(fall)}, and the loss is only {number(loss)}: "
            "the step leaves the region in which its gradient is valid"
        )
        limit = OVERSHOOT * loss if overshoot[place] >= OVERSHOOT else None
        return Evidence("predicted_fall", "", step, fall, text, "theory", loss, limit)
    text = "a step as large as the weights keeps nothing of them"
    if ratio < 1:
        text = f"{np.ceil(1.0 / ratio):.0f} steps of this size in one direction replace the weights"
    return Evidence("update_ratio", name, step, ratio, text, "theory", HEALTHY_RATIO)


def _loss_at(reading: Reading, place: int) -> float:
    return float("nan") if reading.loss is None else float(reading.loss[place])


def _rate(reading: Reading, place: int) -> str:
    """Return " of 0.1" for the largest learning rate of the step, or ""."""
    rates = reading.values("learning_rate", "step")
    if rates is None or not np.isfinite(rates.values[:, place]).any():
        return ""
    return f" of {number(float(np.nanmax(rates.values[:, place])))}"


LR_TOO_HIGH = Rule(
    "lr_too_high",
    find_lr_too_high,
    needs=(("norm", "update"), ("loss", "step")),
    explains=frozenset(
        (
            "nan_or_inf",
            "diverging",
            "dead_units",
            "dying_relu",
            "saturated",
            "constant_output",
            "rank_collapse",
            "exploding_activation",
            "exploding_gradient",
            "vanishing_gradient",
            "poor_init",
            "symmetric_init",
            "gates_shut",
            "gates_open",
            "lr_too_low",
        )
    ),
    effects_begin="next step",
    least_steps=3,
    advice="Pass optimizer= to watch.",
)
