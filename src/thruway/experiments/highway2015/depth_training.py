"""Training every case of a depth search into its run folder, and going on where that stopped."""

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from thruway.data import TensorSet, batches, load
from thruway.errors import CheckpointError, ConfigError
from thruway.experiments.experiment import Progress
from thruway.experiments.highway2015.depth import Case, Config, cases, trial_of
from thruway.networks import mlp, paired_width
from thruway.runs import Run
from thruway.seeding import generator
from thruway.train import SGD, Population

__all__ = ["Parts", "load_parts", "run_search"]

# A checkpoint at least this often; what a kill -9 can cost.
_SAVE_EVERY_S = 30.0
_EVALUATED_AT_ONCE = 1000  # examples


class Parts(NamedTuple):
    """The data, standardised."""

    train: TensorSet
    test: TensorSet


def load_parts(config: Config) -> Parts:
    """Both parts of the data set on the device that trains.

    Raises:
        ConfigError: for an unknown data set, or a batch larger than the training part.
        DatasetError: if the data is not there, or damaged.
    """
    get = partial(load, config.data, config.data_root, download=config.download)
    train, test = get(train=True, limit=config.examples), get(train=False)
    if config.batch > len(train):
        raise ConfigError(
            f"batch: got {config.batch}, but {config.data} has {len(train)} training examples. Take at most as many."
        )
    # The test part is shifted and scaled by the training part's numbers.
    test, train = test.standardised(*train.moments()), train.standardised()
    return Parts(train.to(config.device), test.to(config.device))


def run_search(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train every case, or what is left of it, into the run folder."""
    run.log(0, {"chance_loss": math.log(len(parts.train.classes))}, site="data")
    done = {case: _state_of(case, run) for case in cases(config)}
    progress.begin(sum(case.cost * (config.epochs - state["epoch"]) for case, state in done.items()))
    for case, state in done.items():
        if not state["is_finished"]:
            train_case(config, case, parts, run, progress)


def train_case(config: Config, case: Case, parts: Parts, run: Run, progress: Progress) -> None:
    """Train one population to the end, from its checkpoint if there is one."""
    population = build_population(config, case, parts.train)
    epoch, seconds = _restore(case, population, run)
    members, saved_at = list(case.members), time.monotonic()
    while epoch < config.epochs:
        started = time.monotonic()
        losses = _train_epoch(config, population, parts.train, epoch)
        epoch, seconds = epoch + 1, seconds + time.monotonic() - started
        run.log(epoch, {"train_loss": losses.tolist()}, site=case.site, member=members)
        if time.monotonic() - saved_at > _SAVE_EVERY_S and epoch < config.epochs:
            _save(case, population, run, epoch, seconds)
            saved_at = time.monotonic()
        try:
            progress.advance(case.cost, f"{case.site} {case.activation}, epoch {epoch}")
        except KeyboardInterrupt:
            # Only here: an interrupt inside an epoch leaves weights that belong to no epoch.
            _save(case, population, run, epoch, seconds)
            raise
    final = {
        "final_loss": _mean_over(population, parts.train, F.cross_entropy).tolist(),
        "test_error": _mean_over(population, parts.test, _error_rate).tolist(),
        "diverged_at": population.diverged_at.double().tolist(),
        "seconds": [seconds / len(members)] * len(members),
    }
    run.log(config.epochs, final, site=case.site, member=members)
    run.flush()
    _save(case, population, run, epoch, seconds, is_finished=True)


def build_population(config: Config, case: Case, train_set: TensorSet) -> Population:
    """The nets of a case with the initial weights, gate biases and update rules of their trials."""
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
    """One pass over the data; the mean training loss of each member in it, (members,)."""
    population.epoch = epoch
    losses = []
    for indices in batches(len(train_set), config.batch, config.seed, epoch):
        losses.append(population.step(*train_set.batch(indices)))
    return torch.stack(losses).double().mean(dim=0).cpu()


def _mean_over(population: Population, data: TensorSet, measure: Any) -> Tensor:
    """The mean of measure(outputs, labels) over all examples, for each member; NaN for the diverged."""
    total = torch.zeros(len(population), dtype=torch.float64)
    for images, labels in _slices(data):
        values = torch.stack([measure(outputs, labels) for outputs in population.outputs(images).unbind(0)])
        total += values.double().cpu() * len(labels)
    return (total / len(data)).masked_fill(~population.is_alive, float("nan"))


def _slices(data: TensorSet) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(
        torch.split(data.images, _EVALUATED_AT_ONCE), torch.split(data.labels, _EVALUATED_AT_ONCE), strict=True
    )


def _error_rate(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.argmax(dim=-1) != labels).double().mean()


def _save(case: Case, population: Population, run: Run, epoch: int, seconds: float, is_finished: bool = False) -> None:
    run.save(case.name, population.tensors(), state={"epoch": epoch, "seconds": seconds, "is_finished": is_finished})


def _state_of(case: Case, run: Run) -> dict[str, Any]:
    """How far a case is: epochs trained, seconds spent, and whether its final numbers are logged."""
    state: dict[str, Any] = {"epoch": 0, "seconds": 0.0, "is_finished": False}
    if case.name in run.checkpoints():
        found = run.load(case.name).state
        if found is None:
            raise CheckpointError(
                f"the checkpoint {case.name!r} does not say how far it is. Remove it to train this part again."
            )
        state |= found
    return state


def _restore(case: Case, population: Population, run: Run) -> tuple[int, float]:
    """(epochs done, seconds spent) of a case, and its weights and momentum into the population."""
    state = _state_of(case, run)
    if state["epoch"]:
        population.load(run.load(case.name).tensors)
    return int(state["epoch"]), float(state["seconds"])
