"""Which layers of a deep net saturate, and when, depends on its activation and on how its weights start.

Paper     Glorot & Bengio 2010, figs. 2, 3, 4 and 10
Protocol  sigmoid nets of 4 and 5 hidden layers; tanh, softsign and, with the normalized start, tanh nets of 5; plain
          SGD on batches of ten, biases from 0; what every layer makes of 300 fixed test examples is watched all along
Claims    the top sigmoid layer falls to 0 and takes long to leave it, at depth 5 never does; tanh saturates layer by
          layer from the input on, softsign less and all layers together, and so does tanh from the normalized start
          (saturation_claims.py)
Measured  results/glorot2010.saturation-laptop: 9 of 12 claims hold, 3 unclear (seeds 10 to 12)
Cost      demo a minute on one core; laptop half an hour; paper a GPU
Differs   learning rates, number of seeds and of updates (the paper prints none of them for these figures)
"""

import math
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["NETS", "SCALES", "Case", "Config", "Net", "cases"]

NetName = Literal["sigmoid-4", "sigmoid-5", "tanh", "softsign", "tanh-n"]


class Net(NamedTuple):
    """One kind of net of the study."""

    activation: str
    scheme: str  # what its weights start from, a key of thruway.init.SCHEMES
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
"""In the order of the paper's figures."""


class Config(BaseModel):
    """Everything that decides the numbers of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: a minute; laptop: half an hour on one core; paper: as published, needs a GPU. Sets the other defaults."""
    data: str = "shapeset"
    """shapeset, drawn as it is needed, or a data set that `thruway list` names."""
    data_root: Path | None = None
    """Where the data lies; unset: the usual places."""
    download: bool = False
    """Get the data set if it is not there."""
    size: int = Field(default=32, ge=10)
    """Side of a Shapeset image, in pixels."""
    examples: int | None = Field(default=None, ge=100)
    """Images of a named data set's training part that are used, taken evenly over it; unset: all."""
    probe: int = Field(default=300, ge=10)
    """Test examples on which the layers are watched."""
    nets: tuple[NetName, ...] = Field(default=("sigmoid-4", "sigmoid-5", "tanh", "softsign", "tanh-n"), min_length=1)
    width: int = Field(default=30, ge=1)
    """Units of each hidden layer."""
    batch: int = Field(default=10, ge=1)
    sigmoid_rate: float = Field(default=2.0, gt=0, lt=math.inf)
    """Learning rate of the sigmoid nets; the gradient is that of the mean loss of a batch."""
    rate: float = Field(default=0.1, gt=0, lt=math.inf)
    """Learning rate of the other nets."""
    sigmoid_updates: int = Field(default=20_000, ge=1)
    """Updates of the sigmoid nets, which need long to show what they do."""
    updates: int = Field(default=6000, ge=1)
    """Updates of the other nets."""
    looks: int = Field(default=80, ge=10)
    """How often the layers of a net are watched, evenly over its training."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, ge=1)
    """Nets of each kind, with seeds seed, seed + 1, ...; a verdict needs three."""
    device: str = "cpu"

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
    """One net to train and watch."""

    name: str  # a key of NETS
    member: int  # tells it from the same net of another seed
    seed: int
    rate: float
    updates: int
    looks: int

    @property
    def net(self) -> Net:
        """Its row in the table."""
        return NETS[self.name]

    @property
    def checkpoint(self) -> str:
        """The name of its checkpoint."""
        return f"{self.name}-{self.member}"

    @property
    def stops(self) -> tuple[int, ...]:
        """The updates before which its layers are watched, from 0; the last one is past the end of training.

        >>> Case("tanh", 0, 0, 0.1, 25, 10).stops
        (0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25)
        """
        return tuple(self.updates * look // self.looks for look in range(self.looks + 1))

    def site(self, layer: int) -> str:
        """Where the numbers of a hidden layer stand in the series; layers count from 1."""
        return f"{self.name}/{layer}"


def cases(config: Config) -> list[Case]:
    """The nets to train: all kinds of one seed, then those of the next."""
    found = []
    for member in range(config.seeds):
        for name in config.nets:
            is_sigmoid = NETS[name].activation == "sigmoid"
            rate = config.sigmoid_rate if is_sigmoid else config.rate
            updates = config.sigmoid_updates if is_sigmoid else config.updates
            found.append(Case(name, member, config.seed + member, rate, updates, config.looks))
    return found
