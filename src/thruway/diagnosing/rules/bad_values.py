"""Origins of the first NaN or infinite value: data, a masked row, an overflow, or an operation without a result."""

from dataclasses import dataclass

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Cure
from thruway.diagnosing.reading import MAP_OPERATIONS, Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.wording import layer_text, number, output_text
from thruway.watching.sites import Site
from thruway.watching.trace.steps import BadValue

__all__ = ["Origin", "origin_of", "place_in_words"]

_LARGE = 1e4  # the square of such values, summed over a layer, is near the end of float16; in float32 they have grown
_GROWN = 100.0  # times the size at the first recorded step


@dataclass(frozen=True)
class Origin:
    """Explanation of the first bad value.

    Attributes:
        place: where it appeared, with what is known of the values before it.
        theory: the reason for which such a value appears there.
        ruled_out: a harmless or another reason that does not hold.
        cures: changes that remove the reason.
    """

    place: str
    theory: str
    ruled_out: str
    cures: tuple[Cure, ...]


def place_in_words(site: Site) -> str:
    """Return a site in a sentence.

    >>> place_in_words(Site("input", "input", "")), place_in_words(Site("0", "output", "Linear"))
    ('the input', 'the output of module 0')
    """
    if site.kind == "input":
        return "the input" if site.name == "input" else f"the input {site.name}"
    if site.kind == "output":
        return output_text(site.name)
    if site.kind == "gradient":
        return f"the gradient of {output_text(site.name)}"
    if site.kind == "parameter_gradient":
        return f"the gradient of {site.name}"
    return f"the {site.kind} {'of ' if site.kind == 'update' else ''}{site.name}"


def origin_of(reading: Reading, bad: BadValue, size: float) -> Origin:
    """Return the origin of the first bad value.

    Args:
        reading: the trace.
        bad: the value.
        size: magnitude of the site one recorded step before; NaN at the first recorded step.
    """
    site = bad.site
    if site.kind == "input":
        return Origin(
            f"{place_in_words(site)}: the data are bad",
            "no step of the optimizer changes the data: the values were bad before the model got them",
            "not an operation of the model: it comes after its input",
            (ADVICE["check_data"], ADVICE["check_batch"]),
        )
    place = f"{place_in_words(site)} ({site.operation})" if site.kind == "output" else place_in_words(site)
    if _has_grown(reading, site, size):
        return Origin(
            f"{place}, after its values had grown",
            f"values of size {number(size)} one step before: they grew over the steps, and overflow",
            "not a step that a loss scaler skips: bad values remain",
            (CURES["lower_lr"], CURES["clip"]),
        )
    if site.kind == "output":
        return _of_output(reading, site, bad, place)
    if site.kind in ("gradient", "parameter_gradient"):
        return Origin(
            f"{place}, in the backward pass, after a finite forward pass",
            "the derivative of an operation is infinite where its value is finite, as that of a root or a norm at 0",
            "not a step that a loss scaler skips: bad values remain",
            (ADVICE["epsilon"], ADVICE["detect_anomaly"], CURES["clip"]),
        )
    if site.kind == "parameter":
        return Origin(
            f"{place}, before the step",
            "the parameter was bad before any operation of this step",
            "not a bad batch: a parameter does not depend on it",
            (ADVICE["detect_anomaly"], CURES["lower_lr"]),
        )
    return Origin(
        f"{place}: the optimizer's step itself",
        "the gradients are finite, so the optimizer divides by 0 or overflows",
        "not the backward pass: its gradients are finite",
        (CURES["lower_lr"], CURES["clip"]),
    )


def _of_output(reading: Reading, site: Site, bad: BadValue, place: str) -> Origin:
    if bad.nan and site.operation.lower() in ("softmax", "log_softmax", "logsoftmax"):
        return Origin(
            f"{place}, which is NaN for a row whose values are all -inf, as when a mask hides every position",
            "softmax divides by the sum of exponentials: 0 for a row of -inf",
            "not an overflow: softmax subtracts the largest value first",
            (ADVICE["unmask"], ADVICE["check_data"]),
        )
    before = _recorded_before(reading, site)
    source = f"there or from an operation after {layer_text(before)}" if before else "there"
    theory = "an operation had no finite result, such as log(0), 0/0, or the exponential of a large number"
    if site.operation in MAP_OPERATIONS:
        theory = f"a {site.operation} of finite values and weights is finite, so an operation before it, such as 0/0"
        theory += ", log(0) or a root, had no finite result"
    return Origin(
        f"{place}. All recorded values before it are finite, so it comes from {source}",
        theory,
        "not the infinities of a mask, which softmax removes: bad values remain",
        (ADVICE["epsilon"], ADVICE["detect_anomaly"]),
    )


def _recorded_before(reading: Reading, site: Site) -> str:
    """Return the name of the output that was recorded before a site, or ""."""
    names = [each.name for each in reading.outputs]
    place = names.index(site.name) if site.name in names else 0
    return names[place - 1] if place else ""


def _has_grown(reading: Reading, site: Site, size: float) -> bool:
    """Return True if the values of a site were large, or far larger than at first, one recorded step before."""
    if not np.isfinite(size):
        return False
    rms = reading.rms(site.kind)
    row = None if rms is None else rms.of(site.name)
    known = np.empty(0) if row is None else row[np.isfinite(row)]
    return size > _LARGE or (len(known) > 1 and size > _GROWN * float(known[0]) > 0)
