"""Gates of recurrent cells whose role is recorded, and that are shut from the first step on.

A cell adds a share T of something new at each time step, and keeps a share K of its state: c' = K c + T g. With T near
0 in all time steps the state stays empty, and the loss cannot depend on the input. With K near 0 the state of one time
step is gone in the next; what remains is the path through the outputs, and a measured gradient must show that it does
not carry either.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Matrix, Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.loss_history import loss_history
from thruway.diagnosing.rules.through_time import ratio_over_time
from thruway.diagnosing.rules.time_gradients import late_fall
from thruway.diagnosing.rules.wording import layer_text, number, percent
from thruway.diagnosing.trunk import STEPS_OF_A_RECURRENCE, without_call
from thruway.watching.sites import GateRole

__all__ = ["cell_gates_shut", "gates_with_role"]

_APPLIED = 0.05  # of something new, in all time steps together
_EXTREME = 0.12  # sigmoid(-2)
_LOST = 1e-3  # of the state, or of the gradient, is left after all time steps
_FLAT = 0.05  # relative fall of the loss
_LEAST_LOSSES = 30
_SPAN = 5  # losses whose median is a level
_WORDS: dict[GateRole, str] = {"carry": "update", "transform": "update", "input": "input", "forget": "forget"}


@dataclass(frozen=True)
class _Gate:
    """A gate of a cell: its role, and its mean values, (time steps, steps)."""

    name: str
    role: GateRole
    means: Matrix

    @property
    def passed(self) -> Matrix:
        """The share that passes of what the gate can shut out."""
        return 1 - self.means if self.role == "carry" else self.means


@dataclass(frozen=True)
class _Spell:
    """Steps in which a gate is shut: the last one (None: that of the trace), what passes at first, fall of the loss."""

    until: int | None
    value: float
    fall: float


def gates_with_role(reading: Reading) -> dict[str, GateRole]:
    """Return the roles of the gates by name without the number of a call. The state of the first call has no history,
    so its gates have none."""
    return {
        without_call(site.name)[0]: site.gate_role
        for site in reading.outputs
        if site.is_gate and site.gate_role is not None
    }


def _gates(reading: Reading) -> Iterator[_Gate]:
    means = reading.values("mean")
    calls: dict[str, list[Matrix]] = {}
    for site in reading.outputs:
        row = None if means is None or not site.is_gate else means.of(site.name)
        if row is not None:
            calls.setdefault(without_call(site.name)[0], []).append(row)
    for name, role in gates_with_role(reading).items():
        if len(rows := calls.get(name, [])) >= STEPS_OF_A_RECURRENCE:
            yield _Gate(name, role, np.array(rows))


def cell_gates_shut(reading: Reading) -> Iterator[Finding]:
    """Yield a finding for the first gate of a cell that is shut since the first step while the loss does not fall."""
    if reading.steps[0] != 0:
        return
    for gate in _gates(reading):
        spell = _forgets(reading, gate) if gate.role == "forget" else _lets_nothing_in(reading, gate)
        if spell is not None:
            yield _finding(reading, gate, spell)
            return


def _lets_nothing_in(reading: Reading, gate: _Gate) -> _Spell | None:
    applied = gate.passed.sum(0)
    if not applied[0] < _APPLIED:
        return None
    is_open = np.flatnonzero(np.isfinite(applied) & (applied >= _APPLIED))
    fall = late_fall(reading)
    if not len(is_open) and fall is not None:
        return _Spell(None, float(applied[0]), fall)
    # A run that learns in the end: the loss stays at its first level while the gate is shut, and falls as it opens.
    history = loss_history(reading)
    if history is None:
        return None
    losses, first = history.finite, history.first_level
    starts = np.arange(max(0, len(losses) - _SPAN + 1))
    falls = [place for place in starts.tolist() if history.level(place, place + _SPAN) < first - _FLAT * abs(first)]
    if not falls or falls[0] < max(_LEAST_LOSSES, len(losses) / 4):
        return None
    end = int(history.places[falls[0]])
    if len(is_open) and is_open[0] < end:
        return None
    return _Spell(
        int(reading.steps[end - 1]), float(applied[0]), (first - history.level(falls[0] - _SPAN, falls[0])) / abs(first)
    )


def _forgets(reading: Reading, gate: _Gate) -> _Spell | None:
    highest, fall = np.max(gate.passed, axis=0), late_fall(reading)
    known = highest[np.isfinite(highest)]
    kept = float(np.exp(np.log(np.maximum(gate.passed[1:, 0], 1e-30)).sum()))
    if fall is None or not len(known) or known.max() > _EXTREME or kept > _LOST:
        return None
    ratios = _ratios_of_candidates(reading, gate.name.rpartition(".")[0].rpartition(".")[0])
    if not ratios or any(np.nanmedian(ratio) > math.log(_LOST) for ratio in ratios):
        return None
    return _Spell(None, kept, fall)


def _ratios_of_candidates(reading: Reading, scope: str) -> list[Matrix]:
    """Return the logarithms of the gradient at the first time step, relative to the last, at each tanh of a cell."""
    gradient = reading.rms("gradient")
    calls: dict[str, list[Matrix]] = {}
    for site in reading.outputs:
        row = None if gradient is None else gradient.of(site.name)
        if row is not None and site.activation == "tanh" and site.name.startswith(f"{scope}." if scope else ""):
            calls.setdefault(without_call(site.name)[0], []).append(row)
    ratios = [
        ratio_over_time(np.array(rows), is_cell=True) for rows in calls.values() if len(rows) >= STEPS_OF_A_RECURRENCE
    ]
    return [ratio for ratio in ratios if np.isfinite(ratio).any()]


def _finding(reading: Reading, gate: _Gate, spell: _Spell) -> Finding:
    module, count, step = gate.name.rpartition(".")[0], len(gate.means), int(reading.steps[0])
    mean, word = float(gate.means[:, 0].mean()), _WORDS[gate.role]
    forgets = gate.role == "forget"
    limit = _LOST if forgets else _APPLIED
    effect = (
        f"{number(spell.value)} of the state is left after {count} time steps"
        if forgets
        else f"the {count} time steps together let in {number(spell.value)} of something new, and the state stays near "
        "its first value"
    )
    end = "up to the end of the trace" if spell.until is None else f"up to step {spell.until}"
    return Finding(
        "gates_shut",
        f"The {word} gate {layer_text(module)} is at {number(mean)} in all time steps since the first step, {end}: "
        f"{effect}. Its bias starts too far from 0.",
        (module,),
        since=(None, step),
        evidence=(
            Evidence(
                "mean",
                gate.name,
                step,
                spell.value,
                f"With a mean of {number(mean)}, {effect}; below {number(limit)} is too little.",
                "threshold",
                None,
                limit,
            ),
            Evidence(
                "mean",
                gate.name,
                step,
                mean,
                "A gate with a bias of 0 starts at 0.5, half old and half new.",
                "theory",
                0.5,
            ),
            Evidence(
                "relative_fall",
                "",
                int(reading.steps[-1]) if spell.until is None else spell.until,
                spell.fall,
                "It has not learnt to be at its end: it is there since the first step, and as long as it is, the loss "
                f"falls by {percent(max(spell.fall, 0.0))}.",
                "ruled out",
            ),
        ),
        cures=(ADVICE["reset_gate_bias"],),
        span=(module, module),
        until=spell.until,
        margin=max(1.0, limit / max(spell.value, 1e-30)),
        confidence=0.85,
    )
