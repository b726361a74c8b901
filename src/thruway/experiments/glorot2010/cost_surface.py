"""The quadratic cost of a classifier has more plateaus than its cross-entropy.

Paper     Glorot & Bengio 2010, sec. 4.1 and fig. 5
Protocol  a net with one hidden layer of tanh units and softmax outputs, with random weights, inputs and labels; two of
          its weights, one of each layer, move over a square; both costs there, and the gradient with respect to the two
Claims    the quadratic cost is flat over more of the square, in nearly every draw, and also where the net is no better
          than a guess (cost_surface_claims.py)
Measured  results/glorot2010.cost_surface-laptop: all 3 claims hold, for weights up to 8
Cost      demo ten seconds on one core; laptop half a minute; paper the same with more draws
Differs   sizes of net, data and square, and what counts as a plateau, are ours: the paper shows one surface and prints
          none of them
"""

import math
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["SCALES", "Config", "Cost", "Draw", "draws_of"]

Cost = Literal["cross-entropy", "quadratic"]


class Config(BaseModel):
    """Everything that decides the numbers of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: seconds; laptop: a minute; paper: more draws on a finer grid. Sets the other defaults."""
    inputs: int = Field(default=4, ge=1)
    hidden: int = Field(default=4, ge=1)
    """Tanh units in the hidden layer."""
    classes: int = Field(default=4, ge=2)
    examples: int = Field(default=20, ge=1)
    """Random inputs with random labels."""
    reaches: tuple[float, ...] = Field(default=(2.0, 4.0, 8.0, 16.0), min_length=1)
    """The two weights move from -reach to reach; one square for each."""
    reach: float = Field(default=8.0, gt=0)
    """The square that is drawn and that the claims are about; one of `reaches`."""
    fractions: tuple[float, ...] = Field(default=(0.03, 0.1, 0.2), min_length=1)
    """A point is flat if its gradient's norm is below this share of the largest on the surface."""
    fraction: float = Field(default=0.1, gt=0, lt=1)
    """The share that the claims are about; one of `fractions`."""
    points: int = Field(default=61, ge=5, le=2001)
    """Grid points along each side of the square."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=3, ge=1)
    """Independent sets of draws, with seeds seed, seed + 1, ...; a verdict needs three."""
    draws: int = Field(default=20, ge=1)
    """Random nets and data of each set."""
    device: str = "cpu"

    @model_validator(mode="after")
    def _can_be_run(self) -> "Config":
        for one, several in (("reach", "reaches"), ("fraction", "fractions")):
            known = getattr(self, several)
            if getattr(self, one) not in known:
                raise ValueError(f"{one} is one of {several}, {known}, got {getattr(self, one)}")
            if len(set(known)) < len(known) or not all(0 < each < math.inf for each in known):
                raise ValueError(f"{several} are different numbers above 0, got {known}")
        if max(self.fractions) >= 1:
            raise ValueError(f"fractions are shares below 1, got {self.fractions}")
        return self


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(scale="laptop", draws=100),
    "paper": Config(scale="paper", draws=300, points=101),
}


class Draw(NamedTuple):
    """One random net with its data."""

    seed: int
    number: int  # within its set, from 0
    member: int  # under which its numbers are logged


def draws_of(config: Config) -> list[Draw]:
    """All draws of a run, set by set.

    >>> draws_of(Config(seed=7, seeds=2, draws=2))[-1]
    Draw(seed=8, number=1, member=3)
    """
    members = range(config.seeds * config.draws)
    return [Draw(config.seed + member // config.draws, member % config.draws, member) for member in members]
