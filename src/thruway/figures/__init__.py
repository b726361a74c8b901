"""Figures of what happens in the layers of a network: plain numbers in, Plotly out.

    layers x steps   heat_map                                             every layer at every step
    over time        percentile_bands · mean_and_spread · std_intervals   a few layers, evenly chosen
    at one moment    layer_histograms
    of two weights   surface
    of whole runs    run_curves                                           such as the test error while training

Layers are told apart by one ordered scale of colours, from the first (blue) to the last (olive).
`BLOCK_LOOKS` are the colours and marks of plain, highway and residual blocks, `TEMPLATE` the look of every
figure. Each is the same in a report and in a notebook, and reads on a light and on a dark ground.
"""

from thruway.figures.heat import heat_map
from thruway.figures.histograms import layer_histograms
from thruway.figures.look import BLOCK_LOOKS, TEMPLATE
from thruway.figures.over_time import mean_and_spread, percentile_bands, std_intervals
from thruway.figures.run_curves import run_curves
from thruway.figures.surfaces import surface

__all__ = [
    "BLOCK_LOOKS",
    "TEMPLATE",
    "heat_map",
    "layer_histograms",
    "mean_and_spread",
    "percentile_bands",
    "run_curves",
    "std_intervals",
    "surface",
]
