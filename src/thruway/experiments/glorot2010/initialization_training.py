"""Run of the initialization study: training with recorded weight gradients, and functions that read them."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from thruway.experiments.glorot2010.initialization import SCHEMES, Config, Net, Scheme, start_nets
from thruway.experiments.glorot2010.initialization_start import PrefixedLog, build_net, measure_start
from thruway.experiments.glorot2010.streams import Parts
from thruway.experiments.machinery import Progress
from thruway.experiments.machinery.resumable import run_resumable, saved_state
from thruway.runs import Run, RunReader
from thruway.seeding import generator
from thruway.watching import QUANTITIES, watch

__all__ = [
    "Spreads",
    "Training",
    "read_relative_spreads",
    "read_spreads",
    "read_training_rows",
    "run_study",
    "train_net",
]

_DRAWN_AT_ONCE = 1000  # examples: drawn a few at a time, Shapeset costs more than training on them

_WEIGHT_GRADIENT_STD = dataclasses.replace(QUANTITIES["std"], kinds=("parameter_gradient",))


class Training(NamedTuple):
    """One network to train."""

    scheme: Scheme
    seed: int

    @property
    def site(self) -> str:
        """Site of the network's numbers in the run's series, and prefix of the sites of its layers."""
        return f"training/{self.scheme}"

    @property
    def name(self) -> str:
        """Name of the network's checkpoint."""
        return f"training-{self.scheme}-{self.seed}"


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Measure all untrained networks, then train some; a resumed run does the remaining work."""
    shape = {"inputs": parts.inputs, "classes": parts.classes}
    run.log(0, {"mean_square": float(parts.test[0].double().square().mean()), **shape}, site="data")
    nets, done = start_nets(config), run.checkpoints()
    seeds = [seed for seed in _seeds(config, config.seeds) if f"start-{seed}" not in done]
    trainings = [Training(scheme, seed) for seed in _seeds(config, config.trained_seeds) for scheme in SCHEMES]
    left = {training: config.updates - _updates_made(training, run) for training in trainings}
    update_cost = _update_cost(config, _trained_widths(config, parts))
    progress.begin(len(seeds) * sum(_start_cost(config, net, parts) for net in nets) + update_cost * sum(left.values()))
    for seed in seeds:
        _measure_seed(config, nets, seed, parts, run, progress)
    for training, updates in left.items():
        if updates:
            train_net(config, training, parts, run, progress, update_cost)


def _measure_seed(config: Config, nets: Sequence[Net], seed: int, parts: Parts, run: Run, progress: Progress) -> None:
    """Measure all networks of one seed, and store them together."""
    started = time.monotonic()
    histograms: dict[str, Tensor] = {}
    for net in nets:
        found = measure_start(config, net, seed, parts, run)
        histograms |= {f"{net.scheme}/{what}": table for what, table in found.items()}
        progress.advance(_start_cost(config, net, parts), f"{net.site}, seed {seed}")
    run.log(0, {"seconds": time.monotonic() - started}, site="start", member=seed)
    run.save(f"start-{seed}", histograms)


def _seeds(config: Config, count: int) -> range:
    return range(config.seed, config.seed + count)


# Seconds of one slow core, roughly: only their proportions matter.


def _start_cost(config: Config, net: Net, parts: Parts) -> float:
    widths = (parts.inputs, *config.widths(net.shape))
    passes = _weights(widths) * (1e-7 + 4e-10 * config.probe + 4e-8 * config.singles)
    if net.shape != "equal":
        return passes
    jacobians = config.singles if net.activation == "tanh" else 1
    return passes + jacobians * config.depth * 4e-10 * config.width**3


def _update_cost(config: Config, widths: Sequence[int]) -> float:
    return 3e-4 + _weights(widths) * (4e-9 + 2e-10 * config.batch)


def _weights(widths: Sequence[int]) -> int:
    return sum(a * b for a, b in pairwise(widths))


# --- training


def _trained_widths(config: Config, parts: Parts) -> tuple[int, ...]:
    """Return the number of inputs, followed by the number of units of each hidden layer of the trained networks."""
    return (parts.inputs, *(config.trained_width,) * config.depth)


def _updates_made(training: Training, run: Run) -> int:
    return int(saved_state(run, training.name, updates=0)["updates"])


def train_net(config: Config, training: Training, parts: Parts, run: Run, progress: Progress, cost: float) -> None:
    """Train one network by plain SGD, resuming from its checkpoint.

    At every sampled update, the standard deviation of the gradient of each weight matrix and the loss on the batch of
    that update are logged.

    Args:
        config: config of the run.
        training: the network to train.
        parts: training and test examples.
        run: the run. It stores the checkpoint and the logged numbers.
        progress: receives the cost of the updates.
        cost: cost of one update.
    """
    weights = generator(training.seed, "weights", "trained")
    model = build_net(_trained_widths(config, parts), parts.classes, "tanh", training.scheme, weights)
    model = model.to(config.device)
    state = saved_state(run, training.name, updates=0, seconds=0.0)
    if state["updates"]:
        model.load_state_dict(run.load(training.name).tensors)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate)
    batches, stride = _Batches(config, training.seed, parts), config.stride

    def strides() -> Iterator[tuple[float, str]]:
        while state["updates"] < config.updates:
            first, started = int(state["updates"]), time.monotonic()
            end = min(first + stride, config.updates)
            for update in range(first, end):
                images, labels = batches.of(update)
                optimizer.zero_grad()
                loss = F.cross_entropy(model(images), labels)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                if update == first:
                    run.log(update, {"loss": loss.item()}, site=training.site, member=training.seed)
            state["updates"], state["seconds"] = end, state["seconds"] + time.monotonic() - started
            if end == config.updates:  # logged before a checkpoint says that the network is done
                run.log(end, {"seconds": state["seconds"]}, site=training.site, member=training.seed)
            yield cost * (end - first), f"{training.site}, seed {training.seed}, update {end:,}"

    def save() -> None:
        run.save(training.name, model.state_dict(), state=state)

    # Sampled by the number of the update, so that a resumed training samples the same ones. The run folder has all
    # numbers: the trace need not keep many.
    watcher = watch(
        model,
        lambda step: step % stride == 0,
        [_WEIGHT_GRADIENT_STD],
        optimizer,
        PrefixedLog(run, training.site, training.seed),
        first_step=int(state["updates"]),
        memory=1 << 16,
    )
    with watcher:
        run_resumable(strides(), save, progress)


class _Batches:
    """Yields the batch of each update. Many batches are drawn at a time."""

    def __init__(self, config: Config, seed: int, parts: Parts) -> None:
        self._source, self._seed, self._batch = parts.source, seed, config.batch
        self._at_once = max(1, _DRAWN_AT_ONCE // config.batch)
        self._first = -self._at_once  # the update whose batch is the first of those drawn
        self._drawn: tuple[Tensor, Tensor]

    def of(self, update: int) -> tuple[Tensor, Tensor]:
        first = update // self._at_once * self._at_once
        if first != self._first:
            self._first = first
            self._drawn = self._source.draw(self._seed, first * self._batch, self._at_once * self._batch)
        start = (update - first) * self._batch
        images, labels = self._drawn
        return images[start : start + self._batch], labels[start : start + self._batch]


# --- recorded gradients read back

Spreads = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Updates, (updates,), and the std of the weight gradients of every seed and layer, (seeds, layers, updates)."""

_MOMENTS = 50  # of training, at which fig. 9 has a mark


def read_spreads(reader: RunReader, config: Config) -> dict[str, Spreads]:
    """Return the std of the weight gradients of the trained networks, by scheme; NaN for updates not made yet."""
    found: dict[str, Spreads] = {}
    for scheme in SCHEMES:
        sites = [f"training/{scheme}/s{layer}.weight" for layer in range(1, config.depth + 1)]
        table = reader.table(site=sites, quantity="parameter_gradient.std")
        seeds = sorted({int(member) for member in table["member"]})
        steps = np.arange(0, config.updates, config.stride)
        values = np.full((len(seeds), config.depth, len(steps)), np.nan)
        for entry in table.rows():
            place = seeds.index(entry["member"]), sites.index(entry["site"]), entry["step"] // config.stride
            values[place] = entry["value"]
        if seeds:
            found[scheme] = steps, values
    return found


def read_relative_spreads(reader: RunReader, config: Config) -> tuple[list[float], dict[str, NDArray[np.float64]]]:
    """Return updates and, by scheme, the std of each layer's weight gradients relative to all layers, for fig. 9.

    Values are geometric means over seeds and over fiftieths of training, since a single batch changes all layers a lot.
    """
    found = read_spreads(reader, config)
    steps = np.arange(0, config.updates, config.stride)
    parts = np.array_split(np.arange(len(steps)), min(_MOMENTS, len(steps)))
    tables = {}
    for scheme in SCHEMES:
        table = np.full((config.depth, len(parts)), np.nan)
        if scheme in found:
            logs = np.log(found[scheme][1]).mean(axis=0)
            table = np.stack([logs[:, part].mean(axis=1) for part in parts], axis=1)
            table = np.exp(table - table.mean(axis=0))
        tables[str(scheme)] = table
    return [steps[part].mean() for part in parts], tables


def read_training_rows(reader: RunReader, config: Config) -> list[dict[str, Any]]:
    """Return one row per hidden layer of every trained network: its weight gradients in each tenth of training."""
    rows = []
    for scheme, (_, values) in read_spreads(reader, config).items():
        seconds = reader.table(site=f"training/{scheme}", quantity="seconds")
        took = dict(zip(seconds["member"].tolist(), seconds["value"].tolist(), strict=True))
        losses = reader.table(site=f"training/{scheme}", quantity="loss")
        for index, of_layers in enumerate(values):
            seed = config.seed + index
            if seed not in took:
                continue
            loss = losses.where(member=seed)["value"]
            for layer, stds in enumerate(of_layers, start=1):
                rows.append(
                    {
                        "stage": "training",
                        "scheme": scheme,
                        "seed": seed,
                        "layer": layer,
                        "width": config.trained_width,
                        "updates": config.updates,
                        "std_by_tenth": _by_tenth(stds),
                        "loss_by_tenth": [float(part.mean()) for part in np.array_split(loss, 10)],
                        "seconds": took[seed],
                    }
                )
    return rows


def _by_tenth(stds: NDArray[np.float64]) -> list[float]:
    """Return the geometric mean over each tenth of the samples, which limits the influence of single batches."""
    return [float(np.exp(np.log(part).mean())) for part in np.array_split(stds, 10)]
