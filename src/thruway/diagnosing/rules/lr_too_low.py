"""A learning rate that is too low: every step is tiny for the weights and for the loss, and the loss does not move.

No finding: warm-up (the rate still rises, and reaches a usual size in time), a schedule that ends after the network has
learnt, a resumed run, a loss that is already far below chance at the first step, and gradients that are zero.
"""

from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.early_schedule import find_early_schedule
from thruway.diagnosing.rules.long_warmup import LONGEST_WARMUP, steps_of_warmup
from thruway.diagnosing.rules.loss_graph import chance_loss, loss_nodes
from thruway.diagnosing.rules.loss_history import LossHistory, loss_history
from thruway.diagnosing.rules.loss_scale import loss_scale
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.step_sizes import HEALTHY_RATIO, StepSizes, step_sizes
from thruway.diagnosing.rules.wording import number, percent

__all__ = ["LR_TOO_LOW"]

LEAST_STEPS = 20  # fewer steps show no trend
LEAST_RECORDED = 4  # so that the first and the last losses are means of different ones
SLOW = 1e-4  # update ratio: a tenth of a weight's norm takes 1,000 steps, even if all go in one direction
AT_CHANCE = 0.9  # of the loss of a constant guess; one that is nearly sure of two classes comes to 0.7 of it at most
SMALL = 0.1  # factor of the loss that is a cause: smaller than that of the usual sums over a few parts of a batch
FLAT = 0.02  # relative fall of the loss over the trace


def find_lr_too_low(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if no step of the trace was large enough to change the loss."""
    sizes, history = reading.derived(step_sizes), reading.derived(loss_history)
    if sizes is None or history is None or history.failed_at is not None:
        return
    span = int(reading.steps[-1] - reading.steps[0]) + 1
    if span < LEAST_STEPS or len(history.finite) < LEAST_RECORDED or reading.steps[0] > 0:
        return
    start, chance = history.first_level, chance_loss(loss_nodes(reading))
    scale = loss_scale(reading)
    is_scaled = scale is not None and chance is not None and scale > 0 and start / scale > AT_CHANCE * chance
    has_learnt = not start > 0 or (chance is not None and start < chance / 2 and not is_scaled)
    is_slow = False
    if not has_learnt and np.isfinite(sizes.largest).any():
        ratio = float(np.nanmax(sizes.largest))
        shares = sizes.predicted_fall / start
        share = float(np.nanmax(shares)) if np.isfinite(shares).any() else float("nan")
        # A fall larger than all steps together predict is the noise of the batches.
        fall = min(history.relative_fall, float(np.nanmean(shares)) * span) if np.isfinite(share) else float("nan")
        is_slow = 0 < ratio < SLOW and share < 10 * SLOW and fall <= FLAT + history.noise / start
    if not is_slow and has_learnt and not _rate_changes(reading):
        return
    if not is_slow:
        yield from find_early_schedule(reading, history, could_fall=None if has_learnt else _could_fall(sizes, span))
    elif not _rate_changes(reading):
        is_small = is_scaled and scale is not None and scale < SMALL
        yield _finding(reading, sizes, history, ratio, share, span, scale=scale if is_small else None)
    else:
        needed = steps_of_warmup(reading, ratio)
        if needed is not None and needed > LONGEST_WARMUP:
            yield _finding(reading, sizes, history, ratio, share, span, warmup=needed)


def _could_fall(sizes: StepSizes, span: int) -> float:
    """Return the sum of the falls of the loss that all steps together predict, NaN if it is not known."""
    known = np.isfinite(sizes.predicted_fall)
    return float(sizes.predicted_fall[known].mean()) * span if known.any() else float("nan")


def _rate_changes(reading: Reading) -> bool:
    """Return True if a learning rate rises (warm-up) or falls to zero in the trace."""
    rates = reading.values("learning_rate", "step")
    if rates is None:
        return False
    for row in rates.values:
        known = row[np.isfinite(row)]
        if len(known) and (known.max() > 1.001 * known[0] or known[-1] == 0):
            return True
    return False


def _change(history: LossHistory) -> str:
    """Return the change of the loss in words."""
    first, last = number(history.first_level), number(history.last_level)
    return f"stayed at {first}" if first == last else f"went from {first} to {last}"


def _finding(
    reading: Reading,
    sizes: StepSizes,
    history: LossHistory,
    ratio: float,
    share: float,
    span: int,
    *,
    scale: float | None = None,
    warmup: float | None = None,
) -> Finding:
    first = int(reading.steps[0])
    place = int(np.nanargmax(sizes.largest))
    name = sizes.worst(place)[0]
    needed = 0.1 / ratio
    factor = int(10 ** np.clip(round(np.log10(HEALTHY_RATIO / 10 / ratio)), 1, 6))
    is_far = factor >= 100
    cures = tuple(CURES[name] for name in (("much_raise_lr", "raise_lr") if is_far else ("raise_lr",)))
    advice = f" Raise it {'a hundredfold' if is_far else 'tenfold'}, and again until the loss moves."
    reason, ruled_out = "", "the learning rate is not that of a warm-up"
    if scale is not None:
        reason = f" The loss is about {number(scale)} times the mean over the examples, and so are the gradients."
        cures = (ADVICE["unscale_loss"], *cures)
    if warmup is not None:
        advice = f" It still rises, but at this pace steps reach a useful size after {warmup:,.0f} steps."
        ruled_out = f"a warm-up of usual length has at most {LONGEST_WARMUP:,} steps"
        cures = (ADVICE["shorten_warmup"],)
    return Finding(
        "lr_too_low",
        f"No step moved a weight by more than {percent(ratio)} of its norm, and the loss {_change(history)} in "
        f"{span:,} steps: the learning rate is too low, by a factor of about {factor:,}."
        f"{advice}{reason}",
        (),
        since=(None, first),
        evidence=(
            Evidence(
                "update_ratio",
                name,
                int(reading.steps[place]),
                ratio,
                f"the largest step moved {name} by {percent(ratio)} of its norm; at this size, a tenth of it takes at "
                f"least {needed:,.0f} steps",
                "threshold",
                HEALTHY_RATIO / 10,
                SLOW,
            ),
            Evidence(
                "predicted_fall",
                "",
                None,
                share,
                f"to first order, a step lowers the loss by at most {percent(share)}",
                "theory",
            ),
            Evidence(
                "loss",
                "",
                first,
                history.relative_fall,
                f"not a plateau after learning: the loss has not fallen since the first step; {ruled_out}",
                "ruled out",
            ),
        ),
        cures=cures,
        margin=max(SLOW / ratio, 1.0),
        confidence=0.85 if ratio < SLOW / 10 and warmup is None else 0.7,
    )


LR_TOO_LOW = Rule(
    "lr_too_low",
    find_lr_too_low,
    needs=(("norm", "update"), ("loss", "step")),
    least_steps=LEAST_RECORDED,
    least_span=LEAST_STEPS,
    needs_start=True,
    advice="Pass optimizer= to watch.",
)
