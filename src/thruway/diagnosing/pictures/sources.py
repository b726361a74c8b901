"""The quantities that pictures of findings draw."""

import numpy as np

from thruway.diagnosing.pictures.case import Case, Source
from thruway.diagnosing.reading import Reading, Values
from thruway.watching.sites import KINDS, Kind

__all__ = [
    "DEAD",
    "GATES",
    "GRADIENT",
    "INPUT_CORRELATION",
    "NOT_FINITE",
    "PARAMETER",
    "PARAMETER_GRADIENT",
    "RANK",
    "SIGNAL",
    "SPREAD",
    "UPDATE_RATIO",
    "ZEROS",
    "activation_names",
    "gradient_growth",
    "layer_and_softmax_names",
    "layer_names",
    "named_by_evidence",
    "saturation",
    "weight_names",
]


def _gates(reading: Reading) -> Values | None:
    values = reading.values("mean")
    if values is None:
        return None
    rows = [row for row, site in enumerate(values.sites) if site.is_gate]
    return Values(tuple(values.sites[row] for row in rows), values.values[rows]) if rows else None


def _not_finite(reading: Reading) -> Values | None:
    """Return the number of NaN and infinite values of every output; beyond, of every gradient."""
    found = [
        Values(nan.sites, nan.values + inf.values)
        for kind in ("output", "gradient")
        if (nan := reading.values("nan", _kind(kind))) is not None
        and (inf := reading.values("inf", _kind(kind))) is not None
        and nan.sites == inf.sites
    ]
    return next((each for each in found if np.nansum(each.values) > 0), found[0] if found else None)


def _kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind == name)


SIGNAL = Source(lambda reading: reading.rms("output"), "output (root mean square)", log=True)
GRADIENT = Source(lambda reading: reading.rms("gradient"), "gradient (root mean square)", log=True)
SPREAD = Source.of("std", words="output (standard deviation)")
PARAMETER = Source.of("std", "parameter", "parameter (standard deviation)")
PARAMETER_GRADIENT = Source.of("norm", "parameter_gradient", "parameter gradient (norm)")
UPDATE_RATIO = Source.of("update_ratio", "update", "|update| / |parameter|", log=True)
DEAD = Source.of("dead_units", unit="share of units")
ZEROS = Source.of("zeros", unit="share of values")
INPUT_CORRELATION = Source.of(
    "input_correlation", words="input correlation", is_share=True, note="1: a layer returns the same for every input."
)
RANK = Source.of("effective_rank", words="effective rank", unit="directions")
GATES = Source(_gates, "mean of the transform gate", is_share=True)
NOT_FINITE = Source(_not_finite, "NaN and infinite values", is_share=True)


def saturation(case: Case) -> tuple[Source, ...]:
    """Return the share of saturated values, at the end that the finding names."""
    both = Source.of("saturation", unit="share of values")
    if case.finding.end is None:
        return (both,)
    return Source.of(f"saturation_{case.finding.end}", words=f"saturation, {case.finding.end} end", unit="share"), both


def named_by_evidence(case: Case) -> tuple[Source, ...]:
    """Return the sources of the quantities that the finding's evidence names, for rules without own pictures."""
    pairs = [(each.quantity, kind) for each in case.finding.evidence for kind in KINDS]
    known = [pair for pair in dict.fromkeys(pairs) if case.reading.values(*pair) is not None]
    words = {kind: "" if kind == "output" else f"{kind.replace('_', ' ')} " for kind in KINDS}
    units = case.reading.trace.units
    return tuple(
        Source.of(name, kind, f"{words[kind]}{name.replace('_', ' ')}", units.get(name, "")) for name, kind in known
    )


def layer_names(reading: Reading) -> set[str]:
    """Return the names of the layers with weights: a line over depth through all sites would zigzag."""
    return {layer.name for layer in reading.layers}


def weight_names(reading: Reading) -> set[str]:
    """Return the names of the weights, without biases: these often start equal."""
    return {layer.weight for layer in reading.layers if layer.weight is not None}


def layer_and_softmax_names(reading: Reading) -> set[str]:
    """Return the names of the layers with weights and of softmax."""
    return layer_names(reading) | {site.name for site in reading.outputs if "softmax" in site.operation.lower()}


def activation_names(reading: Reading) -> set[str]:
    """Return the names of the activations, without gates: these are saturated by design."""
    return {site.name for site in reading.outputs if site.activation is not None and not site.is_gate}


def gradient_growth(reading: Reading) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """Return the norm of all parameter gradients and the gradient at the last output, each divided by its first value.

    Gradients that accumulate make the first grow while the second stays.
    """
    found = {}
    parameters, outputs = reading.values("norm", "parameter_gradient"), reading.rms("gradient")
    if parameters is not None:
        found["norm of the parameter gradients"] = np.sqrt(np.nansum(parameters.values**2, axis=0))
    if outputs is not None and len(outputs.sites):
        found["gradient at the last layer"] = outputs.values[-1]

    def relative(
        values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        known = values[np.isfinite(values) & (values > 0)]
        return values / known[0] if len(known) else values

    return {name: relative(values) for name, values in found.items()}
