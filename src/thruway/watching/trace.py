"""What was seen: numbers per step, site and quantity, in memory and wherever else they should go."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thruway.errors import ConfigError, unknown_name
from thruway.runs import Table
from thruway.watching.arrays import (
    ArraySeries,
    Histogram,
    Histograms,
    array_names,
    has_parts,
    read_arrays,
    read_histogram,
    read_histograms,
)
from thruway.watching.collector import Measured
from thruway.watching.derived import DERIVED, Derivation
from thruway.watching.layout import Key, Layout, layout_key, pack
from thruway.watching.merging import merge
from thruway.watching.registry import Registry
from thruway.watching.sites import Kind, Site

__all__ = ["BadValue", "Series", "SiteLog", "Trace"]


class SiteLog(Protocol):
    """Where a trace writes as it grows; a Run is one."""

    def log_sites(self, step: int, quantity: str, sites: Sequence[str], values: Any) -> None:
        """One quantity at many sites of one step."""


@dataclass(frozen=True)
class BadValue:
    """Where NaN or infinity was seen first: in the earliest step, whichever came first in the passes."""

    step: int
    site: Site
    nan: int
    inf: int


@dataclass(frozen=True)
class Series:
    """One quantity: `values` (sites, steps), NaN where it was not measured."""

    quantity: str
    kind: Kind
    sites: tuple[Site, ...]
    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        """The sites' names, in the order of the forward pass."""
        return [site.name for site in self.sites]


@dataclass(slots=True)
class _Step:
    number: int
    layout: Layout
    numbers: NDArray[Any]
    arrays: list[Measured]  # quantities of many numbers per site


class Trace:
    """The numbers of a watched training run, growing while it runs.

    Steps are counted from 0 (or `first_step`). When the memory set for them is used up, every second step is
    dropped and only every second one kept from there on: `kept_every` says how far that went. What was
    written to a run stays complete.
    """

    def __init__(self, model: str, registry: Registry, run: SiteLog | None, memory: int) -> None:
        self.model = model
        self.kept_every = 1
        self.first_bad: BadValue | None = None
        self.failure: Exception | None = None
        self.probe: Trace | None = None
        self.settle: Callable[[], None] | None = None
        self._registry = registry
        self._run = run
        self._memory = memory
        self._used = 0
        self._samples = 0
        self._steps: list[_Step] = []
        self._layouts: dict[Key, Layout] = {}
        self._derivations: dict[Layout, list[Derivation]] = {}

    # Growing

    def add(self, step: int, measured: Sequence[Measured]) -> None:
        """Take in the numbers of one sampled step."""
        single = [m for m in measured if m.values.ndim == 1]
        layout = self._layout(single)
        if layout.has_parts() or has_parts([m for m in measured if m.values.ndim > 1]):
            measured = merge(measured)
            single = [m for m in measured if m.values.ndim == 1]
            layout = self._layout(single)
        numbers = pack(single)
        if self.first_bad is None:
            self.first_bad = _first_bad(step, layout, numbers)
        if self._run is not None:
            for (kind, quantity), (sites, places) in layout.places.items():
                self._run.log_sites(step, _logged(kind, quantity), [s.name for s in sites], numbers[places])
            for d in self._derived(layout):
                self._run.log_sites(step, _logged(d.kind, d.quantity), [s.name for s in d.sites], d.of(numbers))
        self._samples += 1
        if (self._samples - 1) % self.kept_every == 0:
            arrays = [m for m in measured if m.values.ndim > 1]
            self._steps.append(_Step(step, layout, numbers, arrays))
            self._used += numbers.nbytes + sum(m.values.nbytes for m in arrays)
            if self._used > self._memory and len(self._steps) > 2:
                self._thin()

    def _thin(self) -> None:
        self._steps = self._steps[::2]
        self.kept_every *= 2
        self._used = sum(s.numbers.nbytes + sum(m.values.nbytes for m in s.arrays) for s in self._steps)

    def _layout(self, measured: Sequence[Measured]) -> Layout:
        key = layout_key(measured)
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = Layout.of(key)
        return layout

    def _derived(self, layout: Layout) -> list[Derivation]:
        known = self._derivations.get(layout)
        if known is None:
            known = self._derivations[layout] = [d for make in DERIVED.values() if (d := make(layout, self._registry))]
        return known

    # Reading

    def _settled(self) -> list[_Step]:
        if self.settle is not None:
            self.settle()
        return self._steps

    @property
    def steps(self) -> list[int]:
        """The sampled steps that are kept."""
        return [step.number for step in self._settled()]

    @property
    def sites(self) -> list[Site]:
        """Everything that was watched, in the order it was met."""
        self._settled()
        met = {site for layout in self._layouts.values() for sites, _ in layout.places.values() for site in sites}
        return sorted(met, key=lambda site: site.order)

    @property
    def branches(self) -> dict[str, tuple[str, str]]:
        """The residual adds: name of the sum -> (site of the branch's output, site of the shortcut's)."""
        return dict(self._registry.branches)

    def quantities(self, kind: Kind = "output") -> list[str]:
        """What was measured at sites of a kind."""
        names: dict[str, None] = {}
        for layout in {step.layout: None for step in self._settled()}:
            names |= {quantity: None for at, quantity in layout.places if at == kind}
            names |= {d.quantity: None for d in self._derived(layout) if d.kind == kind}
        return list(names)

    def series(self, quantity: str, kind: Kind = "output") -> Series:
        """One quantity at every site and step.

        Raises:
            ConfigError: if it was not measured at sites of this kind.
        """
        found: dict[Site, int] = {}
        columns: list[tuple[tuple[Site, ...], NDArray[Any]]] = []
        for step in self._settled():
            sites, numbers = self._read(step, quantity, kind)
            columns.append((sites, numbers))
            for site in sites:
                found.setdefault(site, site.order)
        if not found:
            if quantity in array_names(self._steps, kind):
                raise ConfigError(f"{quantity} is many numbers per site: read it with trace.arrays({quantity!r}).")
            raise ConfigError(unknown_name(f"{kind} quantity", quantity, self.quantities(kind)))
        ordered = sorted(found, key=lambda site: site.order)
        row_of = {site: row for row, site in enumerate(ordered)}
        values = np.full((len(ordered), len(columns)), np.nan)
        rows: dict[tuple[Site, ...], list[int]] = {}
        for column, (sites, numbers) in enumerate(columns):
            at = rows.setdefault(sites, [row_of[site] for site in sites])
            values[at, column] = numbers
        return Series(quantity, kind, tuple(ordered), np.array(self.steps, dtype=np.int64), values)

    def _read(self, step: _Step, quantity: str, kind: Kind) -> tuple[tuple[Site, ...], NDArray[Any]]:
        place = step.layout.places.get((kind, quantity))
        if place is not None:
            return place[0], step.numbers[place[1]]
        for derivation in self._derived(step.layout):
            if (derivation.kind, derivation.quantity) == (kind, quantity):
                return derivation.sites, derivation.of(step.numbers)
        return (), np.empty(0)

    def arrays(self, quantity: str, kind: Kind = "output") -> ArraySeries:
        """One quantity of many numbers per site, at every site and at every step that it was taken.

        Raises:
            ConfigError: if it was not measured at sites of this kind.
        """
        return read_arrays(self._settled(), quantity, kind)

    def histogram(self, name: str, kind: Kind = "output", step: int | None = None) -> Histogram:
        """How the values of one site were spread at one step; without a step, the last time it was looked at.

        Raises:
            ConfigError: for a site or a step without histogram.
        """
        return read_histogram(self._settled(), name, kind, step)

    def histograms(self, kind: Kind = "output", step: int | None = None) -> Histograms:
        """The histograms of all sites of a kind at one step, as figures.layer_histograms takes them.

        Raises:
            ConfigError: for a step without histograms.
        """
        return read_histograms(self._settled(), kind, step)

    def table(self) -> Table:
        """Every number: step, kind, site, quantity, value."""
        steps: list[NDArray[Any]] = []
        kinds: list[str] = []
        names: list[str] = []
        quantities: list[str] = []
        values: list[NDArray[Any]] = []
        for step in self._settled():
            derived = [((d.kind, d.quantity), d.sites, d.of(step.numbers)) for d in self._derived(step.layout)]
            places = [(which, sites, step.numbers[at]) for which, (sites, at) in step.layout.places.items()]
            for (kind, quantity), sites, numbers in places + derived:
                steps.append(np.full(len(sites), step.number))
                kinds += [kind] * len(sites)
                names += [site.name for site in sites]
                quantities += [quantity] * len(sites)
                values.append(numbers)
        return Table(
            {
                "step": np.concatenate(steps) if steps else np.empty(0, dtype=np.int64),
                "kind": np.array(kinds, dtype=object),
                "site": np.array(names, dtype=object),
                "quantity": np.array(quantities, dtype=object),
                "value": np.concatenate(values) if values else np.empty(0),
            }
        )

    def __repr__(self) -> str:
        steps = self.steps
        if not steps:
            return f"Trace of {self.model}: nothing seen yet"
        count = {kind: sum(site.kind == kind for site in self.sites) for kind in ("output", "gradient", "parameter")}
        seen = ", ".join(f"{n} {kind}s" for kind, n in count.items() if n)
        bad = self.first_bad
        health = f"first bad value at step {bad.step} in {bad.site.kind} of {bad.site.name}" if bad else "all finite"
        return f"Trace of {self.model}: {len(steps)} steps ({steps[0]} to {steps[-1]}), {seen}; {health}"


def _logged(kind: Kind, quantity: str) -> str:
    """The quantity's name in a run, where the kind of the site has no column of its own."""
    return f"{kind}.{quantity}"


def _first_bad(step: int, layout: Layout, numbers: NDArray[Any]) -> BadValue | None:
    counts: dict[Site, dict[str, int]] = {}
    for (_, quantity), (sites, places) in layout.places.items():
        if quantity in ("nan", "inf"):
            found = numbers[places]
            if found.any():
                for site, number in zip(sites, found.tolist(), strict=True):
                    if number:
                        counts.setdefault(site, {})[quantity] = int(number)
    if not counts:
        return None
    first = min(counts, key=_when)
    return BadValue(step, first, counts[first].get("nan", 0), counts[first].get("inf", 0))


def _when(site: Site) -> tuple[int, int]:
    """The order of events in a step; the backward pass meets the last site first."""
    turn = {"parameter": 0, "output": 1, "gradient": 2, "parameter_gradient": 3, "update": 4}[site.kind]
    return turn, -site.order if site.kind == "gradient" else site.order
