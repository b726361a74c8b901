"""What the configs of studies that train nets on images have in common: the data, and how a net learns it."""

import abc
import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["NOT_PROTOCOL", "ImageStudy"]

NOT_PROTOCOL = frozenset(("scale", "data_root", "download", "device", "seed", "seeds", "nets_of"))
"""Fields that say where and how often, and nothing of what is done."""


class ImageStudy(BaseModel, abc.ABC):
    """Data and training; a study adds its nets and what it measures on them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: a minute; laptop: half an hour to an hour on one core; paper: size, data and rates as published, where they
    are, needs a GPU; the report lists what differs. Sets the other defaults."""
    data: str = "digits"
    """A data set of images by name, as in tw.data.load."""
    data_root: Path | None = None
    """Where the data lies; unset: the usual places."""
    download: bool = False
    """Get the data set if it is not there."""
    pool: int = Field(default=1, ge=1)
    """Images are averaged over squares of so many pixels a side; 1 leaves them as they are."""
    examples: int | None = Field(default=None, ge=20)
    """Training examples used, taken evenly over the set; unset: all."""
    test_examples: int | None = Field(default=None, ge=20)
    """Test examples used, taken evenly over the set; unset: all."""
    contrast: bool = False
    """Whether every image is brought to the same brightness and contrast."""
    augment: bool = False
    """Whether training images are shifted and mirrored at random."""
    reach: int | None = Field(default=None, ge=0)
    """Pixels that an augmented image moves at most, up, down, left and right; unset: an eighth of its height."""
    fill: Literal["edge", "zeros"] = "edge"
    """What lies beyond the edge of an augmented image: the edge repeated, or zeros, the mean of all pixels."""
    epochs: int = Field(default=20, ge=1)
    """Passes over the training examples."""
    batch: int = Field(default=50, ge=2)
    """Examples of one update."""
    learning_rate: float = Field(default=0.1, gt=0, lt=math.inf)
    """Of SGD, before any schedule."""
    warmup: int = Field(default=1, ge=0)
    """First epochs, at a tenth of the learning rate."""
    drops: tuple[float, ...] = (0.5, 0.75)
    """Shares of the epochs after which the learning rate falls to a tenth of what it was."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    """Whether the momentum is Nesterov's."""
    weight_decay: float = Field(default=1e-4, ge=0, lt=math.inf)
    clip: float | None = Field(default=None, gt=0)
    """The largest norm that the gradient of all parameters together may have; unset: any."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, ge=1)
    """Independent nets, with seeds seed, seed + 1, ...; a verdict needs three."""
    nets_of: Path | None = None
    """The run folder of another study on the same kind of nets: those of its trained nets that are the very ones
    wanted here are taken over."""
    device: str = "cpu"

    @model_validator(mode="after")
    def _can_be_learnt(self) -> "ImageStudy":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, got momentum=0")
        if list(self.drops) != sorted(self.drops) or not all(0 < at < 1 for at in self.drops):
            raise ValueError(f"drops are rising shares of the epochs between 0 and 1, got {self.drops}")
        return self

    @property
    def all_seeds(self) -> range:
        """seed, seed + 1, ..."""
        return range(self.seed, self.seed + self.seeds)

    def learning_rate_factor(self, epoch: float, warmup: int | None = None) -> float:
        """What the learning rate is multiplied by in an epoch, counted from 0; a net may have a `warmup` of its own."""
        if epoch < (self.warmup if warmup is None else warmup):
            return 0.1
        return float(0.1 ** sum(epoch >= at * self.epochs for at in self.drops))
