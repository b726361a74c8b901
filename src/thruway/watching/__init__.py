"""Recording of activations, gradients, gates and parameter updates of every layer during any training run."""

from thruway.watching.errors import WatchWarning
from thruway.watching.facts import LossNode, ParameterState
from thruway.watching.quantities.jacobian import LayerJacobian, layer_jacobian
from thruway.watching.quantities.layer_jacobians import layer_jacobians
from thruway.watching.quantities.rows import Rows
from thruway.watching.quantities.table import DEFAULT, QUANTITIES, Quantity
from thruway.watching.sites import Site
from thruway.watching.trace.distributed import merged
from thruway.watching.trace.run_folder import trace_of
from thruway.watching.trace.series import ArraySeries, Histogram, Histograms, Series
from thruway.watching.trace.trace import Trace
from thruway.watching.watcher import watch

__all__ = [
    "DEFAULT",
    "QUANTITIES",
    "ArraySeries",
    "Histogram",
    "Histograms",
    "LayerJacobian",
    "LossNode",
    "ParameterState",
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
