"""Training of the networks of the saturation study with recorded layers, and functions that read the records."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from thruway.errors import RunError
from thruway.experiments.glorot2010.saturation import Case, Config, Parts, cases, new_net, stream
from thruway.experiments.machinery import Progress
from thruway.experiments.machinery.resumable import run_resumable, saved_state
from thruway.networks.mlp import MLP
from thruway.runs import Run, RunReader
from thruway.watching import QUANTITIES, Quantity, Rows, Trace, watch

__all__ = [
    "KNEES",
    "MIDDLE",
    "Course",
    "Numbers",
    "histograms",
    "read_courses",
    "read_ends",
    "run_study",
    "train_case",
]

_SAVE_EVERY_S = 60.0
_DRAWN_AT_ONCE = 500  # updates whose examples are in memory at a time


# --- recorded quantities: one number per layer and look

KNEES = (0.6, 0.8)
"""Range of |z| in which softsign is neither linear nor flat, and in which fig. 4 shows most of its values."""
MIDDLE = 0.1
"""Largest |z| that counts as 0."""
_BINS = 64  # of a histogram, between the smallest and the largest value of its layer

_BOUNDED = frozenset(("sigmoid", "tanh", "softsign"))
_PAPER = "Glorot & Bengio 2010, fig. 4"


def _share_in_knees(rows: Rows) -> Tensor:
    low, high = KNEES
    size = rows.flat.abs()
    return ((size >= low) & (size <= high)).to(size.dtype).mean(1)


def _share_in_middle(rows: Rows) -> Tensor:
    return (rows.flat.abs() <= MIDDLE).to(rows.flat.dtype).mean(1)


def _of_layers(name: str) -> Quantity:
    """Return a quantity for the hidden layers only: others are not shown, and percentiles of weights are slow."""
    return replace(QUANTITIES[name], kinds=("output",), activations=_BOUNDED, stride=1)


_NUMBERS: tuple[Quantity, ...] = (
    *map(_of_layers, ("mean", "std", "p2", "p50", "p98", "saturation_low", "saturation_high")),
    Quantity("knees", "share of values", _share_in_knees, ("output",), _BOUNDED, source=_PAPER),
    Quantity("middle", "share of values", _share_in_middle, ("output",), _BOUNDED, source=_PAPER),
)
WATCHED: tuple[Quantity, ...] = (*_NUMBERS, _of_layers("histogram"))


# --- training


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and record every network; a resumed run does the remaining work."""
    left = {case: case.updates - _updates_done(case, run) for case in cases(config)}
    progress.begin(max(1, sum(left.values())))
    for case, updates in left.items():
        if updates:
            train_case(config, case, parts, run, progress)


def train_case(config: Config, case: Case, parts: Parts, run: Run, progress: Progress) -> None:
    """Train one network, resuming from its checkpoint."""
    net = new_net(config, case, parts)
    state = saved_state(run, case.checkpoint, update=0, seconds=0.0)
    if state["update"]:
        net.load_state_dict(run.load(case.checkpoint).tensors)
    optimizer = torch.optim.SGD(net.parameters(), lr=case.rate)
    first, stops = int(state["update"]), set(case.stops)
    logged = first - 1  # the last update whose records are in the run folder

    with watch(net, stops.__contains__, WATCHED, optimizer, probe=parts.probe, first_step=first) as trace:

        def looks() -> Iterator[tuple[float, str]]:
            for end in (stop for stop in case.stops if stop > first):
                start, started = int(state["update"]), time.monotonic()
                loss = _train(config, case, net, optimizer, parts, start, end)
                state["update"], state["seconds"] = end, state["seconds"] + time.monotonic() - started
                run.log(end, {"training_loss": loss}, site=case.name, member=case.member)
                if end == case.updates:
                    _log_histograms(run, case, _on_probe(trace))
                    final = {"learning_rate": case.rate, "seed": float(case.seed), "seconds": state["seconds"]}
                    run.log(end, final, site=case.name, member=case.member)
                yield end - start, f"{case.net.title}, seed {case.seed}, update {end}"

        def save() -> None:
            # Records first: the checkpoint says how far they go.
            nonlocal logged
            _log_layers(run, case, _on_probe(trace), logged)
            run.save(case.checkpoint, net.state_dict(), state=state)
            logged = int(state["update"])

        run_resumable(looks(), save, progress, _SAVE_EVERY_S)


def _updates_done(case: Case, run: Run) -> int:
    return int(saved_state(run, case.checkpoint, update=0)["update"])


def _train(
    config: Config, case: Case, net: MLP, optimizer: torch.optim.SGD, parts: Parts, first: int, end: int
) -> float:
    """Make updates first .. end, and return their mean training loss."""
    total = torch.zeros((), dtype=torch.float64, device=parts.probe.device)
    for start in range(first, end, _DRAWN_AT_ONCE):
        count = min(_DRAWN_AT_ONCE, end - start)
        inputs, labels = parts.source.draw(stream("train", case.seed), start * config.batch, count * config.batch)
        for batch, targets in zip(inputs.view(count, config.batch, -1), labels.view(count, -1), strict=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(batch), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach()
    return float(total) / (end - first)


# --- records written


def _on_probe(trace: Trace) -> Trace:
    """Return the records on the fixed examples."""
    if trace.failure is not None:
        raise RunError("recording stopped before the end of training, so no claim can be judged.") from trace.failure
    if trace.probe is None:
        raise RunError("the layers were not recorded on the fixed examples.")
    return trace.probe


def _log_layers(run: Run, case: Case, records: Trace, since: int) -> None:
    """Log the records of the hidden layers at the updates after `since`."""
    for quantity in _NUMBERS:
        series = records.series(quantity.name)
        layers = [row for row, site in enumerate(series.sites) if site.activation == case.net.activation]
        sites = [case.site(layer) for layer in range(1, len(layers) + 1)]
        for column in np.flatnonzero(series.steps > since):
            values = series.values[layers, column].tolist()
            run.log_sites(int(series.steps[column]), quantity.name, sites, values, case.member)


def _log_histograms(run: Run, case: Case, records: Trace) -> None:
    """Log the latest histogram of each hidden layer: its range, and the share of values in each bin."""
    layers = [site.name for site in records.sites if site.activation == case.net.activation]
    found = [records.histogram(name) for name in layers]
    sites = [case.site(layer) for layer in range(1, len(layers) + 1)]
    step = found[0].step
    run.log_sites(step, "histogram_low", sites, [float(each.edges[0]) for each in found], case.member)
    run.log_sites(step, "histogram_high", sites, [float(each.edges[-1]) for each in found], case.member)
    for number in range(_BINS):
        shares = [float(each.counts[number] / each.counts.sum()) for each in found]
        run.log_sites(step, f"histogram_{number:02}", sites, shares, case.member)


# --- records read back

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Course:
    """Records of one network's layers during training, the first layer first.

    `course["mean"]` has shape (layers, looks): means over the fixed examples at the updates `steps`.
    """

    case: Case
    steps: NDArray[np.int64]
    values: Mapping[str, Numbers]

    def __getitem__(self, quantity: str) -> Numbers:
        return self.values[quantity]

    @property
    def saturated(self) -> Numbers:
        """Share of values at either flat end of the activation, (layers, looks)."""
        return self["saturation_low"] + self["saturation_high"]

    @property
    def is_whole(self) -> bool:
        """True if the records reach the end of training."""
        return int(self.steps[-1]) == self.case.updates


def read_courses(reader: RunReader, config: Config) -> list[Course]:
    """Return the records of all networks that have any, in the order in which they are trained."""
    found: dict[tuple[str, int], dict[str, dict[tuple[int, int], float]]] = {}
    for entry in reader.table().rows():
        name, _, layer = entry["site"].partition("/")
        if layer and not entry["quantity"].startswith("histogram"):
            of_net = found.setdefault((name, entry["member"]), {})
            of_net.setdefault(entry["quantity"], {})[int(layer) - 1, entry["step"]] = entry["value"]
    return [_course(case, found[case.name, case.member]) for case in cases(config) if (case.name, case.member) in found]


def _course(case: Case, found: Mapping[str, Mapping[tuple[int, int], float]]) -> Course:
    steps = sorted({step for values in found.values() for _, step in values})
    column = {step: number for number, step in enumerate(steps)}
    tables = {}
    for quantity, values in found.items():
        tables[quantity] = np.full((case.net.depth, len(steps)), np.nan)
        for (layer, step), value in values.items():
            tables[quantity][layer, column[step]] = value
    return Course(case, np.array(steps, dtype=np.int64), tables)


def read_ends(reader: RunReader, config: Config) -> dict[Case, dict[str, float]]:
    """Return, for each fully trained network, its last training loss and the duration of its training in seconds."""
    found: dict[tuple[str, int, int], dict[str, float]] = {}
    for entry in reader.table(quantity=["training_loss", "seconds"]).rows():
        at = entry["site"], entry["member"], entry["step"]
        found.setdefault(at, {})[entry["quantity"]] = entry["value"]
    ends = {case: found.get((case.name, case.member, case.updates), {}) for case in cases(config)}
    return {case: end for case, end in ends.items() if "seconds" in end}


def histograms(reader: RunReader, case: Case) -> tuple[Numbers, Numbers] | None:
    """Return edges, (layers, bins + 1), and shares, (layers, bins), of a trained network; None before the end."""
    sites = [case.site(layer) for layer in range(1, case.net.depth + 1)]
    table = reader.table(member=case.member, site=sites, steps=case.updates)
    found = {(entry["site"], entry["quantity"]): entry["value"] for entry in table.rows()}
    if (sites[0], "histogram_low") not in found:
        return None
    shares = [[found[site, f"histogram_{number:02}"] for number in range(_BINS)] for site in sites]
    edges = [np.linspace(found[site, "histogram_low"], found[site, "histogram_high"], _BINS + 1) for site in sites]
    return np.array(edges), np.array(shares)
