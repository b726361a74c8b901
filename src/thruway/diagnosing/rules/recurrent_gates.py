"""Gates of recurrent cells that stay shut or wide open from the first step on while the network does not learn.

A gate of a cell multiplies either the new or the old state, and cells differ in this. Where it is not recorded, the
size of the state decides: it stays near 0 if the gates let no candidate in. Trained gates are near 0 or 1 for good
reasons, so a run that learns has no finding.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import MAP_OPERATIONS, Matrix, Reading, Values
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.cell_gates import cell_gates_shut, gates_with_role
from thruway.diagnosing.rules.fused_gates import fused_gates_shut
from thruway.diagnosing.rules.time_gradients import late_fall
from thruway.diagnosing.rules.wording import layer_text, number, part
from thruway.diagnosing.trunk import recurrent_names, without_call
from thruway.watching.sites import Site

__all__ = ["recurrent_gates"]

_EXTREME = 0.12  # distance from 0 or 1: sigmoid(-2)
_APPLIED = 0.05  # of a candidate in all time steps together
_CARRIED = 1e-3  # of the state that is left after all time steps


@dataclass(frozen=True)
class _Cell:
    """A cell: mean values of each gate (time steps, steps), root mean squares of state and candidate (steps,)."""

    name: str
    gates: dict[str, Matrix]
    state: Matrix
    candidate: Matrix


def _cells(reading: Reading) -> Iterator[_Cell]:
    means, rms = reading.values("mean"), reading.rms()
    recurrent = reading.derived(recurrent_names)
    if means is None or rms is None or not recurrent:
        return
    outer = [name for name in sorted(recurrent) if not any(name.startswith(f"{other}.") for other in recurrent)]
    maps = {without_call(site.name)[0] for site in reading.outputs if site.operation in MAP_OPERATIONS}
    for name in outer:
        if name not in maps:
            inside = [site for site in reading.outputs if site.name.startswith((f"{name}.", f"{name}#"))]
            states = [site for site in reading.outputs if without_call(site.name)[0] == name]
            yield from _cell(name, inside, [states], means, rms)
    # A cell without a module of its own: maps that are called once per time step, and functions beside them.
    for scope in dict.fromkeys(name.rpartition(".")[0] for name in outer if name in maps):
        called = [name for name in outer if name in maps and name.rpartition(".")[0] == scope]
        own = tuple(f"{name}{end}" for name in called for end in (".", "#"))
        inside = [site for site in reading.outputs if site.name.startswith(own)]
        yield from _cell(scope, inside, _sums_of_a_step(reading, scope), means, rms)


def _cell(
    name: str, inside: Sequence[Site], states: Sequence[Sequence[Site]], means: Values, rms: Values
) -> Iterator[_Cell]:
    """Yield a cell, if its gates, a candidate and a state were measured.

    Args:
        name: name of the module, or of the module whose code is the cell.
        inside: outputs in the cell.
        states: for each value that may be the state, its outputs at the time steps. The smallest one is taken.
        means, rms: values of all outputs.
    """
    gates: dict[str, list[Matrix]] = {}
    for site in inside:
        of_site = means.of(site.name)
        if site.is_gate and of_site is not None:
            gates.setdefault(without_call(site.name)[0], []).append(of_site)
    known = [[row for site in sites if (row := rms.of(site.name)) is not None] for sites in states]
    candidates = [rms.of(site.name) for site in inside if site.activation == "tanh"]
    known_candidates = [row for row in candidates if row is not None]
    if gates and any(known) and known_candidates:
        yield _Cell(
            name,
            {gate: np.array(found) for gate, found in gates.items()},
            np.min([np.max(rows, axis=0) for rows in known if rows], axis=0),
            np.max(known_candidates, axis=0),
        )


def _sums_of_a_step(reading: Reading, scope: str) -> list[list[Site]]:
    """Return the sums in a module's own code, those at the same place of each time step together.

    A state is a sum of what is kept and what is let in; other sums are pre-activations.
    """
    before = f"{scope}." if scope else ""
    sums = [
        site
        for site in reading.outputs
        if site.operation == "add" and site.name.removeprefix(before).rstrip("_0123456789") == "add"
    ]
    time_steps = max(without_call(site.name)[1] for site in reading.outputs if site.name.startswith(before))
    period = len(sums) // time_steps if len(sums) % time_steps == 0 else 1
    return [sums[place::period] for place in range(period)]


def recurrent_gates(reading: Reading, rule: str) -> Iterator[Finding]:
    """Yield a finding of "gates_shut" or "gates_open" for the first cell with such gates since the first step."""
    if rule == "gates_shut":
        yield from fused_gates_shut(reading)
        yield from cell_gates_shut(reading)
    fall = late_fall(reading)
    if fall is None:
        return
    known = gates_with_role(reading) if rule == "gates_shut" else {}
    for cell in _cells(reading):
        is_empty = cell.state[0] < _APPLIED * max(1.0, float(cell.candidate[0]))
        for gate, means in cell.gates.items():
            if gate in known:
                continue
            distance = np.minimum(means, 1 - means)
            farthest = np.max(distance, axis=0)
            spell = reading.spell(np.less(farthest, _EXTREME), np.isfinite(farthest))
            if spell is None or spell[0][0] is not None or spell[1] is not None:
                continue
            applied, carried = (
                float(distance[:, 0].sum()),
                math.exp(float(np.log(np.maximum(distance[:, 0], 1e-30)).sum())),
            )
            is_shut = is_empty and applied < _APPLIED
            is_open = not is_empty and len(cell.gates) < 3 and carried < _CARRIED
            if is_shut if rule == "gates_shut" else is_open:
                yield _finding(reading, cell, gate, rule, applied if is_shut else carried, fall)
                return


def _finding(reading: Reading, cell: _Cell, gate: str, rule: str, value: float, fall: float) -> Finding:
    mean, count, step = float(cell.gates[gate][:, 0].mean()), len(cell.gates[gate]), int(reading.steps[0])
    module = gate.rpartition(".")[0]
    is_shut = rule == "gates_shut"
    limit = _APPLIED if is_shut else _CARRIED
    effect = (
        f"the {count} time steps together let in {number(value)} of a candidate, and the state stays near 0"
        if is_shut
        else f"{part(value)} of the state is left after {count} time steps"
    )
    return Finding(
        rule,
        f"The gate {layer_text(module)} is at {number(mean)} in all time steps since the first step: {effect}. "
        "Its bias starts too far from 0.",
        (module,),
        since=(None, step),
        evidence=(
            Evidence(
                "mean",
                gate,
                step,
                value,
                f"With a mean of {number(mean)}, {effect}; below {number(limit)} is too little.",
                "threshold",
                None,
                limit,
            ),
            Evidence(
                "mean", gate, step, mean, "A gate with a bias of 0 starts at 0.5, half old and half new.", "theory", 0.5
            ),
            Evidence(
                "relative_fall",
                "",
                int(reading.steps[-1]),
                fall,
                "It has not learnt to be at its end: it is there since the first step, and the loss does not fall.",
                "ruled out",
            ),
        ),
        cures=(ADVICE["reset_gate_bias"],),
        span=(module, module),
        margin=max(1.0, limit / max(value, 1e-30)),
        confidence=0.85,
    )
