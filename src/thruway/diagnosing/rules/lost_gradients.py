"""Parameters that no step changes although the gradient reaches the outputs of their layers.

The gradient of a weight is the product of its layer's input and of the gradient at its output. If both are there, and
the weight has no gradient at the step of the optimizer, or one that is exactly 0, it was removed on the way.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from thruway.diagnosing.finding import Cure, Evidence, Finding
from thruway.diagnosing.names import owner_of
from thruway.diagnosing.reading import MAP_OPERATIONS, Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.cut_gradients import cut_gradients
from thruway.diagnosing.rules.states import ParameterHistory
from thruway.diagnosing.rules.wording import join_names, number

__all__ = ["lost_gradients"]

_UNDERFLOW = 1e-30
_LEAST_STEPS = 10  # a rate of 0 for fewer steps may be a warm-up


def lost_gradients(reading: Reading, known: Sequence[ParameterHistory]) -> Iterator[tuple[Finding, frozenset[str]]]:
    """Yield findings, each with the names of its parameters."""
    ready = [h for h in known if h.is_trainable and h.is_optimized]
    reached = _reached(reading)
    removed = [h for h in ready if not h.has_gradient and owner_of(h.name) in reached]
    if removed and not any(h.has_gradient for h in known):
        yield _removed(reading, [h for h in ready if not h.has_gradient], known, is_zero=False)
        return
    if removed:
        yield _removed(reading, removed, known, is_zero=False)
    zero = [h for h in ready if h.has_gradient and _is_zero(h)]
    names = {h.name for h in zero}
    whole = {owner_of(h.name) for h in zero} - {owner_of(h.name) for h in known if h.name not in names}
    zero = [h for h in zero if owner_of(h.name) in reached & whole]
    if zero:
        yield _removed(reading, zero, known, is_zero=True)
    cut = None if zero else cut_gradients(reading, known)
    if cut:
        yield cut
    still = _without_rate(reading, ready)
    if still:
        yield _of_rate(reading, still, known)


def _is_zero(h: ParameterHistory) -> bool:
    norms = h.parameter.gradient_norm[np.isfinite(h.parameter.gradient_norm)]
    return len(norms) > 0 and bool((norms == 0).all())


def _reached(reading: Reading) -> frozenset[str]:
    """Return the names of the modules of linear maps that have an input and a gradient at every recorded step."""
    gradient, rms, inputs = reading.rms("gradient"), reading.rms(), reading.rms("input")
    if gradient is None or rms is None:
        return frozenset()
    found = set()
    before = None if inputs is None else inputs.values[0]
    for site in reading.outputs:
        of_gradient = gradient.of(site.name)
        if site.operation in MAP_OPERATIONS and "#" not in site.name and of_gradient is not None:
            sizes = of_gradient[np.isfinite(of_gradient)]
            given = np.ones(1) if before is None else before[np.isfinite(before)]
            if len(sizes) and sizes.min() > _UNDERFLOW and (given > 0).all():
                found.add(site.name)
        before = rms.of(site.name)
    return frozenset(found)


def _removed(
    reading: Reading, parameters: Sequence[ParameterHistory], known: Sequence[ParameterHistory], *, is_zero: bool
) -> tuple[Finding, frozenset[str]]:
    first = parameters[0]
    step, steps = int(reading.steps[first.places[0]]), len(first.places)
    is_all = len(parameters) == sum(h.is_trainable and h.is_optimized for h in known)
    gradient = reading.rms("gradient")
    reached = _reached(reading)
    layer = next(owner_of(h.name) for h in parameters if owner_of(h.name) in reached)
    of_layer = None if gradient is None else gradient.of(layer)
    size = float("nan") if of_layer is None else float(of_layer[first.places[0]])
    what = "a gradient of exactly 0" if is_zero else "no gradient"
    why = (
        "zero_grad() is called between backward() and step()"
        if is_all
        else "a hook or a mask multiplies it by 0, or it is set to zero before step()"
        if is_zero
        else "it is set to None before step(), or the layer computes with a detached weight"
    )
    return _made(
        reading,
        parameters,
        f"{join_names([h.name for h in parameters])} {_has(parameters)} {what} at step(), although the outputs have "
        f"gradients after backward(): {why}. No step changes {_them(parameters)}.",
        (
            Evidence(
                "norm" if is_zero else "state",
                first.name,
                step,
                0.0 if is_zero else float(first.bits[0]),
                f"{first.name} has {what} at all {steps} recorded steps",
                "threshold",
                None if is_zero else 7.0,
                0.0 if is_zero else 7.0,
            ),
            Evidence(
                "gradient",
                layer,
                step,
                size,
                f"the gradient at the output of {layer} is {number(size)}, and its input is not zero, so the gradient "
                "of its weight is not zero either",
                "theory",
            ),
            Evidence(
                "parameters",
                "",
                None,
                float(len(parameters)),
                f"{len(parameters)} of {len(known)} parameters; not frozen on purpose: they require gradients and are "
                "in the optimizer",
                "ruled out",
            ),
        ),
        ADVICE["zero_grad_first"] if is_all else ADVICE["no_gradient_mask"],
        0.97 if is_all else 0.9,
    )


def _without_rate(reading: Reading, ready: Sequence[ParameterHistory]) -> list[ParameterHistory]:
    """Return parameters that stay as they are because the learning rate of their group is 0 all the time.

    A backbone that is kept on purpose has requires_grad False: a rate of 0 would compute its gradients for nothing.
    """
    rates = reading.values("learning_rate", "step")
    if rates is None or len(reading.steps) < _LEAST_STEPS:
        return []
    largest = np.fmax.reduce(rates.values, axis=1)
    if not ((largest == 0).any() and (largest > 0).any()):
        return []
    still = []
    for h in ready:
        updates, norms = (v[np.isfinite(v)] for v in (h.parameter.update_norm, h.parameter.gradient_norm))
        if len(updates) and (updates == 0).all() and (norms > 0).any():
            still.append(h)
    return still if any(h.is_weight for h in still) else []


def _of_rate(
    reading: Reading, parameters: Sequence[ParameterHistory], known: Sequence[ParameterHistory]
) -> tuple[Finding, frozenset[str]]:
    first = parameters[0]
    step, steps = int(reading.steps[first.places[0]]), len(reading.steps)
    size = float(first.parameter.gradient_norm[first.places[0]])
    return _made(
        reading,
        parameters,
        f"The learning rate of {join_names([h.name for h in parameters])} is 0 at all {steps} recorded steps: no step "
        f"changes {_them(parameters)}.",
        (
            Evidence(
                "learning_rate", "", step, 0.0, f"a parameter group has a learning rate of 0 at all {steps} steps",
                "threshold", None, 0.0,
            ),
            Evidence(
                "norm", first.name, step, size,
                f"the gradient of {first.name} has norm {number(size)}, so a rate above 0 would change it", "theory",
            ),
            Evidence(
                "parameters", "", None, float(len(parameters)),
                f"{len(parameters)} of {len(known)} parameters; not frozen by requires_grad, and no schedule at its "
                "end or warm-up at its first step: the rate was never above 0",
                "ruled out",
            ),
        ),
        ADVICE["group_lr"],
        0.8 if first is known[0] else 0.9,  # the first layers may be a backbone that is kept
    )  # fmt: skip


def _made(
    reading: Reading,
    parameters: Sequence[ParameterHistory],
    cause: str,
    evidence: tuple[Evidence, ...],
    cure: Cure,
    confidence: float,
) -> tuple[Finding, frozenset[str]]:
    sites = tuple(dict.fromkeys(owner_of(h.name) or h.name for h in parameters))
    since = (None, int(reading.steps[min(h.places[0] for h in parameters)]))
    finding = Finding(
        "frozen_parameters",
        cause,
        sites,
        since=since,
        evidence=evidence,
        cures=(cure,),
        span=(sites[0], sites[-1]),
        confidence=confidence,
    )
    return finding, frozenset(h.name for h in parameters)


def _has(items: Sequence[object]) -> str:
    return "has" if len(items) == 1 else "have"


def _them(items: Sequence[object]) -> str:
    return "it" if len(items) == 1 else "them"
