"""Parameters that were learning, and are frozen in the middle of a run; copies of other parts that are never trained.

No finding: parts that are frozen once the loss has fallen by half or their gradient has become small, and first layers
whose freezing ends the training of the whole network.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Parameter, Reading
from thruway.diagnosing.rules.loss_history import loss_history
from thruway.diagnosing.rules.states import OPTIMIZED, TRAINABLE, ParameterHistory
from thruway.diagnosing.rules.wording import join_names, number, percent

__all__ = ["copies_of_trained_parts", "frozen_midway"]

_LEAST_STEPS = 10  # before and after: alternating freezing, as in a GAN, has shorter spells
_LEARNT = 0.5  # relative fall of the loss after which parts may be frozen because they have learnt
_STILL_LEARNS = 0.25  # of the gradient's first norm


def frozen_midway(reading: Reading, known: Sequence[ParameterHistory]) -> Iterator[Finding]:
    """Yield a finding if weights that were learning are frozen from one step on, while others go on."""
    frozen = [h for h in known if _frozen_at(h) is not None]
    if not any(h.is_weight for h in frozen):
        return
    first = min((h for h in frozen if h.is_weight), key=lambda h: _frozen_at(h) or 0)
    at = _frozen_at(first)
    assert at is not None
    place = int(first.places[at])
    go_on = [h for h in known if h.is_weight and (h.parameter.update_norm[place:] > 0).any()]
    share, fall = _gradient_left(first.parameter, place), _fall_before(reading, place)
    if not go_on or not share > _STILL_LEARNS or not fall < _LEARNT:
        return
    parts = [h for h in frozen if _frozen_at(h) == at]
    owners = tuple(dict.fromkeys(h.name.rpartition(".")[0] or h.name for h in parts))
    step, left = int(reading.steps[place]), len(reading.steps) - place
    yield Finding(
        "frozen_parameters",
        f"{join_names([h.name for h in parts])} {'was' if len(parts) == 1 else 'were'} learning until step "
        f"{int(reading.steps[place - 1])}, and requires_grad is False from step {step} on, while "
        f"{join_names([h.name for h in go_on])} {'goes' if len(go_on) == 1 else 'go'} on.",
        owners,
        since=(int(reading.steps[place - 1]), step),
        evidence=(
            Evidence(
                "state", first.name, step, float(first.bits[at]),
                f"requires_grad of {first.name} is True before step {step}, and False at the {left} steps from there "
                "on",
                "threshold", 7.0, 7.0,
            ),
            Evidence(
                "norm", first.name, int(reading.steps[place - 1]), share,
                f"before it was frozen, the gradient of {first.name} was still {percent(share)} of its first size: it "
                "would have changed on",
                "theory",
            ),
            Evidence(
                "loss", "", step, fall,
                f"not the end of its training: the loss had fallen by {percent(max(fall, 0.0))} only, to "
                f"{number(_loss_at(reading, place))}",
                "ruled out",
            ),
        ),
        cures=(CURES["unfreeze"],),
        span=(owners[0], owners[-1]),
        confidence=0.8,
    )  # fmt: skip


def _frozen_at(h: ParameterHistory) -> int | None:
    """Return the position in `places` from which on a parameter is frozen, None if it is not or always was."""
    trains = h.has(TRAINABLE)
    last = np.flatnonzero(trains)
    if not len(last) or not h.has(OPTIMIZED)[last[-1]] or not h.has_gradient:
        return None
    at = int(last[-1]) + 1
    return at if trains[:at].all() and at >= _LEAST_STEPS and len(trains) - at >= _LEAST_STEPS else None


def _gradient_left(parameter: Parameter, place: int) -> float:
    """Return the norm of the gradient before a place, relative to the first ones; NaN if it was not measured."""
    norms = parameter.gradient_norm[:place]
    norms = norms[np.isfinite(norms)]
    if not len(norms) or not np.median(norms[:3]) > 0:
        return float("nan")
    return float(np.median(norms[-3:]) / np.median(norms[:3]))


def _fall_before(reading: Reading, place: int) -> float:
    """Return the relative fall of the loss before a place, NaN if it is not known."""
    history = reading.derived(loss_history)
    if history is None:
        return float("nan")
    start = float(history.finite[0]) if len(history.finite) else float("nan")
    return (start - _loss_at(reading, place)) / start if start > 0 else float("nan")


def _loss_at(reading: Reading, place: int) -> float:
    """Return the median of the last five losses before a place."""
    losses = np.empty(0) if reading.loss is None else reading.loss[:place]
    known: NDArray[np.float64] = losses[np.isfinite(losses)][-5:]
    return float(np.median(known)) if len(known) else float("nan")


def copies_of_trained_parts(reading: Reading, known: Sequence[ParameterHistory]) -> frozenset[str]:
    """Return the names of the parameters of frozen parts that began as copies of trained ones, as a teacher does.

    A part is a copy if a trained part has parameters of the same names, shapes and first norms. An average of weights
    over the steps, or a target network, is changed without gradients; nobody freezes a copy of a part by mistake.
    """
    found: set[str] = set()
    frozen = [h for h in known if not h.is_trainable]
    trained = {h.name: h for h in known if h.is_trainable}
    for part in dict.fromkeys(prefix for h in frozen for prefix in _prefixes(h.name)):
        of_part = [h for h in known if h.name.startswith(f"{part}.")]
        if any(h.is_trainable for h in of_part) or not any(h.is_weight and _first_norm(h) > 0 for h in of_part):
            continue
        endings = [h.name[len(part) :] for h in of_part]
        for name in [n for n in trained if n.endswith(endings[0])]:
            other = name[: -len(endings[0])]
            pairs = [(h, trained.get(other + ending)) for h, ending in zip(of_part, endings, strict=True)]
            if all(twin is not None and _is_equal(h, twin) for h, twin in pairs):
                found.update(h.name for h in of_part)
    return frozenset(found)


def _prefixes(name: str) -> list[str]:
    """Return the names of the modules that contain a parameter, the outermost first."""
    parts = name.split(".")[:-1]
    return [".".join(parts[: k + 1]) for k in range(len(parts))]


def _first_norm(h: ParameterHistory) -> float:
    known = h.parameter.norm[np.isfinite(h.parameter.norm)]
    return float(known[0]) if len(known) else float("nan")


def _is_equal(one: ParameterHistory, other: ParameterHistory) -> bool:
    return one.parameter.shape == other.parameter.shape and _first_norm(one) == _first_norm(other)
