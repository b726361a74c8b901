"""Parameters that do not change although they should: frozen, detached, or not in the optimizer.

Frozen on purpose, and no finding: parameters with requires_grad False that are not in the optimizer, or all layers but
the last ones; modules that are never called; copies of trained parts, such as target networks.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Cure, Evidence, Finding
from thruway.diagnosing.names import embedding_names, owner_of
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.frozen_midway import copies_of_trained_parts, frozen_midway
from thruway.diagnosing.rules.lost_gradients import lost_gradients
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.states import (
    HAS_GRADIENT,
    OPTIMIZED,
    STALE,
    TRAINABLE,
    ParameterHistory,
    histories,
)
from thruway.diagnosing.rules.unregistered_layers import unregistered_layers
from thruway.diagnosing.rules.wording import join_names

__all__ = ["FROZEN_PARAMETERS"]


def find_frozen(reading: Reading) -> Iterator[Finding]:
    """Yield a finding for each reason for which parameters do not change."""
    known = reading.derived(histories)
    if not known:
        return
    lost: frozenset[str] = frozenset()
    for finding, names in lost_gradients(reading, known):
        yield finding
        lost |= names
    yield from unregistered_layers(reading, known)
    known = tuple(h for h in known if h.name not in lost)
    if not any(h.has_gradient for h in known):
        cut = [h for h in known if h.is_trainable and h.is_optimized]
        if cut:
            yield _detached_finding(reading, cut)
        return
    if not lost and not any(h.is_optimized for h in known):
        yield _of_a_copy(reading, known)
        return
    constant = _frozen_and_constant(reading, known)
    if constant:
        yield _constant(reading, constant)
    rest = [h for h in known if h not in constant]
    forgotten = [h for h in rest if h.is_trainable and not h.is_optimized and h.has_gradient and not _moves(h)]
    if forgotten:
        yield _forgotten(reading, forgotten)
    detached = _detached(reading, rest)
    if detached:
        yield _detached_finding(reading, detached)
    frozen = _frozen_by_mistake(reading, rest)
    if frozen:
        yield _frozen(reading, frozen)
    yield from frozen_midway(reading, rest)


def _modules(parameters: Sequence[ParameterHistory]) -> tuple[str, ...]:
    """Return the names of the modules that own parameters; of the parameter itself if the root owns it."""
    return tuple(dict.fromkeys(h.name.rpartition(".")[0] or h.name for h in parameters))


def _finding(
    reading: Reading,
    parameters: Sequence[ParameterHistory],
    cause: str,
    evidence: tuple[Evidence, ...],
    cures: tuple[Cure, ...],
    confidence: float,
) -> Finding:
    sites = _modules(parameters)
    first = int(reading.steps[min(h.places[0] for h in parameters)])
    return Finding(
        "frozen_parameters",
        cause,
        sites,
        since=(None, first),
        evidence=evidence,
        cures=cures,
        span=(sites[0], sites[-1]),
        confidence=confidence,
    )


def _state_row(h: ParameterHistory, reading: Reading, text: str) -> Evidence:
    step = int(reading.steps[h.places[0]])
    return Evidence("state", h.name, step, float(h.bits[0]), text, "threshold", expected=7.0, threshold=7.0)


def _expected_row(reading: Reading, of: ParameterHistory) -> Evidence:
    text = (
        "a parameter in training is trainable, in the optimizer, and has a gradient at every step; this one is "
        f"{_state_in_words(of)}"
    )
    return Evidence("state", of.name, None, float(of.bits[0]), text, "theory", expected=7.0)


def _state_in_words(h: ParameterHistory) -> str:
    """Return the state at the first recorded step in words."""
    return ", ".join(
        (
            "trainable" if h.has(TRAINABLE)[0] else "frozen",
            "in the optimizer" if h.has(OPTIMIZED)[0] else "not in the optimizer",
            "with a gradient" if h.has(HAS_GRADIENT)[0] else "without a gradient",
        )
    )


def _rest_row(known: Sequence[ParameterHistory], bad: Sequence[ParameterHistory], text: str) -> Evidence:
    return Evidence(
        "parameters", "", None, float(len(bad)), f"{len(bad)} of {len(known)} parameters; {text}", "ruled out"
    )


def _of_a_copy(reading: Reading, known: Sequence[ParameterHistory]) -> Finding:
    first = known[0]
    return _finding(
        reading,
        known,
        "The optimizer holds no parameter of this model: it was made from another model or from a copy, so no step "
        "changes this one.",
        (
            _state_row(first, reading, f"{first.name} has a gradient, but is not in the optimizer"),
            _expected_row(reading, first),
            _rest_row(known, known, "not frozen on purpose: they require gradients and get them"),
        ),
        (CURES["add_parameters"],),
        0.99,
    )


def _frozen_and_constant(reading: Reading, known: Sequence[ParameterHistory]) -> list[ParameterHistory]:
    """Return weights that never get a gradient or an update and are zero, or the same for every row of an embedding."""
    embeddings = embedding_names(reading)
    found = []
    for h in known:
        is_stuck = not h.is_trainable or not (h.is_optimized or h.has_gradient)
        p = h.parameter
        norms, stds = p.norm[np.isfinite(p.norm)], p.std[np.isfinite(p.std)]
        is_zero = len(norms) > 0 and norms[0] == 0
        is_constant = len(stds) > 0 and stds[0] == 0 and owner_of(h.name) in embeddings
        if is_stuck and h.is_weight and (is_zero or is_constant):
            found.append(h)
    return found


def _constant(reading: Reading, parameters: Sequence[ParameterHistory]) -> Finding:
    first = parameters[0]
    place = first.places[0]
    value = float(first.parameter.std[place])
    names = join_names([h.name for h in parameters])
    return _finding(
        reading,
        parameters,
        f"{names} {_is(parameters)} frozen and constant: all values are equal, and no step changes them, so that the "
        "output carries no information.",
        (
            Evidence(
                "std",
                first.name,
                int(reading.steps[place]),
                value,
                f"the standard deviation of {first.name} is 0, and it gets no gradient",
                "threshold",
                threshold=0.0,
            ),
            _expected_row(reading, first),
            _rest_row(parameters, parameters, "not frozen on purpose: constant weights compute nothing worth keeping"),
        ),
        (CURES["unfreeze"], CURES["break_symmetry"]),
        0.95,
    )


def _is(items: Sequence[object]) -> str:
    return "is" if len(items) == 1 else "are"


def _moves(h: ParameterHistory) -> bool:
    """Return True if the parameter changed between the recorded steps: another optimizer trains it."""
    norms, stds = (values[np.isfinite(values)] for values in (h.parameter.norm, h.parameter.std))
    return any(len(values) > 1 and bool((values != values[0]).any()) for values in (norms, stds))


def _forgotten(reading: Reading, parameters: Sequence[ParameterHistory]) -> Finding:
    names = join_names([h.name for h in parameters])
    # optimizer.zero_grad() does not reach them, so their gradients are sums over all steps.
    is_stale = any(h.has(STALE).any() for h in parameters)
    first = parameters[0]
    steps = int(np.isfinite(first.parameter.norm).sum())
    is_still = steps > 1
    other = (
        f"not trained by another optimizer: their norms are the same at all {steps} recorded steps"
        if is_still
        else "not trained by another optimizer: their gradients are never set to zero"
        if is_stale
        else "one step does not show if another optimizer trains them"
    )
    return _finding(
        reading,
        parameters,
        f"{names} {_is(parameters)} not in the optimizer: gradients are computed, but no step changes "
        f"{'it' if len(parameters) == 1 else 'them'}.",
        (
            _state_row(first, reading, f"{first.name} requires a gradient and gets one, but is not in the optimizer"),
            _expected_row(reading, first),
            _rest_row(parameters, parameters, other),
        ),
        (CURES["add_parameters"],),
        0.98 if is_stale or is_still else 0.6,
    )


def _detached(reading: Reading, known: Sequence[ParameterHistory]) -> list[ParameterHistory]:
    """Return trainable parameters in the optimizer that never get a gradient although their module is called."""
    called = {site.name.split("#")[0].split("[")[0] for site in reading.outputs}
    silent = [h for h in known if h.is_trainable and h.is_optimized and not h.has_gradient]
    found = [h for h in silent if owner_of(h.name) in called]
    # Layers that run under no_grad leave no outputs. Modules that are not called at all are usually at the end.
    prefix = []
    for h in known:
        if h not in silent:
            break
        prefix.append(h)
    return [h for h in silent if h in found or h in prefix]


def _detached_finding(reading: Reading, parameters: Sequence[ParameterHistory]) -> Finding:
    names = join_names([h.name for h in parameters])
    first = parameters[0]
    steps = len(first.places)
    return _finding(
        reading,
        parameters,
        f"{names} {'gets' if len(parameters) == 1 else 'get'} no gradient: the computation between "
        f"{_modules(parameters)[-1]} and the loss is cut, by detach(), no_grad(), .data or an operation without a "
        "derivative, or the output is not used.",
        (
            _state_row(first, reading, f"{first.name}.grad is None at all {steps} recorded steps"),
            _expected_row(reading, first),
            _rest_row(parameters, parameters, "not frozen on purpose: they require gradients and are in the optimizer"),
        ),
        (ADVICE["no_detach"],),
        0.9,
    )


def _frozen_by_mistake(reading: Reading, known: Sequence[ParameterHistory]) -> list[ParameterHistory]:
    """Return frozen weights that were passed to the optimizer, unless all layers before the last ones are frozen."""
    copies = copies_of_trained_parts(reading, known)
    frozen = [h for h in known if not h.is_trainable and h.is_optimized and h.name not in copies and not _moves(h)]
    weights = [h for h in known if h.is_weight]
    stuck = [not h.is_trainable for h in weights]
    prefix = next((place for place, is_stuck in enumerate(stuck) if not is_stuck), len(stuck))
    is_backbone = prefix == sum(stuck) and 2 * prefix >= len(stuck)
    if is_backbone or not any(h.is_weight for h in frozen):
        return []
    return frozen


def _frozen(reading: Reading, parameters: Sequence[ParameterHistory]) -> Finding:
    names = join_names([h.name for h in parameters])
    first = parameters[0]
    return _finding(
        reading,
        parameters,
        f"{names} {_is(parameters)} frozen: requires_grad is False, although the optimizer got "
        f"{'it' if len(parameters) == 1 else 'them'}.",
        (
            _state_row(first, reading, f"requires_grad of {first.name} is False, and it is in the optimizer"),
            _expected_row(reading, first),
            _rest_row(parameters, parameters, "not a frozen backbone: layers before or most layers after them train"),
        ),
        (CURES["unfreeze"],),
        0.85,
    )


FROZEN_PARAMETERS = Rule(
    "frozen_parameters",
    find_frozen,
    needs=(("state", "parameter"),),
    explains=frozenset(("constant_output", "rank_collapse", "symmetric_init", "lr_too_low", "vanishing_gradient")),
    advice="Pass optimizer= to watch.",
)
