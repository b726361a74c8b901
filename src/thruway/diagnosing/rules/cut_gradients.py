"""Layers whose gradient is exactly 0 at every step, because an operation after them has a derivative of 0.

Rounding, sign, argmax, comparisons and a product with 0 give no error and no missing gradient: the gradient is there,
and it is 0. By the chain rule the gradient at the input of a linear map is that at its output times the weight, so that
it is not 0 if both are not; an addition passes it to each term. If the layers before get exactly 0, the operations
between them stop it.
"""

from collections.abc import Sequence

import numpy as np

from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import MAP_OPERATIONS, Matrix, Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.states import ParameterHistory
from thruway.diagnosing.rules.wording import join_names, layer_text, number
from thruway.watching.sites import Site

__all__ = ["cut_gradients"]

_LEAST_STEPS = 10  # a branch that starts at zero, or a loss that is added later, may give 0 for a few steps
_LEAST_GRADIENT = 1e-6  # float16 rounds numbers below 6e-8 to 0, so that a smaller gradient may vanish by rounding


def cut_gradients(reading: Reading, known: Sequence[ParameterHistory]) -> tuple[Finding, frozenset[str]] | None:
    """Return a finding and the names of its parameters if the first layers, all of them up to a map, get exactly 0.

    No finding: dead ReLUs and other flat activations, whose output gets a gradient; layers at the end, such as a head
    whose loss has the factor 0.
    """
    zero = [h for h in known if h.is_trainable and h.is_optimized and h.has_gradient and _is_zero(h)]
    gradient = reading.rms("gradient")
    if not zero or gradient is None:
        return None
    before: list[Site] = []
    for site in reading.outputs:
        values = gradient.of(site.name)
        sizes = np.empty(0) if values is None else values[np.isfinite(values)]
        if not len(sizes):
            continue
        if (sizes > 0).any():
            names = {s.name.split("#")[0] for s in before}
            cut = [h for h in zero if h.name.rpartition(".")[0] in names]
            is_passed = site.operation == "add" or (site.operation in MAP_OPERATIONS and _has_weight(reading, site))
            return _found(reading, cut, before[-1], site, sizes) if cut and is_passed else None
        before.append(site)
    return None


def _is_zero(h: ParameterHistory) -> bool:
    norms = h.parameter.gradient_norm[np.isfinite(h.parameter.gradient_norm)]
    return len(norms) >= _LEAST_STEPS and bool((norms == 0).all())


def _has_weight(reading: Reading, site: Site) -> bool:
    """Return True if the weight of a map is not 0."""
    weight = next((layer.weight for layer in reading.layers if layer.name == site.name), None)
    norms = [p.norm[np.isfinite(p.norm)] for p in reading.parameters if p.name == weight]
    return bool(norms) and len(norms[0]) > 0 and bool((norms[0] > 0).all())


def _found(
    reading: Reading, cut: Sequence[ParameterHistory], last: Site, after: Site, sizes: Matrix
) -> tuple[Finding, frozenset[str]] | None:
    if not float(np.median(sizes)) > _LEAST_GRADIENT:
        return None
    step, steps = int(reading.steps[cut[0].places[0]]), len(cut[0].places)
    owners = tuple(dict.fromkeys(h.name.rpartition(".")[0] for h in cut))
    between = f"between {layer_text(last.name)} and {layer_text(after.name)}"
    finding = Finding(
        "frozen_parameters",
        f"The gradient of {join_names([h.name for h in cut])} is exactly 0 at all {steps} recorded steps: an operation "
        f"{between} has a derivative of 0, such as rounding, sign, argmax, a comparison or a product with 0.",
        owners,
        since=(None, step),
        evidence=(
            Evidence(
                "norm", cut[0].name, step, 0.0,
                f"the gradient of {cut[0].name} is exactly 0 at all {steps} recorded steps", "threshold", None, 0.0,
            ),
            Evidence(
                "gradient", after.name, step, float(sizes[0]),
                f"the gradient at the output of {layer_text(after.name)} is {number(float(sizes[0]))}, "
                f"{'and an addition passes it on' if after.operation == 'add' else 'and its weight is not 0'}, so the "
                "gradient at its input is not 0 either",
                "theory",
            ),
            Evidence(
                "parameters", "", None, float(len(cut)),
                f"no dead ReLU or saturated activation: {layer_text(last.name)} is followed by "
                f"{layer_text(after.name)}; no underflow: the gradient is lost in one layer",
                "ruled out",
            ),
        ),
        cures=(ADVICE["no_flat_operation"],),
        span=(owners[0], owners[-1]),
        confidence=0.9,
    )  # fmt: skip
    return finding, frozenset(h.name for h in cut)
