"""Random search over depths: resumable training of populations, rows of trials, and trained networks."""

import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from thruway.data import TensorSet, batches, load
from thruway.errors import CheckpointError, ConfigError
from thruway.experiments.highway2015.depth import Case, Config, cases, trial_of
from thruway.experiments.machinery.images import ImageParts
from thruway.experiments.machinery.resumable import Progress, run_resumable, saved_state
from thruway.experiments.machinery.stored_nets import OpenedNet, StoredNet, dissected, on_this_machine
from thruway.networks import mlp, paired_width
from thruway.runs import Run, RunReader
from thruway.seeding import generator
from thruway.train import SGD, Population

__all__ = ["Curves", "load_images", "read_curves", "read_rows", "run_search", "stored_nets"]

_EVALUATION_BATCH = 1000  # examples

# (block, depth, member) -> mean training loss of epoch 1, 2, ...; NaN once the member has diverged
Curves = dict[tuple[str, int, int], NDArray[np.float64]]


def load_images(config: Config) -> ImageParts:
    """Load both parts of the data set onto the training device.

    Raises:
        ConfigError: if the data set is unknown, or a batch is larger than the training part.
        DatasetError: if the data is missing or damaged.
    """
    get = partial(load, config.data, config.data_root, download=config.download)
    train, test = get(train=True, limit=config.examples), get(train=False)
    if config.batch > len(train):
        raise ConfigError(
            f"batch: got {config.batch}, but {config.data} has {len(train)} training examples. Use a smaller batch."
        )
    # The test part is standardised by the mean and deviation of the training part.
    test, train = test.standardised(*train.moments()), train.standardised()
    return ImageParts(train.to(config.device), test.to(config.device))


def run_search(config: Config, parts: ImageParts, run: Run, progress: Progress) -> None:
    """Train every population, resuming from its checkpoint."""
    run.log(0, {"chance_loss": math.log(len(parts.train.classes))}, site="data")
    states = {case: _state(case, run) for case in cases(config)}
    progress.begin(sum(case.cost * (config.epochs - state["epoch"]) for case, state in states.items()))
    for case, state in states.items():
        if not state["is_finished"]:
            _train(config, case, state, parts, run, progress)


def _state(case: Case, run: Run) -> dict[str, Any]:
    """Return the number of epochs and seconds so far, and whether the final values have been logged."""
    return saved_state(run, case.name, epoch=0, seconds=0.0, is_finished=False)


def _train(config: Config, case: Case, state: dict[str, Any], parts: ImageParts, run: Run, progress: Progress) -> None:
    population = _population(config, case, parts.train)
    if state["epoch"]:
        population.load(run.load(case.name).tensors)
    members = list(case.members)

    def epochs() -> Iterator[tuple[float, str]]:
        for epoch in range(int(state["epoch"]), config.epochs):
            started = time.monotonic()
            losses = _train_epoch(config, population, parts.train, epoch)
            state["epoch"], state["seconds"] = epoch + 1, state["seconds"] + time.monotonic() - started
            run.log(epoch + 1, {"train_loss": losses.tolist()}, site=case.site, member=members)
            yield case.cost, f"{case.site} {case.activation}, epoch {epoch + 1}"
        final = {
            "final_loss": _mean_over(population, parts.train, F.cross_entropy).tolist(),
            "test_error": _mean_over(population, parts.test, _error_rate).tolist(),
            "diverged_at": population.diverged_at.double().tolist(),
            "seconds": [state["seconds"] / len(members)] * len(members),
        }
        run.log(config.epochs, final, site=case.site, member=members)
        run.flush()
        state["is_finished"] = True

    run_resumable(epochs(), lambda: run.save(case.name, population.tensors(), state=state), progress)


def _population(config: Config, case: Case, train_set: TensorSet) -> Population:
    """Return the networks of a case with the initial weights, gate biases and update rules of their trials."""
    inputs, classes = train_set.images[0].numel(), len(train_set.classes)
    width = paired_width(case.block, config.highway_width)
    models, rules = [], []
    for member in case.members:
        seed, trial, drawn = trial_of(config, member)
        weights = generator(seed, "weights", case.block, case.depth, trial)
        model = mlp(
            case.block,
            case.depth,
            width,
            inputs,
            classes,
            activation=case.activation,
            gate_bias=drawn["gate_bias"],
            fused=case.block == "highway",
            generator=weights,
        )
        models.append(model.to(config.device))
        decay = drawn["rate_left"] ** (1 / config.epochs)
        rules.append(SGD(lr=drawn["learning_rate"], momentum=drawn["momentum"], lr_decay=decay))
    return Population(models, rules)


def _train_epoch(config: Config, population: Population, train_set: TensorSet, epoch: int) -> Tensor:
    """Take one pass over the data. Return the mean training loss of each member, (members,)."""
    population.epoch = epoch
    losses = []
    for indices in batches(len(train_set), config.batch, config.seed, epoch):
        losses.append(population.step(*train_set.batch(indices)))
    return torch.stack(losses).double().mean(dim=0).cpu()


def _mean_over(population: Population, data: TensorSet, measure: Any) -> Tensor:
    """Return the mean of measure(outputs, labels) over all examples for each member; NaN if it has diverged."""
    total = torch.zeros(len(population), dtype=torch.float64)
    split = (torch.split(each, _EVALUATION_BATCH) for each in (data.images, data.labels))
    for images, labels in zip(*split, strict=True):
        values = torch.stack([measure(outputs, labels) for outputs in population.outputs(images).unbind(0)])
        total += values.double().cpu() * len(labels)
    return (total / len(data)).masked_fill(~population.is_alive, float("nan"))


def _error_rate(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.argmax(dim=-1) != labels).double().mean()


# --- the trials as rows


def read_curves(reader: RunReader, config: Config) -> Curves:
    """Return the training loss of every trial after every epoch so far."""
    table = reader.table(quantity="train_loss")
    curves: Curves = {}
    for site, member, step, value in zip(table["site"], table["member"], table["step"], table["value"], strict=True):
        block, depth = str(site).split("/")
        key = (block, int(depth), int(member))
        # A killed and resumed run logs some epochs twice, with the same numbers.
        curves.setdefault(key, np.full(config.epochs, math.nan))[int(step) - 1] = value
    return curves


def read_rows(reader: RunReader, config: Config) -> list[dict[str, Any]]:
    """Return one row per finished trial: block, depth, seed, trial, drawn hyperparameters and results."""
    curves = read_curves(reader, config)
    chance = reader.table(quantity="chance_loss")["value"]
    tenth = 0.1 * float(chance[0]) if len(chance) else math.nan
    final: dict[tuple[str, int, str], float] = {}
    table = reader.table(quantity=["final_loss", "test_error", "diverged_at", "seconds"])
    columns = (table["site"], table["member"], table["quantity"], table["value"])
    for site, member, quantity, value in zip(*columns, strict=True):
        final[str(site), int(member), str(quantity)] = float(value)
    return [
        _row(config, case, member) | _results(case, member, final, curves, tenth)
        for case in cases(config)
        for member in case.members
        if (case.site, member, "final_loss") in final
    ]


def _row(config: Config, case: Case, member: int) -> dict[str, Any]:
    seed, trial, drawn = trial_of(config, member)
    return {
        "block": case.block,
        "depth": case.depth,
        "width": paired_width(case.block, config.highway_width),
        "seed": seed,
        "trial": trial,
        "learning_rate": drawn["learning_rate"],
        "momentum": drawn["momentum"],
        "decay": drawn["rate_left"] ** (1 / config.epochs),
        "activation": drawn["activation"],
        "gate_bias": drawn["gate_bias"] if case.block == "highway" else None,
        "epochs": config.epochs,
    }


def _results(
    case: Case, member: int, final: Mapping[tuple[str, int, str], float], curves: Curves, tenth: float
) -> dict[str, Any]:
    site, curve = case.site, curves[case.block, case.depth, member]
    reached = np.flatnonzero(curve <= tenth)
    finite = curve[np.isfinite(curve)]
    return {
        "final_loss": final[site, member, "final_loss"],
        "best_loss": float(finite.min()) if finite.size else math.nan,
        "test_error": final[site, member, "test_error"],
        # A network may break in the very last update, which no later step detects.
        "diverged": final[site, member, "diverged_at"] >= 0 or not math.isfinite(final[site, member, "final_loss"]),
        "epochs_to_tenth": float(reached[0] + 1) if reached.size else math.inf,
        "seconds": final[site, member, "seconds"],
    }


# --- the trained networks


def stored_nets(reader: RunReader, config: Config) -> list[StoredNet]:
    """Return the network of every fully trained trial.

    Opening a network that diverged raises CheckpointError.
    """
    done = set(reader.checkpoints())
    return [
        StoredNet(
            f"{case.name}/{member}",
            f"{case.block} network of {case.depth} hidden layers, {case.activation}, trial {member}",
            partial(_open, reader, config, case, place),
        )
        for case in cases(config)
        if case.name in done and (reader.load(case.name).state or {}).get("is_finished")
        for place, member in enumerate(case.members)
    ]


def _open(reader: RunReader, config: Config, case: Case, place: int, root: Path | None, download: bool) -> OpenedNet:
    here = on_this_machine(config, root, download)
    parts = load_images(here)
    population = _population(here, case, parts.train)
    population.load(reader.load(case.name).tensors)
    if not population.is_alive[place]:
        raise CheckpointError(
            f"trial {case.members[place]} of {case.name} diverged and left no trained network. Choose another trial."
        )
    return OpenedNet(dissected(population.model(place).eval(), parts), parts.test, case.block != "plain")
