"""A trace at a glance, and in a few lines of text."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thruway.watching.sites import Kind, Site

if TYPE_CHECKING:
    from thruway.watching.trace.trace import Trace

__all__ = ["Glance", "glance", "in_words", "ordinal", "ratio_of"]

MOST_SATURATED = 5  # layers in the table
NOTABLE = 0.005  # share of values; below, it would read 0 %


@dataclass(frozen=True)
class Glance:
    """What to know first: the newest numbers."""

    seen: str  # how many steps and sites
    saturated: list[tuple[str, str, float, float]]  # site, activation, share at the low end, at the high end
    gradient: tuple[str, float, str, float] | None  # first site and its root mean square, last site and its
    notes: list[str]  # a first bad value, an early end, steps let go


def glance(trace: "Trace") -> Glance:
    """What to know of a trace that has steps."""
    steps, sites = trace.steps, trace.sites
    count = {kind: sum(site.kind == kind for site in sites) for kind in ("output", "gradient", "parameter")}
    seen = ", ".join(f"{n:,} {kind}{'s' if n > 1 else ''}" for kind, n in count.items() if n)
    span = f"{len(steps):,} steps ({steps[0]:,} to {steps[-1]:,})" if len(steps) > 1 else f"step {steps[0]:,}"
    return Glance(f"{span}, {seen}" if seen else span, _saturated(trace), _gradient(trace), _notes(trace))


def in_words(trace: "Trace") -> str:
    """One to five lines of text."""
    if not trace.steps and trace.probe is not None and trace.probe.steps:
        return f"Of the probe alone: {in_words(trace.probe)}" + _why(trace)
    if not trace.steps:
        return f"Trace of {trace.model}: nothing seen yet" + _why(trace)
    found = glance(trace)
    lines = [f"Trace of {trace.model}: {found.seen}; {found.notes[0]}"]
    if found.saturated:
        name, activation, low, high = found.saturated[0]
        lines.append(f"most saturated: {name} ({activation}), {low + high:.0%} of its values")
    if found.gradient is not None:
        first, small, last, large = found.gradient
        lines.append(f"gradient rms: {small:.2g} at {first}, {large:.2g} at {last}; {ratio_of(small, large)}")
    return "\n  ".join([*lines, *found.notes[1:]])


def _why(trace: "Trace") -> str:
    return f"; watching ended: {_error(trace.failure)}" if trace.failure is not None else ""


def _error(error: Exception) -> str:
    said = f"{type(error).__name__}: {error}"
    return said if len(said) <= 100 else said[:99] + "…"


def _notes(trace: "Trace") -> list[str]:
    bad = trace.first_bad
    if bad is None:
        counted = any(q in trace.quantities(kind) for kind in ("output", "gradient") for q in ("nan", "inf"))
        notes = ["all finite" if counted else "NaN and infinity not counted"]
    else:
        what = " and ".join(f"{n:,} {name}" for name, n in (("NaN", bad.nan), ("infinite", bad.inf)) if n)
        where = f"the {bad.site.kind.replace('_', ' ')} of {bad.site.name or trace.model}"
        notes = [f"first bad value at step {bad.step:,} in {where}: {what}"]
    if trace.kept_every > 1:
        notes.append(f"every {ordinal(trace.kept_every)} sampled step is kept, to save memory")
    if trace.failure is not None:
        notes.append(f"watching ended early: {_error(trace.failure)}")
    return notes


def _saturated(trace: "Trace") -> list[tuple[str, str, float, float]]:
    # Gates are meant to be shut, and would hide the rest.
    newest = {
        site: share
        for site, share in _newest(trace, "saturation", "output").items()
        if share >= NOTABLE and not site.is_gate
    }
    low, high = (_newest(trace, f"saturation_{end}", "output") for end in ("low", "high"))
    return [
        (site.name or trace.model, site.activation or "", low.get(site, 0.0), high.get(site, 0.0))
        for site in sorted(newest, key=lambda site: -newest[site])[:MOST_SATURATED]
    ]


def _gradient(trace: "Trace") -> tuple[str, float, str, float] | None:
    """At the first and the last activation, or where there are no two, the first and the last site."""
    mean, std = (_newest(trace, quantity, "gradient") for quantity in ("mean", "std"))
    newest = {site: math.hypot(mean[site], spread) for site, spread in std.items() if site in mean}
    outputs = (site for site in trace.sites if site.kind == "output")
    activations = {site.name for site in outputs if site.activation and not site.is_gate}
    alike = [site for site in newest if site.name in activations]
    sites = alike if len(alike) > 1 else list(newest)
    if len(sites) < 2:
        return None
    first, last = sites[0], sites[-1]
    return first.name or trace.model, newest[first], last.name or trace.model, newest[last]


def ratio_of(first: float, last: float) -> str:
    """How much of the gradient gets through.

    >>> ratio_of(1e-6, 0.5), ratio_of(0.1, 0.0)
    ('first / last = 2e-06', 'none at the last')
    """
    return f"first / last = {first / last:.2g}" if last else "none at the last"


def ordinal(number: int) -> str:
    """A number that counts, as English writes it.

    >>> [ordinal(n) for n in (2, 4, 11, 23, 32, 101, 112)]
    ['2nd', '4th', '11th', '23rd', '32nd', '101st', '112th']
    """
    is_teen = number % 100 // 10 == 1
    return f"{number:,}{'th' if is_teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _newest(trace: "Trace", quantity: str, kind: Kind) -> dict[Site, float]:
    """The number of every site, in the order of the network, at the last step that has them all, or most of them."""
    if quantity not in trace.quantities(kind):
        return {}
    series = trace.series(quantity, kind, last=1)
    if not np.isfinite(series.values).all():
        series = trace.series(quantity, kind)
    known = np.isfinite(series.values).sum(0)
    newest = series.values[:, np.flatnonzero(known == known.max())[-1]]
    return {site: value for site, value in zip(series.sites, newest.tolist(), strict=True) if math.isfinite(value)}
