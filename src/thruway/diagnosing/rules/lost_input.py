"""The first operation after which nothing depends on the input any more, and what it does."""

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Cure
from thruway.diagnosing.reading import NORM_OPERATIONS, Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.wording import layer_text, percent

__all__ = ["is_constant", "reason_of"]

_ROUNDING = 1e-6
_FLAT = 0.99  # share of saturated values that leaves the rest of the network nothing to work with


def reason_of(reading: Reading, name: str, place: int) -> tuple[str, tuple[Cure, ...]]:
    """Return the reason for an output that is constant from the first step on, and its cures.

    Args:
        reading: the trace.
        name: the output.
        place: place in `steps`.
    Returns:
        The end of a sentence, "" if the trace does not show the reason; and cures.
    """
    names = [site.name for site in reading.outputs]
    end = names.index(name) if name in names else len(names) - 1
    first = end
    while first and is_constant(reading, names[first - 1], place):
        first -= 1
    site = reading.outputs[first]
    before = layer_text(names[first - 1]) if first else "the input"
    saturated = _saturation(reading, site.name, place)
    if "Dropout" in site.operation or site.operation == "dropout":
        return f": {layer_text(site.name)} drops every value", (ADVICE["lower_dropout"],)
    if site.operation in NORM_OPERATIONS:
        return f": {layer_text(site.name)} ({site.operation}) removes all differences", (ADVICE["norm_size"],)
    if saturated > _FLAT:
        text = f": {percent(saturated)} of the values of {layer_text(site.name)} are saturated"
        return text, (CURES["critical_init"], CURES["normalise"], CURES["scale_input"])
    return f": what depends on the input is lost between {before} and {layer_text(site.name)}", (
        ADVICE["check_forward"],
        CURES["critical_init"],
    )


def is_constant(reading: Reading, name: str, place: int) -> bool:
    """Return True if an output is the same for every input, at a place or where it was measured next."""
    std, likeness = reading.values("std"), reading.values("input_correlation")
    spread = None if std is None else std.of(name)
    if spread is not None and spread[place] == 0:
        return True
    row = None if likeness is None else likeness.of(name)
    known = np.empty(0) if row is None else row[place:][np.isfinite(row[place:])]
    return bool(len(known) and 1 - known[0] <= _ROUNDING)


def _saturation(reading: Reading, name: str, place: int) -> float:
    found = 0.0
    for end in ("low", "high"):
        values = reading.values(f"saturation_{end}")
        row = None if values is None else values.of(name)
        found += float(np.nan_to_num(row[place])) if row is not None else 0.0
    return found
