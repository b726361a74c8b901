"""Rules for the gates of highway layers: shut, wide open, or open from the start because of their bias.

A layer passes the share 1 - T of its input. L layers with gates T pass the product of 1 - T, and apply the sum of T of
their transforms. A carry gate is 1 - T. Gates of recurrent cells are left out: they act on time, not on depth.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Cure, Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.depth_gates import DepthGates, carried_by, depth_gates
from thruway.diagnosing.rules.recurrent_gates import recurrent_gates
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.wording import number, part, product
from thruway.nn.gates import gate_bias_for_depth

__all__ = ["GATES_OPEN", "GATES_SHUT", "GATE_BIAS_NOT_NEGATIVE"]

_CARRIED = 1e-3  # share of the signal that must pass all layers; ten layers with gates at 1/2
_APPLIED = 0.05  # sum of the gates below which the layers together do nearly nothing
_OPEN = 0.88  # sigmoid(2)


def _find_shut(reading: Reading) -> Iterator[Finding]:
    yield from _shut_over_depth(reading)
    yield from recurrent_gates(reading, "gates_shut")


def _shut_over_depth(reading: Reading) -> Iterator[Finding]:
    gates = depth_gates(reading)
    if gates is None:
        return
    depth = len(gates.sites)
    applied = gates.means.sum(0)
    # The guideline for the bias at this depth is no fault, and neither are gates a factor of e^2 below it.
    limit = min(_APPLIED, depth / (1 + math.exp(2 - gate_bias_for_depth(depth))))
    spell = reading.spell(applied < limit, np.isfinite(applied))
    if spell is None or spell[1] is not None:
        return
    since, until = spell
    at = int(np.searchsorted(reading.steps, since[1]))
    mean = float(gates.means[:, at].mean())
    guide = gate_bias_for_depth(depth)
    order = gates.by_size(at)
    yield Finding(
        "gates_shut",
        f"The {gates.kind} gates of all {depth} layers are {gates.shut}: their mean is {gates.text(mean)}, so the "
        f"layers together add {number(float(applied[at]))} of a transform, and return their input. Their biases start "
        f"too {gates.low}: about {gates.bias(mean)}, where {gates.guide} is usual at this depth.",
        order,
        since=since,
        evidence=(
            Evidence(
                "mean",
                gates.sites[0].name,
                since[1],
                float(applied[at]),
                f"The sum of the mean {gates.symbol} is {number(float(applied[at]))}; below {number(limit)} the layers "
                "do nearly nothing, and their weights get as little of the gradient.",
                "threshold",
                depth / (1 + math.exp(-guide)),
                limit,
            ),
            Evidence(
                "mean",
                gates.sites[0].name,
                since[1],
                mean,
                f"With the bias of {gates.guide} that the guideline gives for {depth} layers, gates start at "
                f"{gates.text(1 / (1 + math.exp(-guide)))}.",
                "theory",
                1 / (1 + math.exp(-guide)),
            ),
            Evidence(
                "mean",
                gates.sites[0].name,
                int(reading.steps[-1]),
                float(gates.means[:, -1].mean()),
                "They do not only start so, as gates that carry do: up to the end of the trace they have not "
                f"changed (mean {gates.text(float(np.nanmean(gates.means[:, -1])))}).",
                "ruled out",
            ),
        ),
        cures=(_cure(gates, f"start the bias of the {gates.kind} gates at about {gates.guide}"),),
        span=(gates.sites[0].name, gates.sites[-1].name),
        until=until,
        margin=max(1.0, limit / max(float(applied[at]), 1e-300)),
        confidence=0.9,
    )


def _find_open(reading: Reading) -> Iterator[Finding]:
    yield from _open_over_depth(reading)
    yield from recurrent_gates(reading, "gates_open")


def _open_over_depth(reading: Reading) -> Iterator[Finding]:
    gates = depth_gates(reading)
    if gates is None:
        return
    is_open = gates.means > _OPEN
    carried = carried_by(gates.means)
    spell = reading.spell((is_open.mean(0) > 0.5) & (carried < _CARRIED), np.isfinite(carried))
    if spell is None:
        return
    since, until = spell
    at = int(np.searchsorted(reading.steps, since[1]))
    mean, depth = float(gates.means[:, at].mean()), len(gates.sites)
    yield Finding(
        "gates_open",
        f"The {gates.kind} gates are {gates.open}: their mean is {gates.text(mean)}, so {part(float(carried[at]))} of "
        f"the input passes the {depth} layers unchanged, and the network is as hard to train as a plain one of that "
        "depth.",
        tuple(name for name, sick in zip(gates.layers, is_open[:, at], strict=True) if sick),
        since=since,
        evidence=(
            Evidence(
                "carried",
                gates.sites[0].name,
                since[1],
                float(carried[at]),
                f"The product of 1 - T over {depth} layers is {product(float(carried[at]))}.",
                "threshold",
                1.0,
                _CARRIED,
            ),
            _guideline(gates, mean, since[1]),
            Evidence(
                "mean",
                gates.sites[0].name,
                since[1],
                mean,
                f"It is not a single layer that learnt to transform: {int(is_open[:, at].sum())} of {depth} gates "
                f"are {gates.above} {gates.text(_OPEN)}.",
                "ruled out",
            ),
        ),
        cures=(_cure(gates),),
        span=(gates.sites[0].name, gates.sites[-1].name),
        until=until,
        margin=max(1.0, min(1e300, _CARRIED / max(float(carried[at]), 1e-300))),
        confidence=0.9,
    )


def _find_bias(reading: Reading) -> Iterator[Finding]:
    gates = depth_gates(reading)
    if gates is None or reading.steps[0] != 0:
        return
    start = gates.means[:, 0]
    carried = float(carried_by(gates.means)[0])
    # At a bias of 0 random gates lie around 1/2, and their mean within a few hundredths.
    starts_open = start >= 0.45
    if not (starts_open.mean() > 0.5 and carried < _CARRIED):
        return
    mean, depth = float(start.mean()), len(gates.sites)
    guide = gate_bias_for_depth(depth)
    yield Finding(
        "gate_bias_not_negative",
        f"The {gates.kind} gates of {depth} layers start at {gates.text(mean)}: their bias is about "
        f"{gates.bias(mean)}. Of the "
        f"input, {part(carried)} passes all layers. Start the biases at about {gates.guide}.",
        tuple(name for name, sick in zip(gates.layers, starts_open, strict=True) if sick),
        since=(None, 0),
        evidence=(
            Evidence(
                "mean",
                gates.sites[0].name,
                0,
                mean,
                f"The gates start at {gates.text(mean)}; a {gates.sign} bias starts {gates.symbol} below 0.5, and the "
                "product of 1 - T over "
                f"the layers, {product(carried)}, should be above {number(_CARRIED)}.",
                "threshold",
                1 / (1 + math.exp(-guide)),
                0.45,
            ),
            _guideline(gates, mean, 0),
            Evidence(
                "carried",
                gates.sites[0].name,
                0,
                carried,
                f"The network is too deep for it to be harmless: up to ten layers pass a thousandth, these {depth} "
                "pass "
                f"{part(carried)}.",
                "ruled out",
            ),
        ),
        cures=(_cure(gates),),
        span=(gates.sites[0].name, gates.sites[-1].name),
        margin=max(1.0, mean / 0.45),
        confidence=0.9,
    )


def _guideline(gates: DepthGates, mean: float, step: int) -> Evidence:
    guide = gate_bias_for_depth(len(gates.sites))
    start = 1 / (1 + math.exp(-guide))
    return Evidence(
        "mean",
        gates.sites[0].name,
        step,
        mean,
        f"With the bias of {gates.guide} that the guideline gives for {len(gates.sites)} layers, gates start at "
        f"{gates.text(start)}, and {number((1 - start) ** len(gates.sites))} of the input passes all layers.",
        "theory",
        start,
    )


def _cure(gates: DepthGates, text: str = "") -> Cure:
    """Return the cure of the gate bias. That of carry gates is advice: the applied cure is for transform gates."""
    if gates.is_carry:
        return replace(ADVICE["reset_gate_bias"], text=f"start the bias of the carry gates at about {gates.guide}")
    return replace(CURES["gate_bias"], text=text) if text else CURES["gate_bias"]


GATES_SHUT = Rule(
    "gates_shut",
    _find_shut,
    explains=frozenset(("lr_too_low", "vanishing_gradient", "frozen_parameters", "constant_output", "rank_collapse")),
)
GATES_OPEN = Rule(
    "gates_open", _find_open, explains=frozenset(("vanishing_gradient", "exploding_gradient", "rank_collapse"))
)
GATE_BIAS_NOT_NEGATIVE = Rule(
    "gate_bias_not_negative",
    _find_bias,
    explains=frozenset(("gates_open", "vanishing_gradient", "exploding_gradient", "rank_collapse", "constant_output")),
)
