"""Watching any training run: what activations, gradients, gates and updates do in every layer."""

from thruway.watching.logged import trace_of
from thruway.watching.quantities import DEFAULT, QUANTITIES, Quantity
from thruway.watching.rows import Rows
from thruway.watching.shards import merged
from thruway.watching.sites import Site
from thruway.watching.trace import Series, Trace
from thruway.watching.watcher import WatchWarning, watch

__all__ = [
    "DEFAULT",
    "QUANTITIES",
    "Quantity",
    "Rows",
    "Series",
    "Site",
    "Trace",
    "WatchWarning",
    "merged",
    "trace_of",
    "watch",
]
