"""Watching any training run: what activations, gradients, gates and updates do in every layer."""

from thruway.watching.arrays import ArraySeries, Histogram, Histograms
from thruway.watching.failing import WatchWarning
from thruway.watching.jacobian import LayerJacobian, layer_jacobian
from thruway.watching.layer_jacobians import layer_jacobians
from thruway.watching.logged import trace_of
from thruway.watching.quantities import DEFAULT, QUANTITIES, Quantity
from thruway.watching.rows import Rows
from thruway.watching.shards import merged
from thruway.watching.sites import Site
from thruway.watching.trace import Series, Trace
from thruway.watching.watcher import watch

__all__ = [
    "DEFAULT",
    "QUANTITIES",
    "ArraySeries",
    "Histogram",
    "Histograms",
    "LayerJacobian",
    "Quantity",
    "Rows",
    "Series",
    "Site",
    "Trace",
    "WatchWarning",
    "layer_jacobian",
    "layer_jacobians",
    "merged",
    "trace_of",
    "watch",
]
