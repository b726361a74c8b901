"""The saturation of the layers of a deep network depends on its activation and its initial weights.

Paper     Glorot & Bengio 2010, figs. 2, 3, 4 and 10
Protocol  sigmoid networks with 4 and 5 hidden layers; tanh and softsign networks, and tanh networks with normalized
          initialization, with 5; plain SGD on batches of ten, biases from 0; the outputs of every layer on 300 fixed
          test examples are recorded during training
Claims    the top sigmoid layer falls to 0 and takes long to recover, and at depth 5 it never does; tanh networks
          saturate layer by layer from the input on, softsign networks less and in all layers together, as do tanh
          networks with normalized initialization (saturation_claims.py)
Measured  results/glorot2010.saturation-laptop: 9 of 12 claims hold, 3 unclear (seeds 10 to 12)
Cost      demo: a minute on one core; laptop: half an hour; paper: requires a GPU
Differs   learning rates, number of seeds and number of updates (the paper states none of them for these figures)
"""

import math
from typing import Literal, NamedTuple

from pydantic import Field, model_validator
from torch import Tensor

from thruway import data
from thruway.errors import ConfigError
from thruway.experiments.glorot2010.streams import Finite, Source, StreamConfig, shapeset, standardised_parts
from thruway.init import initialize
from thruway.networks import mlp
from thruway.networks.mlp import MLP
from thruway.seeding import derive, generator

__all__ = ["NETS", "SCALES", "Case", "Config", "Net", "Parts", "cases", "load_parts", "new_net", "stream"]

NetName = Literal["sigmoid-4", "sigmoid-5", "tanh", "softsign", "tanh-n"]


class Net(NamedTuple):
    """One kind of network of the study."""

    activation: str
    scheme: str  # of its initial weights, a key of thruway.init.SCHEMES
    depth: int  # hidden layers
    title: str
    figure: str  # the paper's


NETS: dict[str, Net] = {
    "sigmoid-4": Net("sigmoid", "standard", 4, "Sigmoid, 4 hidden layers", "fig. 2"),
    "sigmoid-5": Net("sigmoid", "standard", 5, "Sigmoid, 5 hidden layers", "sec. 3.1"),
    "tanh": Net("tanh", "standard", 5, "Tanh", "fig. 3, top"),
    "softsign": Net("softsign", "standard", 5, "Softsign", "fig. 3, bottom"),
    "tanh-n": Net("tanh", "glorot_uniform", 5, "Tanh, normalized", "fig. 10"),
}
"""Kinds of networks, in the order of the paper's figures."""


class Config(StreamConfig):
    """Settings that determine the results of a run."""

    size: int = Field(default=32, ge=10)
    """Height and width of a Shapeset image, in pixels."""
    probe: int = Field(default=300, ge=10)
    """Number of test examples on which the layers are recorded."""
    nets: tuple[NetName, ...] = Field(default=("sigmoid-4", "sigmoid-5", "tanh", "softsign", "tanh-n"), min_length=1)
    width: int = Field(default=30, ge=1)
    """Number of units in each hidden layer."""
    sigmoid_rate: float = Field(default=2.0, gt=0, lt=math.inf)
    """Learning rate of the sigmoid networks. The loss is the mean over a batch."""
    rate: float = Field(default=0.1, gt=0, lt=math.inf)
    """Learning rate of the other networks."""
    sigmoid_updates: int = Field(default=20_000, ge=1)
    """Number of updates of the sigmoid networks, which take long to leave saturation."""
    updates: int = Field(default=6000, ge=1)
    """Number of updates of the other networks."""
    looks: int = Field(default=80, ge=10)
    """Number of times that the layers of a network are recorded, evenly spaced over training."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, ge=1)
    """Number of networks of each kind, with seeds seed, seed + 1, ...; a definite verdict requires three."""

    @model_validator(mode="after")
    def _can_be_run(self) -> "Config":
        if len(set(self.nets)) < len(self.nets):
            raise ValueError(f"nets names each kind once, got {', '.join(self.nets)}")
        for name in ("sigmoid_updates", "updates"):
            if getattr(self, name) < self.looks:
                raise ValueError(f"{name} is at least looks ({self.looks}), got {getattr(self, name)}")
        return self


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(
        scale="laptop",
        width=100,
        sigmoid_rate=0.5,
        rate=0.05,
        sigmoid_updates=100_000,
        updates=100_000,
        looks=200,
        seeds=3,
    ),
    "paper": Config(
        scale="paper",
        width=1000,
        sigmoid_rate=0.1,
        rate=0.01,
        sigmoid_updates=5_000_000,
        updates=5_000_000,
        looks=500,
        seeds=3,
        device="cuda",
    ),
}


class Case(NamedTuple):
    """One network to train and record."""

    name: str  # a key of NETS
    member: int  # number of its seed, from 0
    seed: int
    rate: float
    updates: int
    looks: int

    @property
    def net(self) -> Net:
        """The entry of this network in NETS."""
        return NETS[self.name]

    @property
    def checkpoint(self) -> str:
        """Name of the network's checkpoint."""
        return f"{self.name}-{self.member}"

    @property
    def stops(self) -> tuple[int, ...]:
        """Numbers of updates after which the layers are recorded, from 0 to the end of training.

        >>> Case("tanh", 0, 0, 0.1, 25, 10).stops
        (0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25)
        """
        return tuple(self.updates * look // self.looks for look in range(self.looks + 1))

    def site(self, layer: int) -> str:
        """Site of a hidden layer in the run's series; layers count from 1."""
        return f"{self.name}/{layer}"


def cases(config: Config) -> list[Case]:
    """Return the networks to train: all kinds for one seed, then all kinds for the next."""
    found = []
    for member in range(config.seeds):
        for name in config.nets:
            is_sigmoid = NETS[name].activation == "sigmoid"
            rate = config.sigmoid_rate if is_sigmoid else config.rate
            updates = config.sigmoid_updates if is_sigmoid else config.updates
            found.append(Case(name, member, config.seed + member, rate, updates, config.looks))
    return found


# --- data and networks


class Parts(NamedTuple):
    """Training stream of a run, and the fixed examples on which the layers are recorded."""

    source: Source
    probe: Tensor  # (examples, inputs)
    classes: int

    @property
    def inputs(self) -> int:
        """Number of values in an example."""
        return self.probe.shape[1]


def load_parts(config: Config) -> Parts:
    """Load the data of a run onto the training device.

    Raises:
        ConfigError: if the data set is unknown, or has fewer examples than a batch or the probe needs.
        DatasetError: if the data is missing or damaged.
    """
    if config.data == "shapeset":
        source = shapeset(config)
        # The same in every run, so that runs can be compared.
        probe, _ = source.draw(stream("probe", 0), 0, config.probe)
        return Parts(source, probe, len(data.Shapeset(config.size).classes))
    train, test = standardised_parts(config, config.probe)
    for name, asked, there in (("batch", config.batch, len(train)), ("probe", config.probe, len(test))):
        if asked > there:
            raise ConfigError(f"{name}: got {asked}, but {config.data} has {there} examples for it. Take at most that.")
    return Parts(Finite(train.images, train.labels), test.images, len(train.classes))


def stream(name: str, seed: int) -> int:
    """Return the seed of a stream of examples. The seed of the probe differs from those of all training streams.

    >>> stream("train", 0) == stream("probe", 0)
    False
    """
    return derive(seed, "glorot2010.saturation", name) % 2**31


def new_net(config: Config, case: Case, parts: Parts) -> MLP:
    """Build a network. All networks of one seed start from the same random numbers, scaled by their scheme."""
    net = mlp(
        "plain",
        case.net.depth,
        config.width,
        parts.inputs,
        parts.classes,
        activation=case.net.activation,
        generator=generator(case.seed, "weights"),
    )
    initialize(net, case.net.scheme, generator=generator(case.seed, "weights"))
    return net.to(config.device)
