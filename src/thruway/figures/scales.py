"""Colour scales of layers, of magnitudes and of signed values."""

import math
from collections.abc import Sequence

import numpy as np
from plotly.colors import diverging as colorbrewer
from plotly.colors import hex_to_rgb, sequential

__all__ = ["DIVERGING", "SEQUENTIAL", "layer_color", "log_scale", "log_ticks", "ramp", "shades"]

# A path through the hues at nearly constant lightness, so that every colour is visible on white and on black. It runs
# from blue to yellow, which protan and deutan readers can distinguish. Found by a search that maximised the distance
# between eight layers for every kind of colour vision; checked in the tests.
LAYERS = ("#4649ff", "#ab53de", "#bf069a", "#eb0086", "#91611d", "#9b8c00")

# Viridis and ColorBrewer's red-blue, blue for negative; both are ordered for every kind of colour vision.
SEQUENTIAL = tuple(sequential.Viridis)
DIVERGING = tuple(reversed(colorbrewer.RdBu))

Scale = list[tuple[float, str]]


def ramp(stops: Sequence[str], count: int) -> list[str]:
    """Return `count` evenly spaced colours on the scale through `stops`.

    >>> ramp(["#000000", "#ffffff"], 3)
    ['#000000', '#808080', '#ffffff']
    """
    table = np.array([hex_to_rgb(stop) for stop in stops], dtype=np.float64)
    places = np.linspace(0, len(stops) - 1, count)
    channels = [np.interp(places, np.arange(len(stops)), channel) for channel in table.T]
    return ["#" + "".join(f"{math.floor(part + 0.5):02x}" for part in color) for color in zip(*channels, strict=True)]


def layer_color(number: int, count: int) -> str:
    """Return the colour of layer `number` (from 0) of `count`: blue for the first, olive for the last.

    >>> layer_color(0, 10), layer_color(9, 10)
    ('#4649ff', '#9b8c00')
    """
    return ramp(LAYERS, max(count, 2))[number]


def shades(color: str) -> list[str]:
    """Return a scale from dark to light shades of one colour, for a surface."""
    darkest, lightest = ramp(["#000000", color], 11)[6], ramp([color, "#ffffff"], 11)[5]
    return ramp([darkest, color, lightest], 9)


def log_scale(low: float, high: float, stops: Sequence[str]) -> Scale:
    """Return a scale for a linear colour axis from `low` to `high` > `low` > 0 that colours by the logarithm.

    Plotly has no logarithmic colour axis. Here the stops are transformed instead of the values, so that the hover
    text shows the original values.

    >>> [round(place, 3) for place, _ in log_scale(1.0, 100.0, SEQUENTIAL)][::16]
    [0.0, 0.091, 1.0]
    """
    count = 1 + int(np.clip(8 * math.ceil(math.log10(high / low)), 32, 320))
    places = (np.geomspace(low, high, count) - low) / (high - low)
    places[[0, -1]] = 0.0, 1.0
    return list(zip(np.clip(places, 0, 1).tolist(), ramp(stops, count), strict=True))


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return at most `most` round numbers from `low` to `high`, as the labels of a logarithmic scale.

    >>> log_ticks(0.02, 5.0), log_ticks(1e-20, 1.0), log_ticks(6.1, 6.2)
    ([0.03, 0.1, 0.3, 1.0, 3.0], [1e-20, 1e-17, 1e-14, 1e-11, 1e-08, 1e-05, 0.01], [6.1, 6.2])
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= most:
            return inside if len(inside) > 1 else [low, high]
    stride = math.ceil(len(inside) / most)
    return inside[::stride]
