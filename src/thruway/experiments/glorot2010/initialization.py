"""The usual start lets activations shrink upwards and gradients shrink downwards; the normalized one keeps them level.

Paper     Glorot & Bengio 2010, sec. 4.2: figs. 6 to 9, eqs. 4 to 7 and 13 to 17
Protocol  tanh nets of five hidden layers, biases 0, weights by eq. 1 ("standard") or eq. 16 ("normalized"); spread of
          activations, back-propagated gradients and weight gradients at the start, on 300 held-out examples, beside
          what the equations predict; mean singular value of each layer's Jacobian; the spread of weight gradients
          while plain SGD trains on batches of ten
Claims    who shrinks, who stays level, and that the equations are exact where the activation is linear
          (initialization_claims.py)
Measured  results/glorot2010.initialization-laptop: all 13 claims hold
Cost      demo half a minute on one core; laptop three minutes; paper a GPU
Differs   learning rate, number of seeds and number of updates (the paper prints none of them), and what the report
          lists
"""

import math
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["SCALES", "SCHEMES", "Config", "Net", "Scheme", "Shape", "start_nets"]

Scheme = Literal["standard", "normalized"]
Shape = Literal["equal", "growing", "shrinking"]

SCHEMES: dict[Scheme, str] = {"standard": "standard", "normalized": "glorot_uniform"}
"""The paper's name of a start -> the key of thruway.init.SCHEMES."""


class Config(BaseModel):
    """Everything that decides the numbers of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: half a minute; laptop: five minutes; paper: as published, needs a GPU. Sets the other defaults."""
    data: str = "shapeset"
    """shapeset, drawn as it is needed, or a data set that `thruway list` names."""
    data_root: Path | None = None
    """Where the data lies; unset: the usual places."""
    download: bool = False
    """Get the data set if it is not there."""
    size: int = Field(default=16, ge=10)
    """Side of a Shapeset image, in pixels."""
    examples: int | None = Field(default=None, ge=100)
    """Images of a named data set's training part that are used, taken evenly over it; unset: all."""
    probe: int = Field(default=300, ge=10)
    """Held-out images on which the start is measured."""
    depth: int = Field(default=5, ge=3)
    """Hidden layers."""
    width: int = Field(default=250, ge=4)
    """Units of each hidden layer at the start; in nets that grow or shrink, of the middle one."""
    shapes: tuple[Shape, ...] = Field(default=("equal", "growing", "shrinking"), min_length=1)
    """Nets whose layers are equally wide, or get wider or narrower from the input upwards."""
    taper: float = Field(default=4.0, gt=1, lt=1000)
    """Widest over narrowest hidden layer of a net that grows or shrinks; widths form a geometric series."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=3, ge=1)
    """Starts measured, with seeds seed, seed + 1, ...; a verdict needs three."""
    singles: int = Field(default=5, ge=1)
    """Held-out images that are looked at one by one: for layers' Jacobians, and for eq. 7."""
    trained_width: int = Field(default=100, ge=4)
    """Units of each hidden layer of the nets that are trained."""
    trained_seeds: int = Field(default=1, ge=0)
    """Nets trained per start, with seeds seed, seed + 1, ...; 0 leaves training out."""
    batch: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=0.1, gt=0, lt=math.inf)
    """The gradient is that of the mean loss of a batch."""
    updates: int = Field(default=10_000, ge=10)
    samples: int = Field(default=250, ge=10)
    """Moments of training at which weight gradients are watched, evenly spaced."""
    device: str = "cpu"

    @model_validator(mode="after")
    def _can_be_run(self) -> "Config":
        if "equal" not in self.shapes or len(set(self.shapes)) < len(self.shapes):
            raise ValueError(f"shapes names each kind once and has 'equal', got {', '.join(self.shapes)}")
        if self.trained_seeds > self.seeds:
            raise ValueError(f"trained_seeds counts some of the {self.seeds} seeds, got {self.trained_seeds}")
        if self.samples > self.updates:
            raise ValueError(f"samples are taken at {self.updates} updates at most, got {self.samples}")
        return self

    @property
    def stride(self) -> int:
        """Updates from one sample to the next."""
        return self.updates // self.samples

    def widths(self, shape: Shape) -> tuple[int, ...]:
        """Units of each hidden layer at the start, the first layer first.

        >>> Config(width=100).widths("growing")
        (50, 71, 100, 141, 200)
        """
        lean = {"equal": 0.0, "growing": 1.0, "shrinking": -1.0}[shape]
        middle = (self.depth - 1) / 2
        step = self.taper ** (lean / (self.depth - 1))
        return tuple(max(2, round(self.width * step ** (layer - middle))) for layer in range(self.depth))


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(
        scale="laptop", width=500, seeds=10, trained_width=200, trained_seeds=3, updates=24_000, samples=500
    ),
    "paper": Config(
        scale="paper",
        size=32,
        width=1000,
        seeds=10,
        singles=20,
        trained_width=1000,
        trained_seeds=3,
        updates=100_000,
        samples=1000,
        device="cuda",
    ),
}


_Activation = Literal["tanh", "linear"]
_ACTIVATIONS: tuple[_Activation, ...] = ("tanh", "linear")


class Net(NamedTuple):
    """One net whose start is measured."""

    shape: Shape
    scheme: Scheme
    activation: _Activation

    @property
    def site(self) -> str:
        """Where its numbers stand in the series; the sites of its layers are below."""
        return f"start/{self.shape}/{self.scheme}/{self.activation}"


def start_nets(config: Config) -> list[Net]:
    """What is measured for every seed: each net also with its activation left out, where the equations are exact."""
    return [
        Net(shape, scheme, activation) for shape, scheme, activation in product(config.shapes, SCHEMES, _ACTIVATIONS)
    ]
