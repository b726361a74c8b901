"""Rule for gradients that vanish over depth: the first layers get a thousandth of the gradient of the last, or less.

A network with one learning rate moves its first layers a thousand times less than its last ones if their gradients have
this ratio. Deep networks at the critical point of their activation, with skip connections or with norms stay far above.
"""

import math
from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.flow import Flow, flow_between, modules_of
from thruway.diagnosing.rules.lost_input import is_constant
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.time_gradients import vanishing_through_time
from thruway.diagnosing.rules.wording import layer_text, number, percent
from thruway.diagnosing.theory import critical_gain, steepest_slope
from thruway.diagnosing.trunk import trunk_of

__all__ = ["VANISHING_GRADIENT", "VANISHING_RATIO"]

VANISHING_RATIO = 1e-3
_HALF_FLAT = frozenset(("relu", "relu6", "elu", "selu", "gelu", "silu", "softplus"))


def _find(reading: Reading) -> Iterator[Finding]:
    found = next(_over_depth(reading), None) or next(vanishing_through_time(reading), None)
    if found is not None:
        yield found


def _over_depth(reading: Reading) -> Iterator[Finding]:
    trunk = reading.derived(trunk_of)
    drop, first, last = trunk.drop()
    spell = reading.spell(drop < math.log(VANISHING_RATIO), np.isfinite(drop))
    if spell is None:
        return
    since, until = spell
    at = int(np.searchsorted(reading.steps, since[1]))
    flow = flow_between(reading, trunk, int(first[at]), int(last[at]), at)
    ratio = math.exp(max(drop[at], -600.0))
    if _contradicts_theory(flow) and is_constant(reading, trunk.names[flow.last], at):
        return  # the signal is lost on the way forward: that is what constant_output and rank_collapse are about
    why, cures = _cause(flow)
    sites = modules_of(reading, trunk.names[: max(1, (flow.first + flow.last) // 2)])
    early, late = trunk.names[flow.first], trunk.names[flow.last]
    yield Finding(
        "vanishing_gradient",
        f"The gradient shrinks by a factor of {number(flow.factor)} a layer on its way back: over the {flow.count} "
        "layers "
        f"from {layer_text(late)} to {layer_text(early)} it falls to {number(ratio)} of its size. {why}",
        sites,
        since=since,
        evidence=(
            Evidence(
                "gradient_ratio",
                early,
                since[1],
                ratio,
                f"At step {since[1]} the gradient at {layer_text(early)} is {number(ratio)} times that at "
                f"{layer_text(late)}; below {number(VANISHING_RATIO)} the first layers hardly learn.",
                "threshold",
                1.0,
                VANISHING_RATIO,
            ),
            _theory(flow, early, since[1]),
            _ruled_out(reading, flow, late, since[1], at),
        ),
        cures=tuple(CURES[name] for name in cures) or (ADVICE["check_forward"], CURES["skip"]),
        span=(early, late),
        until=until,
        margin=min(VANISHING_RATIO / max(ratio, 1e-300), 1e300),
        # Without a known cause it is less sure than a finding that names one.
        confidence=0.7 if not cures else 0.95 if ratio < VANISHING_RATIO / 10 else 0.8,
    )


def _cause(flow: Flow) -> tuple[str, tuple[str, ...]]:
    steepest = steepest_slope(flow.activation)
    if flow.activation is not None and steepest < 0.5:
        return (
            f"The slope of {flow.activation} is at most {number(steepest)}, so it is the activation that shrinks the "
            f"gradient, not saturation: {percent(flow.saturation)} of the values are saturated.",
            ("relu", "tanh", "normalise", "skip", "highway"),
        )
    # Half of the values of a ReLU lie on its flat part in a healthy network.
    if flow.saturation > (0.5 if flow.activation not in _HALF_FLAT else 0.75):
        return (
            f"{percent(flow.saturation)} of the values of {flow.activation} are saturated, where its slope is near 0.",
            ("critical_init", "normalise", "skip"),
        )
    if _contradicts_theory(flow):
        return (
            f"It is not the weights and not the activation, which would give a factor of {number(flow.expected)}: "
            "another operation between these layers takes the signal away.",
            (),
        )
    critical = critical_gain(flow.activation)
    if flow.gain < 0.9 * critical:
        return (
            f"The weights are too small for this depth: std(weight) * sqrt(fan_in) is {number(flow.gain)}, and "
            f"{number(critical)} would preserve the gradient with {flow.activation or 'linear layers'}.",
            ("critical_init", "skip", "normalise", "highway"),
        )
    return "", ("critical_init", "skip", "normalise")


def _contradicts_theory(flow: Flow) -> bool:
    """Return True if weights and activations would let pass more than ten times as much of the gradient per layer."""
    return math.isfinite(flow.expected) and flow.factor < flow.expected / 10


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
        f"A factor of 1 a layer preserves gradients at any depth; over {flow.count} layers the lowest that keeps a "
        f"thousandth is {number(VANISHING_RATIO ** (1 / max(1, flow.count)))}, and {number(flow.factor)} was measured.",
        "theory",
        1.0,
    )


def _ruled_out(reading: Reading, flow: Flow, late: str, step: int, at: int) -> Evidence:
    size = flow.late_gradient
    return Evidence(
        "gradient_norm",
        late,
        step,
        size,
        f"The run has not simply converged: the gradient at {layer_text(late)} is {number(size)}, so there is "
        "something to learn, and the early layers do not get it.",
        "ruled out",
    )


VANISHING_GRADIENT = Rule(
    "vanishing_gradient",
    _find,
    needs=(("std", "gradient"),),
    explains=frozenset(("lr_too_low", "constant_output", "rank_collapse", "gates_open")),
    advice='Gradients are recorded with the quantities "mean" and "std" of training passes.',
)
