"""Gradients that are never set to zero, so that each step adds those of all steps before it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.states import HAS_GRADIENT, STALE, histories
from thruway.diagnosing.rules.wording import number, percent

__all__ = ["GRADIENTS_ACCUMULATE"]

MOST = 0.5  # share of steps with a gradient of the step before


def find_accumulation(reading: Reading) -> Iterator[Finding]:
    """Yield a finding if the gradients of most steps contain those of the step before."""
    known = [h for h in reading.derived(histories) if h.is_optimized and h.has_gradient]
    if known:
        yield from _stale(reading, [(h.places, h.has(STALE) & h.has(HAS_GRADIENT), h.name) for h in known])
    elif reading.values("state", "parameter") is None:
        yield from _growing(reading)


def _stale(reading: Reading, flags: list[tuple[NDArray[np.int64], NDArray[np.bool_], str]]) -> Iterator[Finding]:
    sick = [(places, stale, name) for places, stale, name in flags if len(places) > 1 and stale[1:].mean() > MOST]
    # A parameter that is used now and then keeps its gradient of an earlier step if set_to_none is False.
    if not sick or len(sick) < MOST * len(flags):
        return
    places, stale, name = sick[0]
    share = float(stale[1:].mean())
    start = int(np.flatnonzero(stale)[0])
    before = int(reading.steps[places[start - 1]]) if start else None
    step = int(reading.steps[places[start]])
    yield Finding(
        "gradients_accumulate",
        f"At {percent(share)} of the steps the gradients still contained those of the step before when the backward "
        "pass began: gradients accumulate over all steps. Call optimizer.zero_grad() in every step.",
        (),
        since=(before, step),
        evidence=(
            Evidence(
                "state",
                name,
                step,
                share,
                f"{name}.grad was not set to zero before the backward pass of step {step}",
                "threshold",
                0.0,
                MOST,
            ),
            _growth_row(reading),
            Evidence(
                "state",
                "",
                step,
                float(len(sick)),
                f"not the accumulation of several batches per step: .grad is kept beyond optimizer.step(), of "
                f"{len(sick)} of {len(flags)} parameters",
                "ruled out",
            ),
        ),
        cures=(CURES["zero_grad"],),
        margin=share / MOST,
        confidence=0.97,
    )


def _gradient_growth(reading: Reading) -> tuple[float, float, int] | None:
    """Return the growth of the parameters' gradient and of the outputs' gradient, and the number of steps between."""
    outputs = reading.rms("gradient")
    norms = [p.gradient_norm for p in reading.parameters if np.isfinite(p.gradient_norm).any()]
    if outputs is None or not norms or len(reading.steps) < 2:
        return None
    total = np.sqrt(np.nansum(np.square(np.stack(norms)), 0))
    last_output = outputs.values[-1]
    n = max(len(total) // 10, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = float(np.nanmedian(total[-n:]) / np.nanmedian(total[:n]))
        of_outputs = float(np.nanmedian(last_output[-n:]) / np.nanmedian(last_output[:n]))
    return growth, of_outputs, int(reading.steps[-1] - reading.steps[0])


def _growth_row(reading: Reading) -> Evidence:
    growth = _gradient_growth(reading)
    if growth is None or not np.isfinite(growth[0]):
        return Evidence(
            "gradient_norm", "", None, float("nan"), "after k steps, .grad is the sum of k gradients", "theory"
        )
    return Evidence(
        "gradient_norm",
        "",
        int(reading.steps[-1]),
        growth[0],
        f"after k steps, .grad is the sum of k gradients: the parameters' gradient changed by a factor of "
        f"{number(growth[0])}, that of the last output by {number(growth[1])}",
        "theory",
        growth[1],
    )


def _growing(reading: Reading) -> Iterator[Finding]:
    """Yield a finding for a trace without states: the parameters' gradient grows like the number of steps."""
    growth = _gradient_growth(reading)
    if growth is None or growth[2] < 10:
        return
    ratio = growth[0] / growth[1] if growth[1] > 0 else float("nan")
    # A sum of k equal gradients grows like k, one of k unrelated ones like sqrt(k).
    least = max(np.sqrt(growth[2]), 4.0)
    if not ratio > least:
        return
    first = int(reading.steps[0])
    yield Finding(
        "gradients_accumulate",
        f"The gradient of the parameters grew by a factor of {number(growth[0])}, that of the last output only by "
        f"{number(growth[1])}: gradients seem to accumulate over the steps. Call optimizer.zero_grad() in every step.",
        (),
        since=(None, first),
        evidence=(
            Evidence(
                "gradient_norm",
                "",
                int(reading.steps[-1]),
                ratio,
                f"relative to the gradient of the last output, the parameters' gradient grew by {number(ratio)}",
                "threshold",
                1.0,
                float(least),
            ),
            Evidence(
                "gradient_norm", "", None, float(least), "a sum of k gradients grows at least like sqrt(k)", "theory"
            ),
        ),
        cures=(CURES["zero_grad"],),
        margin=float(ratio / least),
        confidence=0.6,
    )


GRADIENTS_ACCUMULATE = Rule(
    "gradients_accumulate",
    find_accumulation,
    needs=(("state", "parameter"),),
    explains=frozenset(
        (
            "lr_too_high",
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
        )
    ),
    effects_begin="any step",
    least_steps=2,
    advice="Pass optimizer= to watch.",
)
