"""What was seen: numbers per step, site and quantity, in memory and wherever else they should go."""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thruway.errors import ConfigError
from thruway.runs import Table
from thruway.watching.quantities.collector import Measured
from thruway.watching.registry import Registry
from thruway.watching.sites import Kind, Site
from thruway.watching.trace.derived import DERIVED, Derivation
from thruway.watching.trace.layout import Key, Layout, layout_key, pack
from thruway.watching.trace.merging import merge
from thruway.watching.trace.missing import why_missing
from thruway.watching.trace.saving import Kept, load_kept, save_kept
from thruway.watching.trace.series import (
    ArraySeries,
    Histogram,
    Histograms,
    array_names,
    has_parts,
    read_arrays,
    read_histogram,
    read_histograms,
)
from thruway.watching.trace.steps import BadValue, Series, Step, first_bad_of
from thruway.watching.trace.summary import in_words
from thruway.watching.trace.tidy import Row, SiteLog, as_table, log_rows

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from thruway.watching.trace.selection import Choice

__all__ = ["BadValue", "Series", "SiteLog", "Trace"]


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
        self.units: dict[str, str] = {}
        self._steps: list[Step] = []
        self._layouts: dict[Key, Layout] = {}
        self._latest: tuple[Key, Layout] | None = None
        self._derivations: dict[Layout, list[Derivation]] = {}

    # Growing

    def add(self, step: int, measured: Sequence[Measured]) -> None:
        """Take in the numbers of one sampled step."""
        single = [m for m in measured if m.values.ndim == 1]
        layout = self._layout(single)
        if layout.has_parts or has_parts([m for m in measured if m.values.ndim > 1]):
            measured = merge(measured)
            single = [m for m in measured if m.values.ndim == 1]
            layout = self._layout(single)
        numbers = pack(single)
        if self.first_bad is None:
            self.first_bad = first_bad_of(step, layout, numbers)
        if self._run is not None:
            log_rows(self._run, self._rows(Step(step, layout, numbers, [])))
        self._samples += 1
        if (self._samples - 1) % self.kept_every == 0:
            arrays = [m for m in measured if m.values.ndim > 1]
            self._steps.append(Step(step, layout, numbers, arrays))
            self._used += numbers.nbytes + sum(m.values.nbytes for m in arrays)
            if self._used > self._memory and len(self._steps) > 2:
                self._thin()

    def _thin(self) -> None:
        self._steps = self._steps[::2]
        self.kept_every *= 2
        self._used = sum(s.numbers.nbytes + sum(m.values.nbytes for m in s.arrays) for s in self._steps)

    def _layout(self, measured: Sequence[Measured]) -> Layout:
        key = layout_key(measured)
        # Compared in no time, where hashing thousands of sites takes some.
        if self._latest is not None and key == self._latest[0]:
            return self._latest[1]
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = Layout.of(key)
            self.units |= {m.quantity.name: m.quantity.unit for m in measured}
        self._latest = key, layout
        return layout

    def _derived(self, layout: Layout) -> list[Derivation]:
        known = self._derivations.get(layout)
        if known is None:
            made = [d for make in DERIVED.values() if (d := make(layout, self._registry))]
            known = self._derivations[layout] = [d for d in made if (d.kind, d.quantity) not in layout.places]
        return known

    # Reading

    def _settled(self) -> list[Step]:
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
        groups = {m.sites for step in self._settled() for m in step.arrays}
        groups |= {sites for layout in self._layouts.values() for sites, _ in layout.places.values()}
        return sorted({site for sites in groups for site in sites}, key=lambda site: site.order)

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

    def series(self, quantity: str, kind: Kind = "output", *, last: int | None = None) -> Series:
        """One quantity at every site, at every step that it was taken; with `last`, that many of the latest of them.

        Raises:
            ConfigError: if it was not measured at sites of this kind; it says how to get it.
        """
        taken = ((step.number, *self._read(step, quantity, kind)) for step in reversed(self._settled()))
        columns = list(islice((column for column in taken if column[1]), last))[::-1]
        found = {site for sites in {sites for _, sites, _ in columns} for site in sites}
        if not found:
            if quantity in array_names(self._steps, kind):
                raise ConfigError(f"{quantity} is many numbers per site: read it with trace.arrays({quantity!r}).")
            raise ConfigError(why_missing(self, quantity, kind))
        ordered = sorted(found, key=lambda site: site.order)
        row_of = {site: row for row, site in enumerate(ordered)}
        values = np.full((len(ordered), len(columns)), np.nan)
        rows: dict[tuple[Site, ...], list[int]] = {}
        for column, (_, sites, numbers) in enumerate(columns):
            if sites not in rows:
                rows[sites] = [row_of[site] for site in sites]
            values[rows[sites], column] = numbers
        steps = np.array([number for number, _, _ in columns], dtype=np.int64)
        return Series(quantity, kind, tuple(ordered), steps, values)

    def _read(self, step: Step, quantity: str, kind: Kind) -> tuple[tuple[Site, ...], NDArray[Any]]:
        place = step.layout.places.get((kind, quantity))
        if place is not None:
            return place[0], step.numbers[place[1]]
        for derivation in self._derived(step.layout):
            if (derivation.kind, derivation.quantity) == (kind, quantity):
                return derivation.sites, derivation.of(step.numbers)
        return (), np.empty(0)

    def array_quantities(self, kind: Kind = "output") -> list[str]:
        """What was measured at sites of a kind as many numbers each, such as histograms."""
        return array_names(self._settled(), kind)

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
        return as_table(row for step in self._settled() for row in self._rows(step))

    def _rows(self, step: Step) -> Iterator[Row]:
        for (kind, quantity), (sites, places) in step.layout.places.items():
            yield step.number, kind, quantity, sites, step.numbers[places]
        for d in self._derived(step.layout):
            yield step.number, d.kind, d.quantity, d.sites, d.of(step.numbers)

    # Showing and keeping

    def figure(
        self,
        what: str,
        kind: Kind | None = None,
        *,
        style: str | None = None,
        sites: "Choice" = None,
        step: int | None = None,
    ) -> "go.Figure":
        """A quantity as a figure: a map of sites x steps, or another style of showing.FIGURES.

        Args:
            what: its name, as in `quantities()`.
            kind: of the sites; left out, the first kind that has the quantity, outputs before all others.
            style: "heat_map", "mean_and_spread", "percentile_bands", "std_intervals" or "histograms".
            sites: "activations", "modules", "gates"; names or patterns such as "blocks.*.relu"; or a function of a
                Site that says whether it is wanted. Left out, a map shows all, other styles the activations.
            step: the step of histograms; left out, the last that has them.
        Raises:
            ConfigError: for what was not measured or is not known; it says what there is.
        """
        from thruway.watching.trace.figures import (
            show,  # brings the charts, which take longer to load than a training step
        )

        return show(self, what, kind, style, sites, step)

    def save(self, path: Path | str) -> Path:
        """Write everything to one file, usually `something.npz`, which `Trace.load` and NumPy read; no code is in it.

        Raises:
            RunError: if it cannot be written; an older file there is then untouched.
        """
        return save_kept(self._kept(), Path(path))

    @classmethod
    def load(cls, path: Path | str) -> "Trace":
        """A trace that was saved.

        Raises:
            RunError: if the file is missing, damaged, no trace, or of a later format.
        """
        return cls._of(load_kept(Path(path)))

    def _kept(self) -> Kept:
        probe = None if self.probe is None else self.probe._kept()
        return Kept(
            model=self.model,
            kept_every=self.kept_every,
            samples=self._samples,
            first_bad=self.first_bad,
            failure=self.failure,
            units=self.units,
            registry=self._registry,
            layouts=self._layouts,
            steps=self._settled(),
            probe=probe,
        )

    @classmethod
    def _of(cls, kept: Kept) -> "Trace":
        trace = cls(kept.model, kept.registry, None, sys.maxsize)
        trace.kept_every, trace._samples, trace.units = kept.kept_every, kept.samples, kept.units
        trace.first_bad, trace.failure = kept.first_bad, kept.failure
        trace._layouts, trace._steps = kept.layouts, kept.steps
        trace.probe = None if kept.probe is None else cls._of(kept.probe)
        return trace

    def __repr__(self) -> str:
        return in_words(self)

    def _repr_html_(self) -> str:
        from thruway.watching.trace.notebook import in_html

        return in_html(self)
