"""A trace in a notebook: plain HTML, which needs no script and reads on a light and on a dark ground."""

import html
from typing import TYPE_CHECKING

import numpy as np

from thruway.figures.scales import SEQUENTIAL
from thruway.watching.sites import Kind
from thruway.watching.trace.figures import spans_decades, what_of
from thruway.watching.trace.summary import glance, in_words, ratio_of
from thruway.watching.trace.thumbnail import picture

if TYPE_CHECKING:
    from thruway.watching.trace.trace import Trace

__all__ = ["in_html"]

STYLE = "font: 13px/1.5 system-ui, sans-serif; max-width: 720px"
GREY = "color: #767b85"  # as in the figures: readable on white and on black
CELL = "font-size: 13px; text-align: left; white-space: nowrap; padding: 2px 14px 2px 0; border: 0; background: none"
GAP = "rgba(128, 134, 145, 0.5)"  # where there is no number, as in figures.heat_map
MAP_HEIGHT = 180  # pixels, of few rows; many have one each


def in_html(trace: "Trace") -> str:
    """How a trace fares, its most saturated activations, and its gradients (or outputs) over layers and steps."""
    if not trace.steps:
        return f'<div style="{STYLE}">{html.escape(in_words(trace))}</div>'
    found = glance(trace)
    lines = [*found.notes]
    if found.gradient is not None:
        first, small, last, large = found.gradient
        lines.append(f"gradient rms {small:.2g} at {first}, {large:.2g} at {last}: {ratio_of(small, large)}")
    if trace.probe is not None and trace.probe.steps:
        lines.append(f"trace.probe: a fixed batch, at {len(trace.probe.steps):,} steps")
    parts = [
        f"<b>Trace of {html.escape(trace.model)}</b> <span style='{GREY}'>{html.escape(found.seen)}</span>",
        *(html.escape(line) for line in lines),
    ]
    body = "".join(f"<div>{part}</div>" for part in parts)
    return f'<div style="{STYLE}">{body}{_saturation(found.saturated)}{_map(trace)}</div>'


def _saturation(rows: list[tuple[str, str, float, float]]) -> str:
    if not rows:
        return ""
    head = "".join(
        f'<th style="{CELL}; {GREY}">{name}</th>'
        for name in ("most saturated", "activation", "at the low end", "at the high end")
    )
    body = "".join(
        f'<tr style="background: none"><td style="{CELL}">{html.escape(name)}</td>'
        f'<td style="{CELL}">{html.escape(activation)}</td>{_share(low)}{_share(high)}</tr>'
        for name, activation, low, high in rows
    )
    return (
        f'<table style="border-collapse: collapse; margin: 10px 0"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _share(share: float) -> str:
    """A number on a bar of its length."""
    ground = f"linear-gradient(90deg, #d9622b66 {share:.0%}, #8086911c {share:.0%}) no-repeat 0 50% / 90px 14px"
    return (
        f'<td style="{CELL}; background: {ground}; width: 96px"><span style="padding-left: 4px">{share:.1%}</span></td>'
    )


def _map(trace: "Trace") -> str:
    kind: Kind | None = next((kind for kind in ("gradient", "output") if "std" in trace.quantities(kind)), None)
    if kind is None:
        return ""
    series = trace.series("std", kind)
    values = series.values
    known = values[np.isfinite(values)]
    if not known.size:
        return ""
    log = spans_decades(known)
    low, high = (float(known[known > 0].min()) if log else float(known.min())), float(known.max())
    scale = f"linear-gradient(90deg, {', '.join(SEQUENTIAL)})"
    names = [html.escape(site.name or trace.model) for site in (series.sites[-1], series.sites[0])]
    height = max(MAP_HEIGHT, min(len(series.sites), 250))
    image = picture(np.log10(np.where(values == 0, low, values)) if log else values)
    first, last = f"step {series.steps[0]:,}", f"{series.steps[-1]:,}"
    what = html.escape(what_of("std", kind))
    return (
        f'<div style="margin-top: 10px">{what} <span style="{GREY}">{low:.2g}</span> '
        f'<span style="display: inline-block; width: 120px; height: 10px; background: {scale}"></span> '
        f'<span style="{GREY}">{high:.2g}{", logarithmic" if log else ""}</span></div>'
        f'<div style="{GREY}">last: {names[0]}</div>'
        f'<img alt="{what} of every layer at every step" src="{image}" '
        f'style="width: 100%; height: {height}px; image-rendering: pixelated; display: block; background: {GAP}">'
        f'<div style="{GREY}">first: {names[1]} <span style="float: right">{first} – {last}</span></div>'
        f"<div style='{GREY}'>trace.figure(&quot;std&quot;, &quot;{kind}&quot;) shows it with names and numbers.</div>"
    )
