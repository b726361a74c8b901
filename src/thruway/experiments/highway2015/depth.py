"""Plain nets stop training as they get deeper; highway and residual nets do not.

Paper     Srivastava, Greff & Schmidhuber 2015: Highway Networks, fig. 1; Training Very Deep Networks, fig. 1
Protocol  for each kind of block and each depth a random search over learning rate, momentum, decay, activation
          and (highway) gate bias; training cross-entropy against epoch, of the best trial and of the top few
Claims    plain nets get much worse with depth, highway nets do not; ten times better at the deepest; faster
          (depth_claims.py)
Measured  results/highway2015.depth-laptop: five claims with their verdicts, from three searches on Fashion-MNIST
Cost      demo two minutes, laptop under an hour, on two cores; paper a GPU
Differs   the ranges of the search (the papers print only that of the gate bias), the data at demo and
          laptop scale, residual blocks beside the papers' two, and the order of the training examples, which
          all searches of a run share (it depends on `seed` alone)
"""

import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from thruway.data import TensorSet, batches, load
from thruway.errors import CheckpointError, ConfigError
from thruway.experiments.experiment import Progress
from thruway.networks import mlp, paired_width
from thruway.runs import Run
from thruway.seeding import generator
from thruway.sweep import Choice, LogUniform, Uniform, draw_trial
from thruway.train import SGD, Population

__all__ = ["SCALES", "Case", "Config", "Parts", "cases", "load_parts", "member_of", "run_search", "trial_of"]

Block = Literal["plain", "highway", "residual"]

# A checkpoint at least this often; what a kill -9 can cost.
_SAVE_EVERY_S = 30.0
_EVALUATED_AT_ONCE = 1000  # examples


class Config(BaseModel):
    """Everything that decides the numbers of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: minutes; laptop: under an hour on two cores; paper: as published, needs a GPU. Sets the other defaults."""
    data: str = "digits"
    data_root: Path | None = None
    """Where the data lies; unset: the usual places."""
    download: bool = False
    """Get the data set if it is not there."""
    examples: int | None = Field(default=None, ge=100)
    """Training examples used, taken evenly over the set; unset: all."""
    blocks: tuple[Block, ...] = Field(default=("plain", "highway", "residual"), min_length=1)
    depths: tuple[int, ...] = Field(default=(10, 20, 50), min_length=1)
    """Hidden layers, the first of which is always a plain one."""
    highway_width: int = Field(default=50, ge=1)
    """Units per highway layer; the other blocks are as wide as gives the same number of parameters (71 for 50)."""
    seed: int = Field(default=0, ge=0)
    searches: int = Field(default=1, ge=1)
    """Independent random searches, with seeds seed, seed + 1, ...; a verdict needs three."""
    trials: int = Field(default=6, ge=1)
    """Trials of one search, per block and depth."""
    epochs: int = Field(default=30, ge=1)
    batch: int = Field(default=100, ge=1)
    learning_rate: LogUniform = LogUniform(low=0.003, high=0.3)
    momentum: Uniform = Uniform(low=0.5, high=0.95)
    rate_left: LogUniform = LogUniform(low=0.01, high=1.0)
    """Share of the learning rate that is left after the last epoch; it decays exponentially."""
    activation: Choice = Choice(values=("relu", "tanh"))
    gate_bias: Uniform = Uniform(low=-10.0, high=-1.0)
    device: str = "cpu"

    @model_validator(mode="after")
    def _is_searchable(self) -> "Config":
        if min(self.depths) < 2:
            raise ValueError(f"depths count hidden layers and start at 2, got {min(self.depths)}")
        if len(set(self.blocks)) < len(self.blocks):
            raise ValueError(f"blocks names each kind once, got {', '.join(self.blocks)}")
        if not (self.momentum.low >= 0 and self.momentum.high < 1):
            raise ValueError(f"momentum lies in [0, 1), got {self.momentum.low} to {self.momentum.high}")
        if self.rate_left.high > 1:
            raise ValueError(f"rate_left is a share in (0, 1], got {self.rate_left.low} to {self.rate_left.high}")
        if unknown := set(self.activation.values) - {"relu", "tanh", "sigmoid", "elu", "linear"}:
            raise ValueError(f"activation takes relu, tanh, sigmoid, elu or linear, got {', '.join(sorted(unknown))}")
        return self

    @property
    def space(self) -> dict[str, Any]:
        """What a trial draws."""
        names = ("learning_rate", "momentum", "rate_left", "activation", "gate_bias")
        return {name: getattr(self, name) for name in names}


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(
        scale="laptop",
        data="fashion-mnist",
        examples=5000,
        depths=(10, 20, 50, 100),
        searches=3,
        trials=5,
        epochs=50,
    ),
    "paper": Config(
        scale="paper", data="mnist", depths=(10, 20, 50, 100), searches=3, trials=40, epochs=400, device="cuda"
    ),
}


class Case(NamedTuple):
    """Nets that can be trained as one population: they differ in numbers only."""

    block: Block
    depth: int
    activation: str
    members: tuple[int, ...]  # in the order of the population

    @property
    def site(self) -> str:
        """Where its numbers stand in the series."""
        return f"{self.block}/{self.depth}"

    @property
    def name(self) -> str:
        """The name of its checkpoint."""
        return f"{self.block}-{self.depth}-{self.activation}"

    @property
    def cost(self) -> float:
        """Work of one epoch, in layers."""
        return self.depth * len(self.members)


def member_of(config: Config, search: int, trial: int) -> int:
    """The number under which a trial's values are logged."""
    return search * config.trials + trial


def trial_of(config: Config, member: int) -> tuple[int, int, dict[str, Any]]:
    """(seed of the search, number in it, drawn values) of a member: a function of the config alone."""
    search, trial = divmod(member, config.trials)
    return config.seed + search, trial, draw_trial(config.space, config.seed + search, trial)


def cases(config: Config) -> list[Case]:
    """The populations to train, shallow ones first, so that there is something to see early."""
    members: dict[str, list[int]] = {}
    for member in range(config.searches * config.trials):
        members.setdefault(trial_of(config, member)[2]["activation"], []).append(member)
    return [
        Case(block, depth, activation, tuple(chosen))
        for depth in sorted(set(config.depths))
        for block in config.blocks
        for activation, chosen in sorted(members.items())
    ]


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
