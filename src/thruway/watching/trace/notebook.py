"""HTML view of a trace for notebooks, without scripts, and readable on light and dark backgrounds."""

import base64
import html
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from plotly.colors import hex_to_rgb

from thruway.figures.downsampling import downsample, group_starts
from thruway.figures.scales import SEQUENTIAL, ramp
from thruway.watching.sites import Kind
from thruway.watching.trace.figures import quantity_label, spans_decades
from thruway.watching.trace.findings import found_symptoms
from thruway.watching.trace.series import ReadableTrace
from thruway.watching.trace.summary import summarize, summary_text

__all__ = ["MAP_SIZE", "png_data_url", "trace_html"]

STYLE = "font: 13px/1.5 system-ui, sans-serif; max-width: 720px"
GREY = "color: #767b85"  # as in the figures: readable on white and black
CELL = "font-size: 13px; text-align: left; white-space: nowrap; padding: 2px 14px 2px 0; border: 0; background: none"
GAP = "rgba(128, 134, 145, 0.5)"  # cells without a number, as in figures.heat_map
MAP_HEIGHT = 180  # pixels at least; many rows have one pixel each
MAP_SIZE = (250, 300)  # rows and columns at most
SHADES = 255


def trace_html(trace: ReadableTrace) -> str:
    """Return the summary, the most saturated activations, and a map of gradients (or outputs) by layer and step."""
    if not trace.steps:
        return f'<div style="{STYLE}">{html.escape(summary_text(trace))}</div>'
    found = summarize(trace)
    lines = [*found.notes]
    if found.gradient is not None:
        ends = found.gradient
        shown = f"gradient rms {ends.small:.2g} at {ends.first}, {ends.large:.2g} at {ends.last}"
        lines.append(f"{shown}: {ends.comparison()}")
    if trace.probe is not None and trace.probe.steps:
        lines.append(f"trace.probe: a fixed batch, at {len(trace.probe.steps):,} steps")
    parts = [
        f"<b>Trace of {html.escape(trace.model)}</b> <span style='{GREY}'>{html.escape(found.size)}</span>",
        *(html.escape(line) for line in lines),
    ]
    body = "".join(f"<div>{part}</div>" for part in parts)
    return f'<div style="{STYLE}">{_findings(trace)}{body}{_saturation(found.saturated)}{_map(trace)}</div>'


def _findings(trace: ReadableTrace) -> str:
    return "".join(
        f'<div style="border-left: 3px solid #d9622b; padding-left: 8px; margin: 0 0 8px"><b>{html.escape(what)}</b> '
        f"{html.escape(cause)}</div>"
        for what, cause in found_symptoms(trace)
    )


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
    """Return a table cell with a share as a number on a bar."""
    ground = f"linear-gradient(90deg, #d9622b66 {share:.0%}, #8086911c {share:.0%}) no-repeat 0 50% / 90px 14px"
    return (
        f'<td style="{CELL}; background: {ground}; width: 96px"><span style="padding-left: 4px">{share:.1%}</span></td>'
    )


def _map(trace: ReadableTrace) -> str:
    kind: Kind | None = next((kind for kind in ("gradient", "output") if "std" in trace.quantities(kind)), None)
    if kind is None:
        return ""
    series = trace.series("std", kind)
    layers = [row for row, site in enumerate(series.sites) if not site.is_scalar]
    values = series.values[layers]
    known = values[np.isfinite(values)]
    if not known.size:
        return ""
    log = spans_decades(known)
    low, high = (float(known[known > 0].min()) if log else float(known.min())), float(known.max())
    scale = f"linear-gradient(90deg, {', '.join(SEQUENTIAL)})"
    names = [html.escape(site.name or trace.model) for site in (series.sites[layers[-1]], series.sites[layers[0]])]
    height = max(MAP_HEIGHT, min(len(layers), 250))
    image = png_data_url(np.log10(np.where(values == 0, low, values)) if log else values)
    first, last = f"step {series.steps[0]:,}", f"{series.steps[-1]:,}"
    what = html.escape(quantity_label("std", kind))
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


def png_data_url(values: NDArray[np.float64]) -> str:
    """Return a data URL of a map with one pixel per cell, the first row at the bottom, NaN transparent.

    If there are more rows or columns than MAP_SIZE, neighbours share a cell, which shows the largest of them, as in
    figures.heat_map.

    Args:
        values: values of the map, (rows, columns). Colours are spaced evenly, so pass logarithms for a logarithmic
            scale.

    >>> png_data_url(np.array([[0.0, 1.0]]))[:22]
    'data:image/png;base64,'
    """
    rows, columns = (group_starts(count, most)[0] for count, most in zip(values.shape, MAP_SIZE, strict=True))
    cells = downsample(downsample(values, columns, "largest", axis=1), rows, "largest", axis=0)
    known = np.isfinite(cells)
    low, high = (cells[known].min(), cells[known].max()) if known.any() else (0.0, 1.0)
    share = (np.where(known, cells, low) - low) / ((high - low) or 1.0)
    colors = np.where(known, 1 + np.rint(share * (SHADES - 1)), 0).astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(_png(colors[::-1])).decode()


def _png(colors: NDArray[np.uint8]) -> bytes:
    """Return a PNG file with a palette in which colour 0 is transparent."""
    height, width = colors.shape
    palette = bytes(part for shade in ["#000000", *ramp(SEQUENTIAL, SHADES)] for part in hex_to_rgb(shade))
    lines = np.hstack([np.zeros((height, 1), np.uint8), colors])  # each line begins with its filter type, 0
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = {
        b"IHDR": header,
        b"PLTE": palette,
        b"tRNS": b"\0",
        b"IDAT": zlib.compress(lines.tobytes(), 9),
        b"IEND": b"",
    }
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
