"""Rule for activations that grow from layer to layer.

The limit grows with the square root of the depth, as the trunk of a residual network with normalised branches does at
the start: every branch adds a signal of the same variance.
"""

import math
from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.flow import modules_of
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.wording import layer_text, number
from thruway.diagnosing.theory import critical_gain
from thruway.diagnosing.trunk import Trunk, gain_of, trunk_of

__all__ = ["EXPLODING_ACTIVATION"]

_LIMIT = 100.0  # times sqrt(layers)


def _find(reading: Reading) -> Iterator[Finding]:
    trunk = reading.derived(trunk_of)
    count = len(trunk.names)
    if count < 3:
        return
    # The output layer has units of its own kind, such as the targets of a regression.
    rms = trunk.rms[:-1]
    sizes = np.where(rms > 0, rms, 0.0)
    # Growth counts from the first layers on: one small layer among others makes the next one large beside it.
    first = sizes[: min(3, count // 2)]
    place = sizes.argmax(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(sizes[place, np.arange(sizes.shape[1])]) - np.log(first.max(0))
    limit = math.log(_LIMIT * math.sqrt(count))
    spell = reading.spell(value > limit, np.isfinite(value))
    if spell is None:
        return
    since, until = spell
    at = int(np.searchsorted(reading.steps, since[1]))
    late = int(place[at])
    early = int(first[:, at].argmax())
    ratio = math.exp(min(float(value[at]), 600.0))
    factor = ratio ** (1 / (late - early))
    yield Finding(
        "exploding_activation",
        f"The activations grow by a factor of {number(factor)} a layer, {number(ratio)} times from "
        f"{layer_text(trunk.names[early])} "
        f"to {layer_text(trunk.names[late])}. {_cause(reading, trunk, early, late, at)}",
        modules_of(reading, trunk.names[early + 1 : late + 1][::-1]),
        since=since,
        evidence=(
            Evidence(
                "rms",
                trunk.names[late],
                since[1],
                ratio,
                f"At step {since[1]} the output of {layer_text(trunk.names[late])} is {number(ratio)} times as large "
                f"as that of {layer_text(trunk.names[early])}.",
                "threshold",
                1.0,
                math.exp(limit),
            ),
            Evidence(
                "rms",
                trunk.names[late],
                since[1],
                ratio,
                f"At this depth theory expects a factor of 1 for critical weights, and of sqrt({late - early}) = "
                f"{number(math.sqrt(late - early))} for a residual trunk with normalised branches.",
                "theory",
                math.sqrt(late - early),
            ),
            Evidence(
                "rms",
                trunk.names[early],
                since[1],
                float(rms[early, at]),
                "Unscaled inputs do not explain it: the first of these layers has the size "
                f"{number(float(rms[early, at]))}, "
                "and the growth is between layers.",
                "ruled out",
            ),
        ),
        cures=tuple(CURES[name] for name in ("critical_init", "normalise", "lower_lr")),
        span=(trunk.names[early], trunk.names[late]),
        until=until,
        margin=math.exp(min(float(value[at]) - limit, 600.0)),
        confidence=0.9,
    )


def _cause(reading: Reading, trunk: Trunk, early: int, late: int, at: int) -> str:
    if trunk.is_branched:
        return (
            "Each residual branch adds a signal as large as its input: normalise the branches or start them near zero."
        )
    gains = gain_of(reading, trunk.layers[early + 1 : late + 1], at)
    gains = gains[np.isfinite(gains)]
    kinds = [layer.activation for layer in trunk.layers[early:late] if layer is not None and layer.activation]
    if not len(gains):
        return ""
    critical = critical_gain(kinds[0] if kinds else None)
    return (
        f"std(weight) * sqrt(fan_in) is {number(float(np.exp(np.log(np.maximum(gains, 1e-30)).mean())))} on average; "
        f"{number(critical)} would preserve the signal."
    )


_EFFECTS = "exploding_gradient saturated diverging nan_or_inf lr_too_high dead_units dying_relu constant_output"

EXPLODING_ACTIVATION = Rule(
    "exploding_activation",
    _find,
    needs=(("std", "output"),),
    explains=frozenset(_EFFECTS.split()),
)
