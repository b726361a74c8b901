"""Rule for gradients that explode over depth: the first layers get a thousand times the gradient of the last, or more.

In a chain of batch-normalised layers the gradient grows by sqrt(pi / (pi - 1)) = 1.21 a layer (Yang et al. 2019, A mean
field theory of batch normalization, for ReLU), which the threshold allows unless it destroys the first layers.
"""

import math
from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Matrix, Reading
from thruway.diagnosing.rules.flow import Flow, flow_between, modules_of
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.time_gradients import exploding_through_time
from thruway.diagnosing.rules.wording import layer_text, number, percent
from thruway.diagnosing.theory import critical_gain
from thruway.diagnosing.trunk import Trunk, trunk_of

__all__ = ["EXPLODING_GRADIENT", "EXPLODING_RATIO", "exploding_spell"]

EXPLODING_RATIO = 1e3
_GROWTH_OF_NORMS = 0.5 * math.log(math.pi / (math.pi - 1))


def allowed(trunk: Trunk) -> float:
    """Return the natural logarithm of the largest growth that is no symptom."""
    return math.log(EXPLODING_RATIO) + _GROWTH_OF_NORMS * float(trunk.normalised.sum())


def limit_of(reading: Reading, trunk: Trunk) -> Matrix:
    """Return the natural logarithm of the largest growth that is no symptom, for each step.

    The growth that norms cause is no symptom as long as the steps of the first layers stay small. If a step moves one
    of their weights by more than its norm, the growth has destroyed the layer.
    """
    limit = np.full(len(reading.steps), allowed(trunk))
    first = trunk.layers[: max(1, len(trunk.layers) // 4)]
    names = {layer.weight for layer in first if layer is not None}
    for parameter in reading.parameters:
        if parameter.name in names:
            limit[parameter.update_ratio > 1] = math.log(EXPLODING_RATIO)
    return limit


def exploding_spell(reading: Reading) -> tuple[tuple[int | None, int], int | None] | None:
    """Return onset and end; an explosion in the first recorded step counts also if it does not last.

    One step with such gradients changes the weights so much that the network is another one afterwards.
    """
    trunk = reading.derived(trunk_of)
    rise = trunk.rise()[0]
    sick, known = rise > limit_of(reading, trunk), np.isfinite(rise)
    lasting = reading.spell(sick, known)
    places = np.flatnonzero(known)
    if lasting is None and len(places) and sick[places[0]]:
        healthy = np.flatnonzero(known & ~sick)
        last = int(reading.steps[healthy[0] - 1]) if len(healthy) else None
        return (None, int(reading.steps[places[0]])), last
    return lasting


def _find(reading: Reading) -> Iterator[Finding]:
    found = next(_over_depth(reading), None) or next(exploding_through_time(reading), None)
    if found is not None:
        yield found


def _over_depth(reading: Reading) -> Iterator[Finding]:
    trunk = reading.derived(trunk_of)
    spell = exploding_spell(reading)
    if spell is None:
        return
    since, until = spell
    rise, first, last = trunk.rise()
    at = int(np.searchsorted(reading.steps, since[1]))
    flow = flow_between(reading, trunk, int(first[at]), int(last[at]), at)
    ratio, limit = math.exp(min(rise[at], 600.0)), math.exp(min(limit_of(reading, trunk)[at], 600.0))
    early, late = trunk.names[flow.first], trunk.names[flow.last]
    has_norms = bool(trunk.normalised.mean() > 0.5)
    yield Finding(
        "exploding_gradient",
        f"The gradient grows by a factor of {number(flow.factor)} a layer on its way back: over the {flow.count} "
        "layers "
        f"from {layer_text(late)} to {layer_text(early)} it grows {number(ratio)} times. "
        f"{_cause(flow, since[1], has_norms=has_norms)}",
        modules_of(reading, trunk.names[flow.first : flow.last]),
        since=since,
        evidence=(
            Evidence(
                "gradient_ratio",
                early,
                since[1],
                ratio,
                f"At step {since[1]} the gradient at {layer_text(early)} is {number(ratio)} times that at "
                f"{layer_text(late)}; up to {number(limit)} is usual.",
                "threshold",
                1.0,
                limit,
            ),
            _theory_of_norms(flow, early, since[1]) if has_norms else _theory(flow, early, since[1]),
            _ruled_out(reading, flow, early, since[1], at),
        ),
        cures=tuple(
            CURES[name]
            for name in (("skip", "clip", "lower_lr") if has_norms else ("critical_init", "clip", "normalise", "skip"))
        ),
        span=(early, late),
        until=until,
        margin=max(1.0, ratio / limit),
        confidence=0.95 if ratio > 10 * limit else 0.8,
    )


def _cause(flow: Flow, step: int, *, has_norms: bool) -> str:
    critical = critical_gain(flow.activation)
    when = "The initial weights" if step == 0 else "The weights"
    if has_norms:
        return (
            "Each norm divides by a standard deviation that ReLU has lowered, which multiplies the gradient by "
            f"sqrt(pi / (pi - 1)) = {math.exp(_GROWTH_OF_NORMS):.2f}: without skip connections this is too deep."
        )
    if flow.gain > 1.1 * critical:
        return (
            f"{when} are too large: std(weight) * sqrt(fan_in) is {number(flow.gain)}, and {number(critical)} would "
            f"preserve the gradient with {flow.activation or 'linear layers'}."
        )
    return ""


def _theory(flow: Flow, site: str, step: int) -> Evidence:
    if math.isfinite(flow.expected):
        return Evidence(
            "gradient_factor",
            site,
            step,
            flow.factor,
            f"At this depth and activation theory expects a factor of sqrt(chi) = {number(flow.expected)} a layer, "
            "from "
            f"the measured pre-activations and weights; {number(flow.factor)} was measured, and 1 preserves gradients.",
            "theory",
            flow.expected,
        )
    return Evidence(
        "gradient_factor",
        site,
        step,
        flow.factor,
        f"A factor of 1 a layer preserves gradients at any depth; {number(flow.factor)} was measured.",
        "theory",
        1.0,
    )


def _theory_of_norms(flow: Flow, site: str, step: int) -> Evidence:
    expected = math.exp(_GROWTH_OF_NORMS)
    return Evidence(
        "gradient_factor",
        site,
        step,
        flow.factor,
        f"For batch norm and ReLU theory expects a factor of {expected:.2f} a layer, "
        f"{number(expected**flow.count)} over {flow.count} layers; {flow.factor:.2f} was measured.",
        "theory",
        expected,
    )


def _ruled_out(reading: Reading, flow: Flow, early: str, step: int, at: int) -> Evidence:
    if flow.saturation > 0.5:
        return Evidence(
            "saturation",
            early,
            step,
            flow.saturation,
            f"{percent(flow.saturation)} of the activations are saturated, but this does not make the gradient vanish: "
            "the weights are so large that it grows nevertheless.",
            "ruled out",
        )
    return Evidence(
        "gradient_norm",
        early,
        step,
        flow.late_gradient,
        f"It is not only that the loss is large: the gradient is {number(flow.late_gradient)} at the last of these "
        "layers, and it grows on its way back.",
        "ruled out",
    )


_EFFECTS = (
    "saturated dead_units dying_relu diverging nan_or_inf lr_too_high vanishing_gradient rank_collapse constant_output"
)

EXPLODING_GRADIENT = Rule(
    "exploding_gradient",
    _find,
    needs=(("std", "gradient"),),
    explains=frozenset(_EFFECTS.split()),
    advice='Gradients are recorded with the quantities "mean" and "std" of training passes.',
)
