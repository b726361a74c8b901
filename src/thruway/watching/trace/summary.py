"""Summary of a trace: the latest numbers of interest, and the text shown by `print(trace)`."""

import math
from dataclasses import dataclass
from itertools import dropwhile

import numpy as np

from thruway.watching.quantities.saturation import saturation
from thruway.watching.sites import Kind, Site
from thruway.watching.trace.series import ReadableTrace

__all__ = ["Summary", "gradient_ratio", "ordinal", "summarize", "summary_text"]

MOST_SATURATED = 5  # rows of the table
# Modules through which the input may go before the first weight; it needs no gradient.
_WITHOUT_WEIGHTS = frozenset(("Flatten", "Unflatten", "Identity", "Dropout", "Dropout1d", "Dropout2d", "Upsample"))
NOTABLE = 0.005  # share of values; less would be shown as 0 %


@dataclass(frozen=True)
class EndGradients:
    """The gradients at the first and the last layer that have one, and the layers before the first that have none."""

    first: str
    small: float  # root mean square
    last: str
    large: float
    without: int = 0
    example: str = ""  # the first layer without a gradient

    def comparison(self) -> str:
        """Return the ratio of the gradient at the first layer to that at the last, in words.

        >>> EndGradients("0", 0.1, "9", 0.0).comparison(), EndGradients("4", 0.1, "9", 0.2, 2, "0").comparison()
        ('the last is zero', 'none at the 2 layers before, from 0 on')
        """
        if self.without:
            layers = "layer" if self.without == 1 else f"{self.without:,} layers"
            return f"none at the {layers} before, {'' if self.without == 1 else 'from '}{self.example}" + (
                "" if self.without == 1 else " on"
            )
        return gradient_ratio(self.small, self.large)


@dataclass(frozen=True)
class Summary:
    """The latest numbers of interest."""

    size: str  # the number of steps and sites, in words
    saturated: list[tuple[str, str, float, float]]  # site, activation, share at the low end, at the high end
    gradient: "EndGradients | None"
    notes: list[str]  # the first non-finite value, dropped steps, an early end


def summarize(trace: ReadableTrace) -> Summary:
    """Return the summary of a trace with at least one step."""
    steps, sites = trace.steps, trace.sites
    count = {kind: sum(site.kind == kind for site in sites) for kind in ("output", "gradient", "parameter")}
    sizes = ", ".join(f"{n:,} {kind}{'s' if n > 1 else ''}" for kind, n in count.items() if n)
    span = f"{len(steps):,} steps ({steps[0]:,} to {steps[-1]:,})" if len(steps) > 1 else f"step {steps[0]:,}"
    return Summary(f"{span}, {sizes}" if sizes else span, _saturated(trace), _gradient(trace), _notes(trace))


def summary_text(trace: ReadableTrace) -> str:
    """Return the summary as one to five lines of text."""
    if not trace.steps and trace.probe is not None and trace.probe.steps:
        return f"Probe only: {summary_text(trace.probe)}" + _end(trace)
    if not trace.steps:
        return f"Trace of {trace.model}: nothing recorded yet" + _end(trace)
    found = summarize(trace)
    lines = [f"Trace of {trace.model}: {found.size}; {found.notes[0]}"]
    if found.saturated:
        name, activation, low, high = found.saturated[0]
        lines.append(f"most saturated: {name} ({activation}), {saturation(low, high):.0%} of its values")
    if found.gradient is not None:
        ends = found.gradient
        shown = f"gradient rms: {ends.small:.2g} at {ends.first}, {ends.large:.2g} at {ends.last}"
        lines.append(f"{shown}; {ends.comparison()}")
    return "\n  ".join([*lines, *found.notes[1:]])


def _end(trace: ReadableTrace) -> str:
    return f"; watching stopped: {_error(trace.failure)}" if trace.failure is not None else ""


def _error(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= 100 else text[:99] + "…"


def _notes(trace: ReadableTrace) -> list[str]:
    bad = trace.first_bad
    if bad is None:
        counted = any(q in trace.quantities(kind) for kind in ("output", "gradient") for q in ("nan", "inf"))
        notes = ["all finite" if counted else "NaN and infinity not counted"]
    else:
        what = " and ".join(f"{n:,} {name}" for name, n in (("NaN", bad.nan), ("infinite", bad.inf)) if n)
        where = f"the {bad.site.kind.replace('_', ' ')} of {bad.site.name or trace.model}"
        if bad.site.kind == "input":
            where = "the model's input" if bad.site.name == "input" else f"the model's input {bad.site.name}"
        notes = [f"first bad value at step {bad.step:,} in {where}: {what}"]
    if trace.kept_every > 1:
        notes.append(f"every {ordinal(trace.kept_every)} sampled step is kept, to save memory")
    if trace.failure is not None:
        notes.append(f"watching stopped early: {_error(trace.failure)}")
    return notes


def _saturated(trace: ReadableTrace) -> list[tuple[str, str, float, float]]:
    # Gates are closed by design, and would hide all other layers.
    newest = {
        site: share
        for site, share in _newest(trace, "saturation", "output").items()
        if share >= NOTABLE and not site.is_gate and not site.is_scalar
    }
    low, high = (_newest(trace, f"saturation_{end}", "output") for end in ("low", "high"))
    return [
        (site.name or trace.model, site.activation or "", low.get(site, 0.0), high.get(site, 0.0))
        for site in sorted(newest, key=lambda site: -newest[site])[:MOST_SATURATED]
    ]


def _gradient(trace: ReadableTrace) -> EndGradients | None:
    """Return the gradients at the first and the last activation; with fewer than two, at the first and last site."""
    mean, std = (_newest(trace, quantity, "gradient") for quantity in ("mean", "std"))
    newest = {site.name: math.hypot(mean[site], spread) for site, spread in std.items() if site in mean}
    outputs = [site for site in trace.sites if site.kind == "output" and not site.is_scalar]
    activations = [site.name for site in outputs if site.is_activation and not site.is_gate]
    layers = activations if sum(name in newest for name in activations) > 1 else [site.name for site in outputs]
    reached = [name for name in layers if name in newest]
    if len(reached) < 2:
        return None
    first, last = reached[0], reached[-1]
    has_gradient = {site.name for site in trace.sites if site.kind == "gradient"}
    operations = {site.name: site.operation for site in outputs}
    before = [name for name in layers[: layers.index(first)] if name not in has_gradient]
    before = [*dropwhile(lambda name: operations[name] in _WITHOUT_WEIGHTS, before)]
    named = [name or trace.model for name in (first, last, *before[:1])]
    return EndGradients(named[0], newest[first], named[1], newest[last], len(before), "".join(named[2:]))


def gradient_ratio(first: float, last: float) -> str:
    """Return the ratio of the gradient at the first layer to that at the last, in words.

    >>> gradient_ratio(1e-6, 0.5), gradient_ratio(0.1, 0.0)
    ('first / last = 2e-06', 'the last is zero')
    """
    return f"first / last = {first / last:.2g}" if last else "the last is zero"


def ordinal(number: int) -> str:
    """Format an ordinal number.

    >>> [ordinal(n) for n in (2, 4, 11, 23, 32, 101, 112)]
    ['2nd', '4th', '11th', '23rd', '32nd', '101st', '112th']
    """
    is_teen = number % 100 // 10 == 1
    return f"{number:,}{'th' if is_teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _newest(trace: ReadableTrace, quantity: str, kind: Kind) -> dict[Site, float]:
    """Return the latest value of each site, in network order.

    All values are from one step: the last of those at which the most sites have a finite value.
    """
    if quantity not in trace.quantities(kind):
        return {}
    series = trace.series(quantity, kind, last=1)
    if not np.isfinite(series.values).all():
        series = trace.series(quantity, kind)
    known = np.isfinite(series.values).sum(0)
    newest = series.values[:, np.flatnonzero(known == known.max())[-1]]
    return {site: value for site, value in zip(series.sites, newest.tolist(), strict=True) if math.isfinite(value)}
