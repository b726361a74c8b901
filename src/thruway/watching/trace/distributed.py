"""Merging of the traces of several processes into one trace of the whole batch."""

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thruway.errors import ConfigError, unknown_name
from thruway.watching.quantities.collector import Measured
from thruway.watching.quantities.step_table import STEP_QUANTITIES
from thruway.watching.quantities.table import QUANTITIES, Quantity
from thruway.watching.sites import Kind, Registry, Site
from thruway.watching.trace.steps import BadValue, Step
from thruway.watching.trace.trace import Trace

__all__ = ["merged"]

# The weight of a shard whose number of values is unknown: so large that subtracting bad values does not matter.
_EQUAL_WEIGHT = 1 << 50
_PER_SHARD: tuple[Kind, ...] = ("output", "gradient", "input")


def merged(
    traces: Sequence[Trace], losses: Literal["mean", "sum"] = "mean", quantities: Iterable[Quantity] = ()
) -> Trace:
    """Merge the traces of data-parallel training, in which each process had a shard of every batch.

    Outputs and their gradients become those of the whole batch: means are weighted, standard deviations are pooled
    about the common mean, extremes and counts are combined, percentiles and ranks are averaged. Parameters are the
    same in every process, and so are their gradients after averaging; both are taken from the first trace, as is the
    probe. The result contains the steps that all traces have kept.

    All shards have the same weight. If they differ in size, record the quantity "count" too; shards are then weighted
    by their number of values.

    Args:
        traces: one trace per process, in the order of the ranks, from `watch` or from `Trace.load`.
        losses: "mean" if the loss is the mean of the processes' losses, as in DistributedDataParallel, so that
            gradients are divided by the number of processes; "sum" if it is their sum.
        quantities: user-defined quantities that were recorded.
    Raises:
        ConfigError: if there are no traces, traces have no common step, or a quantity is unknown.

    >>> from thruway.watching import watch
    >>> import torch
    >>> net, traces = torch.nn.Identity(), []
    >>> for shard in (torch.zeros(2), torch.ones(2)):
    ...     with watch(net, quantities=["mean", "std"]) as trace:
    ...         _ = net(shard)
    ...     traces.append(trace)
    >>> merged(traces).series("std").values
    array([[0.5]])
    """
    if not traces:
        raise ConfigError("no trace to merge. Pass one per process: merged([Trace.load(path) for path in ...]).")
    if losses not in ("mean", "sum"):
        raise ConfigError(f"losses must be 'mean' or 'sum', got {losses!r}. DistributedDataParallel uses the mean.")
    steps = [{step.number: step for step in trace._flushed_steps()} for trace in traces]
    common = [number for number in steps[0] if all(number in kept for kept in steps[1:])]
    if not common:
        raise ConfigError(
            f"these {len(traces)} traces have no step in common. Pass the traces of one training run, one per process."
        )
    registry = _joint_registry(traces)
    rules = QUANTITIES | STEP_QUANTITIES | {quantity.name: quantity for quantity in quantities}
    rules["loss"] = dataclasses.replace(rules["loss"], merge=losses)
    whole = Trace(traces[0].model, registry, None, sys.maxsize)
    factor = 1 / len(traces) if losses == "mean" else 1.0
    for number in common:
        parts = [_parts(kept[number], rank, registry, rules, factor) for rank, kept in enumerate(steps)]
        whole.add(number, [part for rank in parts for part in rank])
    whole.kept_every = max(trace.kept_every for trace in traces)
    whole.first_bad = _first_bad(traces, whole.first_bad, registry)
    whole.failure = next((trace.failure for trace in traces if trace.failure is not None), None)
    whole.probe = traces[0].probe
    whole.optimizer, whole.loss_graph = traces[0].optimizer, traces[0].loss_graph
    return whole


def _joint_registry(traces: Sequence[Trace]) -> Registry:
    """Return a registry with the sites of all traces, in the order of the first trace that has each."""
    joint = Registry()
    for trace in traces:
        for key, site in trace._registry.sites.items():
            if key not in joint.sites:
                joint.sites[key] = dataclasses.replace(site, order=len(joint.sites), group=None)
        joint.branches |= {name: pair for name, pair in trace.branches.items() if name not in joint.branches}
    return joint


def _parts(step: Step, rank: int, registry: Registry, rules: dict[str, Quantity], factor: float) -> Iterator[Measured]:
    """Iterate over the numbers of one process in one step, with sites of the joint registry."""
    counts = {name: _counts(step, registry, name) for name in ("count", "nan", "inf")}
    for (kind, name), (sites, places) in step.layout.places.items():
        if kind not in _PER_SHARD and name != "loss" and rank > 0:
            continue
        if name not in rules:
            raise ConfigError(
                f"{unknown_name('quantity', name, rules)} Pass your own quantities as quantities=[...]: their merge "
                "rules are needed."
            )
        rule = rules[name]
        scale = factor if kind == "gradient" and rule.unit == "" else 1.0
        for site, value in zip((registry.sites[s.key] for s in sites), step.numbers[places] * scale, strict=True):
            finite, bad = counts["count"].get(site), counts["nan"].get(site, 0) + counts["inf"].get(site, 0)
            count = _EQUAL_WEIGHT if finite is None else finite + bad
            yield Measured(rule, (site,), count, np.array([value]))
    for array in step.arrays:
        if array.sites[0].kind in _PER_SHARD or rank == 0:
            own = tuple(registry.sites[site.key] for site in array.sites)
            yield Measured(array.quantity, own, array.count, _scaled(array, factor))


def _counts(step: Step, registry: Registry, quantity: str) -> dict[Site, int]:
    found: dict[Site, int] = {}
    for (_, name), (sites, places) in step.layout.places.items():
        if name == quantity:
            found |= {registry.sites[s.key]: int(n) for s, n in zip(sites, step.numbers[places], strict=True)}
    return found


def _scaled(array: Measured, factor: float) -> NDArray[Any]:
    if array.sites[0].kind != "gradient":
        return array.values
    if array.quantity.merge == "histogram":  # extremes, then counts
        return np.concatenate([array.values[:, :2] * factor, array.values[:, 2:]], 1)
    return array.values * factor if array.quantity.unit == "" else array.values


def _first_bad(traces: Sequence[Trace], kept: BadValue | None, registry: Registry) -> BadValue | None:
    """Return the earliest bad value of all processes, with counts over all of them if its step was merged."""
    found = [trace.first_bad for trace in traces if trace.first_bad is not None]
    earliest = min(found, key=lambda bad: bad.step, default=None)
    if earliest is None or (kept is not None and kept.step == earliest.step):
        return kept
    return dataclasses.replace(earliest, site=registry.sites[earliest.site.key])
