"""Search spaces: what a random search draws from.

Trial i of a search is a function of (seed, i) and the space alone. So the trials are the same in any
order, on any number of workers, after a restart, and when more of them are asked for; and a
parameter that joins the space leaves the draws of the others as they were.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from thruway.seeding import generator

__all__ = ["Choice", "Distribution", "LogUniform", "Uniform", "draw_trial"]


class _Range(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float

    @model_validator(mode="after")
    def _is_ordered(self) -> "_Range":
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"needs finite low <= high, got low={self.low}, high={self.high}")
        return self


class Uniform(_Range):
    """Evenly between `low` and `high`."""

    def draw(self, rng: torch.Generator) -> float:
        """One value."""
        return self.low + (self.high - self.low) * _unit(rng)


class LogUniform(_Range):
    """Evenly in the logarithm between `low` and `high`, both above 0."""

    @model_validator(mode="after")
    def _is_positive(self) -> "LogUniform":
        if self.low <= 0:
            raise ValueError(f"a logarithmic range starts above 0, got low={self.low}")
        return self

    def draw(self, rng: torch.Generator) -> float:
        """One value."""
        return float(self.low * (self.high / self.low) ** _unit(rng))


class Choice(BaseModel):
    """One of `values`, each as likely."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: tuple[str, ...] = Field(min_length=1)

    def draw(self, rng: torch.Generator) -> str:
        """One of the values."""
        return self.values[int(torch.randint(len(self.values), (), generator=rng))]


Distribution = Uniform | LogUniform | Choice


def draw_trial(space: Mapping[str, Distribution], seed: int, trial: int) -> dict[str, Any]:
    """Trial number `trial` of the search `seed`: one value per parameter of the space.

    Args:
        space: parameter name -> Uniform, LogUniform or Choice.
        seed: names the search.
        trial: its number within the search, from 0.
    Source:
        Random search as in Bergstra & Bengio 2012, the protocol of the highway papers; drawing by counter is ours.

    >>> space = {"lr": LogUniform(low=0.01, high=1.0), "momentum": Uniform(low=0.0, high=0.9)}
    >>> draw_trial(space, seed=0, trial=7) == draw_trial(dict(reversed(space.items())), seed=0, trial=7)
    True
    """
    return {name: part.draw(generator(seed, "trial", trial, name)) for name, part in space.items()}


def _unit(rng: torch.Generator) -> float:
    return float(torch.rand((), generator=rng, dtype=torch.float64))
