"""Traces made of given numbers, without training."""

import numpy as np

from thruway.watching.quantities.collector import Measured
from thruway.watching.quantities.table import Quantity
from thruway.watching.sites import Registry, Site
from thruway.watching.trace.trace import Trace


def made_trace(numbers, *, steps=None, operations=None, shapes=None, loss_graph=()):
    """Return a trace of numbers[kind, quantity][site] = one value per step; NaN where it is not recorded.

    Args:
        numbers: values by kind and quantity, and by site.
        steps: numbers of the steps. Default: from 0 on.
        operations: operation by name of an output. Default: "Linear".
        shapes: shape by name of a site.
        loss_graph: operations of the loss.
    """
    count = max(len(np.atleast_1d(v)) for sites in numbers.values() for v in sites.values())
    steps = range(count) if steps is None else steps
    registry = Registry()
    trace = Trace("Net", registry, None, 1 << 30)
    for kind, _ in numbers:
        for name in numbers[kind, _]:
            if (kind, name) not in registry.sites:
                operation = (operations or {}).get(name, "Linear") if kind in ("output", "gradient") else kind
                registry.add(Site(name, kind, operation, shape=(shapes or {}).get(name, ())))
    quantities = {quantity: Quantity(quantity, "", lambda rows: rows.mean) for _, quantity in numbers}
    for place, step in enumerate(steps):
        measured = []
        for (kind, quantity), sites in numbers.items():
            now = {n: float(np.broadcast_to(v, count)[place]) for n, v in sites.items()}
            known = {n: v for n, v in now.items() if not np.isnan(v)}
            if known:
                where = tuple(registry.sites[kind, name] for name in known)
                measured.append(Measured(quantities[quantity], where, 1, np.array(list(known.values()))))
        trace.add(step, measured)
    trace.loss_graph = tuple(loss_graph)
    return trace
