"""Trace of a watched training run: numbers by step, site and quantity, in memory and optionally in a run."""

import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thruway.errors import ConfigError
from thruway.runs import Table
from thruway.watching.facts import LossNode
from thruway.watching.quantities.collector import Measured
from thruway.watching.sites import Kind, Registry, Site
from thruway.watching.trace.derived import DERIVED, Derivation
from thruway.watching.trace.findings import findings_lines
from thruway.watching.trace.merging import merge
from thruway.watching.trace.missing import find_kind, why_missing
from thruway.watching.trace.saving import SavedTrace, load_trace, save_trace
from thruway.watching.trace.selection import SiteSelection
from thruway.watching.trace.series import (
    ArraySeries,
    Histogram,
    Histograms,
    Series,
    array_names,
    check_last,
    has_parts,
    read_arrays,
    read_histogram,
    read_histograms,
    series_of,
)
from thruway.watching.trace.steps import (
    BadValue,
    Layout,
    LayoutKey,
    Row,
    SiteLog,
    Step,
    as_table,
    first_bad_value,
    layout_key,
    log_rows,
    pack,
)
from thruway.watching.trace.summary import summary_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Trace"]


class Trace:
    """The numbers recorded during a watched training run. More are added as long as it continues.

    Steps are counted from 0 or from `first_step`. If the numbers exceed the memory limit, every other step is dropped,
    and from then on only every other sampled step is kept. `kept_every` is the resulting interval in sampled steps. A
    run to which the trace is written contains every sampled step.
    """

    def __init__(self, model: str, registry: Registry, run: SiteLog | None, memory: int) -> None:
        self.model = model
        self.kept_every = 1
        self.first_bad: BadValue | None = None
        self.failure: Exception | None = None
        self.probe: Trace | None = None
        self.optimizer = ""  # its class
        self.loss_graph: tuple[LossNode, ...] = ()  # from the loss down to the outputs, in the first sampled step
        self.flush: Callable[[], None] | None = None  # set by the watcher: adds a step that is complete but pending
        self._registry = registry
        self._run = run
        self._memory = memory
        self._used = self._samples = 0
        self.units: dict[str, str] = {}
        self._steps: list[Step] = []
        self._layouts: dict[LayoutKey, Layout] = {}
        self._latest: tuple[LayoutKey, Layout] | None = None
        self._derivations: dict[Layout, list[Derivation]] = {}

    # Recording

    def add(self, step: int, measured: Sequence[Measured]) -> None:
        """Add the numbers of one sampled step."""
        single = [m for m in measured if m.values.ndim == 1]
        layout = self._layout(single)
        if layout.has_parts or has_parts([m for m in measured if m.values.ndim > 1]):
            measured = merge(measured)
            single = [m for m in measured if m.values.ndim == 1]
            layout = self._layout(single)
        numbers = pack(single)
        if self.first_bad is None:
            self.first_bad = first_bad_value(step, layout, numbers)
        if self._run is not None:
            log_rows(self._run, self._rows(Step(step, layout, numbers, [])))
        self._samples += 1
        if (self._samples - 1) % self.kept_every == 0:
            arrays = [m for m in measured if m.values.ndim > 1]
            self._steps.append(Step(step, layout, numbers, arrays))
            self._used += numbers.nbytes + sum(m.values.nbytes for m in arrays)
            if self._used > self._memory and len(self._steps) > 2:
                self._drop_every_other_step()

    def _drop_every_other_step(self) -> None:
        self._steps = self._steps[::2]
        self.kept_every *= 2
        self._used = sum(s.numbers.nbytes + sum(m.values.nbytes for m in s.arrays) for s in self._steps)

    def _layout(self, measured: Sequence[Measured]) -> Layout:
        key = layout_key(measured)
        # Comparing equal keys is quick; hashing thousands of sites is not.
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
            made = [d for row in DERIVED.values() if (d := row.derive(layout, self._registry))]
            known = self._derivations[layout] = [d for d in made if (d.kind, d.quantity) not in layout.places]
        return known

    # Reading

    def _flushed_steps(self) -> list[Step]:
        if self.flush is not None:
            self.flush()
        return self._steps

    @property
    def steps(self) -> list[int]:
        """The sampled steps that are kept."""
        return [step.number for step in self._flushed_steps()]

    @property
    def sites(self) -> list[Site]:
        """All measured sites, in the order in which they were first captured."""
        groups = {m.sites for step in self._flushed_steps() for m in step.arrays}
        groups |= {sites for layout in self._layouts.values() for sites, _ in layout.places.values()}
        return sorted({site for sites in groups for site in sites}, key=lambda site: site.order)

    @property
    def branches(self) -> dict[str, tuple[str, str]]:
        """The residual additions: for the name of each sum, the sites of the branch and of the shortcut."""
        return dict(self._registry.branches)

    def quantities(self, kind: Kind = "output") -> list[str]:
        """Return the names of the quantities at sites of a kind, including derived ones."""
        names: dict[str, None] = {}
        for layout in {step.layout: None for step in self._flushed_steps()}:
            names |= {quantity: None for at, quantity in layout.places if at == kind}
            names |= {d.quantity: None for d in self._derived(layout) if d.kind == kind}
        return list(names)

    def series(self, quantity: str, kind: Kind | None = None, *, last: int | None = None) -> Series:
        """Return one quantity at every site and at every step where it was measured, or at the `last` of these steps.

        The default kind of sites is the first that has the quantity, starting with outputs.

        Raises:
            ConfigError: if it was not measured at sites of this kind; the message says how to record it. If `last` is
                neither None nor an integer of at least 1.
        """
        check_last(last)
        kind = kind or find_kind(self, quantity, None)
        steps = self._flushed_steps()
        readers = {layout: self._reader(layout, quantity, kind) for layout in {step.layout for step in steps}}
        known = [(step, reader) for step in steps if (reader := readers[step.layout]) and reader.sites]
        if not known:
            raise ConfigError(why_missing(self, quantity, kind))
        chosen = known if last is None else known[-last:]
        return series_of([(s.number, reader.sites, reader.of(s.numbers)) for s, reader in chosen], quantity, kind)

    def _reader(self, layout: Layout, quantity: str, kind: Kind) -> Derivation | None:
        place = layout.places.get((kind, quantity))
        if place is not None:
            return Derivation(quantity, kind, place[0], operator.itemgetter(place[1]))
        return next((d for d in self._derived(layout) if (d.kind, d.quantity) == (kind, quantity)), None)

    def array_quantities(self, kind: Kind = "output") -> list[str]:
        """Return the names of the quantities with many numbers per site, such as histograms, at sites of a kind."""
        return array_names(self._flushed_steps(), kind)

    def arrays(self, quantity: str, kind: Kind = "output") -> ArraySeries:
        """Return a quantity of many numbers per site, at every site and at every step where it was measured.

        Raises:
            ConfigError: if it was not measured at sites of this kind.
        """
        return read_arrays(self._flushed_steps(), quantity, kind)

    def histogram(self, name: str, kind: Kind = "output", step: int | None = None) -> Histogram:
        """Return the histogram of one site at one step, by default the last step that has one.

        Raises:
            ConfigError: if there is no histogram at this site or step.
        """
        return read_histogram(self._flushed_steps(), name, kind, step)

    def histograms(self, kind: Kind = "output", step: int | None = None) -> Histograms:
        """Return the histograms of all sites of a kind at one step, in the form accepted by figures.layer_histograms.

        Raises:
            ConfigError: if there are no histograms at this step.
        """
        return read_histograms(self._flushed_steps(), kind, step)

    def table(self) -> Table:
        """Return all numbers as a table: step, kind, site, quantity, value."""
        return as_table(row for step in self._flushed_steps() for row in self._rows(step))

    def _rows(self, step: Step) -> Iterator[Row]:
        for (kind, quantity), (sites, places) in step.layout.places.items():
            yield step.number, kind, quantity, sites, step.numbers[places]
        for d in self._derived(step.layout):
            yield step.number, d.kind, d.quantity, d.sites, d.of(step.numbers)

    # Display and storage

    def figure(
        self,
        what: str,
        kind: Kind | None = None,
        *,
        style: str | None = None,
        sites: SiteSelection = None,
        step: int | None = None,
    ) -> "go.Figure":
        """Plot a quantity as a map of sites x steps, or in another style of FIGURES.

        Args:
            what: name of the quantity, as in `quantities()`.
            kind: kind of the sites. Default: the first kind that has the quantity, starting with outputs.
            style: "heat_map", "mean_and_spread", "percentile_bands", "std_intervals" or "histograms".
            sites: "activations", "modules", "gates"; names or patterns such as "blocks.*.relu"; or a function of a
                Site that returns True for the sites to draw. Default: all sites for a map, the activations for other
                styles.
            step: step of the histograms. Default: the last step that has them.
        Raises:
            ConfigError: if the quantity was not measured, or an argument is unknown; the message lists the known ones.
        """
        from thruway.watching.trace.figures import draw_figure  # loads Plotly, which takes longer than a training step

        return draw_figure(self, what, kind, style, sites, step)

    def save(self, path: Path | str) -> Path:
        """Save the trace to a file, usually `x.npz`, which `Trace.load` and NumPy can read. It contains no code.

        Raises:
            RunError: if the file cannot be written. An existing file is then unchanged.
        """
        return save_trace(self._contents(), Path(path))

    @classmethod
    def load(cls, path: Path | str) -> "Trace":
        """Load a saved trace.

        Raises:
            RunError: if the file is missing, damaged, not a trace, or in a newer format.
        """
        return cls._of(load_trace(Path(path)))

    def _contents(self) -> SavedTrace:
        return SavedTrace(
            model=self.model,
            kept_every=self.kept_every,
            samples=self._samples,
            first_bad=self.first_bad,
            failure=self.failure,
            units=self.units,
            registry=self._registry,
            layouts=self._layouts,
            steps=self._flushed_steps(),
            probe=None if self.probe is None else self.probe._contents(),
            optimizer=self.optimizer,
            loss_graph=self.loss_graph,
        )

    @classmethod
    def _of(cls, saved: SavedTrace) -> "Trace":
        trace = cls(saved.model, saved.registry, None, sys.maxsize)
        trace.kept_every, trace._samples, trace.units = saved.kept_every, saved.samples, saved.units
        trace.first_bad, trace.failure, trace.optimizer = saved.first_bad, saved.failure, saved.optimizer
        trace._layouts, trace._steps, trace.loss_graph = saved.layouts, saved.steps, saved.loss_graph
        trace.probe = None if saved.probe is None else cls._of(saved.probe)
        return trace

    def __repr__(self) -> str:
        return "\n".join([*findings_lines(self), summary_text(self)])

    def _repr_html_(self) -> str:
        from thruway.watching.trace.notebook import trace_html

        return trace_html(self)
