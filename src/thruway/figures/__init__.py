"""Plotly figures of the layers of a network, from arrays.

    layers x steps   heat_map                                             every layer at every step
    layers x units   gate_maps                                            every unit, several quantities side by side
    over time        percentile_bands · mean_and_spread · std_intervals   a few layers, evenly spaced
    at one step      layer_histograms
    of two weights   surface
    of whole runs    run_curves                                           such as the test error during training
    of lesions       deletion_bars · deletion_comparison · deletion_boxes · order_scatter
    of paths         path_lengths · path_survival                         number, gradient and survival by length
    of a network     residual_stream · unravelled                         its branches, and all its paths

Layers are distinguished by one ordered colour scale, from the first (blue) to the last (olive). `BLOCK_STYLES` has the
colours and markers of plain, highway and residual blocks, `TEMPLATE` the style of every figure. Figures are the same
in a report and in a notebook, and are readable on a light and on a dark background.
"""

import warnings
from typing import TYPE_CHECKING, Any

from thruway.figures.gate_maps import gate_maps
from thruway.figures.heat import heat_map
from thruway.figures.histograms import layer_histograms
from thruway.figures.lesion_spread import deletion_boxes, order_scatter
from thruway.figures.lesions import deletion_bars, deletion_comparison
from thruway.figures.over_time import mean_and_spread, percentile_bands, std_intervals
from thruway.figures.path_lengths import path_lengths, path_survival
from thruway.figures.run_curves import run_curves
from thruway.figures.surfaces import surface
from thruway.figures.theme import BLOCK_STYLES, TEMPLATE
from thruway.figures.wiring import Wire, residual_stream, unravelled

__all__ = [
    "BLOCK_STYLES",
    "TEMPLATE",
    "Wire",
    "deletion_bars",
    "deletion_boxes",
    "deletion_comparison",
    "gate_maps",
    "heat_map",
    "layer_histograms",
    "mean_and_spread",
    "order_scatter",
    "path_lengths",
    "path_survival",
    "percentile_bands",
    "residual_stream",
    "run_curves",
    "std_intervals",
    "surface",
    "unravelled",
]

if not TYPE_CHECKING:  # a type checker would take any name for one of this module's

    def __getattr__(name: str) -> Any:
        if name == "BLOCK_LOOKS":
            warnings.warn(
                "thruway.figures.BLOCK_LOOKS is deprecated; use BLOCK_STYLES.", DeprecationWarning, stacklevel=2
            )
            return BLOCK_STYLES
        raise AttributeError(f"module 'thruway.figures' has no attribute {name!r}")
