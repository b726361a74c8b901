"""Search spaces of random searches, and reproducible trials drawn from them.

Trial i of a search depends only on (seed, i) and the space. The trials are therefore the same in any order, on any
number of workers, after a restart, and if more trials are added. Adding a parameter to the space does not change the
values of the others.
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
    """Uniform distribution between `low` and `high`."""

    def draw(self, rng: torch.Generator) -> float:
        """Draw one value."""
        return self.low + (self.high - self.low) * _unit(rng)


class LogUniform(_Range):
    """Log-uniform distribution between `low` and `high`, both above 0."""

    @model_validator(mode="after")
    def _is_positive(self) -> "LogUniform":
        if self.low <= 0:
            raise ValueError(f"a log-uniform range must start above 0, got low={self.low}")
        return self

    def draw(self, rng: torch.Generator) -> float:
        """Draw one value."""
        return float(self.low * (self.high / self.low) ** _unit(rng))


class Choice(BaseModel):
    """Uniform choice among `values`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: tuple[str, ...] = Field(min_length=1)

    def draw(self, rng: torch.Generator) -> str:
        """Draw one value."""
        return self.values[int(torch.randint(len(self.values), (), generator=rng))]


Distribution = Uniform | LogUniform | Choice


def draw_trial(space: Mapping[str, Distribution], seed: int, trial: int) -> dict[str, Any]:
    """Draw one trial of a search: one value per parameter of the space.

    Args:
        space: Uniform, LogUniform or Choice for each name of a parameter.
        seed: seed of the search.
        trial: number of the trial, from 0.
    Source:
        Random search as in Bergstra & Bengio 2012, the protocol of the highway papers. The counter-based draws are
        ours.

    >>> space = {"lr": LogUniform(low=0.01, high=1.0), "momentum": Uniform(low=0.0, high=0.9)}
    >>> draw_trial(space, seed=0, trial=7) == draw_trial(dict(reversed(space.items())), seed=0, trial=7)
    True
    """
    return {name: part.draw(generator(seed, "trial", trial, name)) for name, part in space.items()}


def _unit(rng: torch.Generator) -> float:
    return float(torch.rand((), generator=rng, dtype=torch.float64))
