"""Plain nets stop training as they get deeper; highway and residual nets do not.

Paper     Srivastava, Greff & Schmidhuber 2015: Highway Networks, fig. 1; Training Very Deep Networks, fig. 1
Protocol  for each kind of block and each depth a random search over learning rate, momentum, decay, activation
          and (highway) gate bias; training cross-entropy against epoch, of the best trial and of the top few
Claims    plain nets get much worse with depth, highway nets do not; ten times better at the deepest; faster
          (depth_claims.py)
Measured  results/highway2015.depth-laptop: five claims with their verdicts, from three searches on Fashion-MNIST
Cost      demo 1.5 minutes on two cores; laptop 70 minutes on two busy ones, not yet timed on idle ones; paper a GPU
Differs   the ranges of the search (the papers print only that of the gate bias), the data at demo and
          laptop scale, residual blocks beside the papers' two, and the order of the training examples, which
          all searches of a run share (it depends on `seed` alone)
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thruway.sweep import Choice, LogUniform, Uniform, draw_trial

__all__ = ["SCALES", "Case", "Config", "cases", "member_of", "trial_of"]

Block = Literal["plain", "highway", "residual"]


class Config(BaseModel):
    """Everything that decides the numbers of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: minutes; laptop: about an hour on two cores; paper: as published, needs a GPU. Sets the other defaults."""
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
