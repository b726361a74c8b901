"""Rules for the transform gates of highway layers: shut, wide open, or open from the start because of their bias.

A layer passes the share 1 - T of its input. L layers with gates T pass the product of 1 - T, and apply the sum of T of
their transforms. Gates of recurrent cells are left out: they act on time, not on depth.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Matrix, Reading
from thruway.diagnosing.rules.recurrent_gates import recurrent_gates
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.wording import number, part, product
from thruway.diagnosing.trunk import recurrent_names
from thruway.nn.gates import gate_bias_for_depth
from thruway.watching.sites import Site

__all__ = ["GATES_OPEN", "GATES_SHUT", "GATE_BIAS_NOT_NEGATIVE"]

_CARRIED = 1e-3  # share of the signal that must pass all layers; ten layers with gates at 1/2
_APPLIED = 0.05  # sum of the gates below which the layers together do nearly nothing
_OPEN = 0.88  # sigmoid(2)


@dataclass(frozen=True)
class _Gates:
    """The transform gates of layers one after another: mean values (layers, steps)."""

    sites: tuple[Site, ...]
    means: Matrix

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers."""
        return tuple(_layer_of(site) for site in self.sites)


def _gates(reading: Reading) -> _Gates | None:
    means = reading.values("mean")
    if means is None:
        return None
    recurrent = reading.derived(recurrent_names)
    sites = [
        site
        for site in reading.outputs
        if site.is_gate
        and site.name in means.row_of
        and "#" not in site.name
        and "carry" not in site.name.rpartition(".")[2]
        and not any(site.name == name or site.name.startswith(f"{name}.") for name in recurrent)
    ]
    if len(sites) < 2 or not _are_different(reading, sites):
        return None
    return _Gates(tuple(sites), means.values[[means.row_of[site.name] for site in sites]])


def _are_different(reading: Reading, sites: Sequence[Site]) -> bool:
    """Return True if each gate may belong to a layer of its own: one gate that is called many times is one gate."""
    in_code = [site for site in sites if site.operation != "transform gate"]
    weights = [parameter.shape for parameter in reading.parameters if len(parameter.shape) >= 2]
    # Each layer has a weight of its own; one of three dimensions may hold one matrix for each layer.
    if weights and len(in_code) > sum(shape[0] if len(shape) == 3 else 1 for shape in weights):
        return False
    # Gates in the code of a cell that has no module of its own lie beside maps that are called once per time step.
    scopes = {name.rpartition(".")[0] for name in reading.derived(recurrent_names)}
    return not any(
        site.name.rpartition(".")[0] in scopes and site.name.rpartition(".")[2].startswith(site.operation)
        for site in in_code
    )


def _layer_of(site: Site) -> str:
    name = site.name.split("#")[0]
    parent, _, last = name.rpartition(".")
    return parent if parent and (site.operation == "transform gate" or "gate" in last or "sigmoid" in last) else name


def _find_shut(reading: Reading) -> Iterator[Finding]:
    yield from _shut_over_depth(reading)
    yield from recurrent_gates(reading, "gates_shut")


def _shut_over_depth(reading: Reading) -> Iterator[Finding]:
    gates = _gates(reading)
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
    order = _order(gates, at, 1)
    yield Finding(
        "gates_shut",
        f"The transform gates of all {depth} layers are shut: their mean is {number(mean)}, so the layers together add "
        f"{number(float(applied[at]))} of a transform, and return their input. Their biases start too low: about "
        f"{number(_logit(mean))}, where {number(guide)} is usual at this depth.",
        order,
        since=since,
        evidence=(
            Evidence(
                "mean",
                gates.sites[0].name,
                since[1],
                float(applied[at]),
                f"The sum of the mean gates is {number(float(applied[at]))}; below {number(limit)} the layers do "
                "nearly nothing, and their weights get as little of the gradient.",
                "threshold",
                depth / (1 + math.exp(-guide)),
                limit,
            ),
            Evidence(
                "mean",
                gates.sites[0].name,
                since[1],
                mean,
                f"With the bias of {number(guide)} that the guideline gives for {depth} layers, gates start at "
                f"{number(1 / (1 + math.exp(-guide)))}.",
                "theory",
                1 / (1 + math.exp(-guide)),
            ),
            Evidence(
                "mean",
                gates.sites[0].name,
                int(reading.steps[-1]),
                float(gates.means[:, -1].mean()),
                "They are not only shut at the start, as gates that carry are: up to the end of the trace they "
                "have not "
                f"opened (mean {number(float(np.nanmean(gates.means[:, -1])))}).",
                "ruled out",
            ),
        ),
        cures=(replace(CURES["gate_bias"], text=f"raise the bias of the transform gates to about {number(guide)}"),),
        span=(gates.sites[0].name, gates.sites[-1].name),
        until=until,
        margin=max(1.0, limit / max(float(applied[at]), 1e-300)),
        confidence=0.9,
    )


def _find_open(reading: Reading) -> Iterator[Finding]:
    yield from _open_over_depth(reading)
    yield from recurrent_gates(reading, "gates_open")


def _open_over_depth(reading: Reading) -> Iterator[Finding]:
    gates = _gates(reading)
    if gates is None:
        return
    is_open = gates.means > _OPEN
    carried = _carried(gates.means)
    spell = reading.spell((is_open.mean(0) > 0.5) & (carried < _CARRIED), np.isfinite(carried))
    if spell is None:
        return
    since, until = spell
    at = int(np.searchsorted(reading.steps, since[1]))
    mean, depth = float(gates.means[:, at].mean()), len(gates.sites)
    yield Finding(
        "gates_open",
        f"The transform gates are wide open: their mean is {number(mean)}, so {part(float(carried[at]))} of the input "
        f"passes the {depth} layers unchanged, and the network is as hard to train as a plain one of that depth.",
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
                "are above "
                f"{number(_OPEN)}.",
                "ruled out",
            ),
        ),
        cures=(CURES["gate_bias"],),
        span=(gates.sites[0].name, gates.sites[-1].name),
        until=until,
        margin=max(1.0, min(1e300, _CARRIED / max(float(carried[at]), 1e-300))),
        confidence=0.9,
    )


def _find_bias(reading: Reading) -> Iterator[Finding]:
    gates = _gates(reading)
    if gates is None or reading.steps[0] != 0:
        return
    start = gates.means[:, 0]
    carried = float(_carried(gates.means)[0])
    # At a bias of 0 random gates lie around 1/2, and their mean within a few hundredths.
    starts_open = start >= 0.45
    if not (starts_open.mean() > 0.5 and carried < _CARRIED):
        return
    mean, depth = float(start.mean()), len(gates.sites)
    guide = gate_bias_for_depth(depth)
    yield Finding(
        "gate_bias_not_negative",
        f"The transform gates of {depth} layers start at {number(mean)}: their bias is about "
        f"{number(_logit(mean))}. Of the "
        f"input, {part(carried)} passes all layers. Start the biases at about {number(guide)}.",
        tuple(name for name, sick in zip(gates.layers, starts_open, strict=True) if sick),
        since=(None, 0),
        evidence=(
            Evidence(
                "mean",
                gates.sites[0].name,
                0,
                mean,
                f"The gates start at {number(mean)}; a negative bias starts them below 0.5, and the product of 1 - "
                "T over "
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
        cures=(CURES["gate_bias"],),
        span=(gates.sites[0].name, gates.sites[-1].name),
        margin=max(1.0, mean / 0.45),
        confidence=0.9,
    )


def _carried(means: Matrix) -> Matrix:
    found: Matrix = np.exp(np.log(np.maximum(1 - means, 1e-12)).sum(0))
    return found


def _order(gates: _Gates, at: int, sign: int) -> tuple[str, ...]:
    rows: Sequence[int] = np.argsort(sign * gates.means[:, at], kind="stable").tolist()
    return tuple(gates.layers[row] for row in rows)


def _guideline(gates: _Gates, mean: float, step: int) -> Evidence:
    guide = gate_bias_for_depth(len(gates.sites))
    start = 1 / (1 + math.exp(-guide))
    return Evidence(
        "mean",
        gates.sites[0].name,
        step,
        mean,
        f"With the bias of {number(guide)} that the guideline gives for {len(gates.sites)} layers, gates start at "
        f"{number(start)}, and {number((1 - start) ** len(gates.sites))} of the input passes all layers.",
        "theory",
        start,
    )


def _logit(share: float) -> float:
    share = min(max(share, 1e-12), 1 - 1e-12)
    return math.log(share / (1 - share))


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
