"""Base configs of studies that train networks on images: the data and the training recipe."""

import abc
import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["ImageConfig", "ResNetConfig"]


class ImageConfig(BaseModel, abc.ABC):
    """Data and training recipe of a study on images. Subclasses add the settings of networks and measurements."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: str = "demo"
    """demo: about a minute; laptop: up to an hour on one core; paper: size, data and rates as published, as far as they
    are known, needs a GPU. Sets the defaults of the other options."""
    data: str = "digits"
    """Name of an image data set, as in tw.data.load; "folder" is your own image folder at data_root."""
    data_root: Path | None = None
    """Folder of the data. If unset, the default folders are searched."""
    download: bool = False
    """Download the data set if it is missing."""
    pool: int = Field(default=1, ge=1)
    """Average the pixels of images over squares of this side length. With 1, images are not changed."""
    examples: int | None = Field(default=None, ge=20)
    """Number of training examples, taken at even intervals. If unset, all are used."""
    test_examples: int | None = Field(default=None, ge=20)
    """Number of test examples, taken at even intervals. If unset, all are used."""
    contrast: bool = False
    """Normalise the brightness and the contrast of every image."""
    augment: bool = False
    """Shift and mirror training images at random."""
    reach: int | None = Field(default=None, ge=0)
    """Maximum shift of an augmented image in each direction, in pixels. If unset, an eighth of its height."""
    fill: Literal["edge", "zeros"] = "edge"
    """Padding of augmented images: repeated edges, or zeros, which are the mean of all pixels."""
    epochs: int = Field(default=20, ge=1)
    """Number of passes over the training examples."""
    batch: int = Field(default=50, ge=2)
    """Number of examples in one update."""
    learning_rate: float = Field(default=0.1, gt=0, lt=math.inf)
    """Learning rate of SGD, before the schedule."""
    warmup: int = Field(default=1, ge=0)
    """Number of epochs, from the first one on, with a tenth of the learning rate."""
    drops: tuple[float, ...] = (0.5, 0.75)
    """The learning rate is divided by ten after each of these shares of the epochs."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    """Use Nesterov momentum."""
    weight_decay: float = Field(default=1e-4, ge=0, lt=math.inf)
    clip: float | None = Field(default=None, gt=0)
    """Maximum norm of the gradient of all parameters; larger gradients are clipped. If unset, gradients are not
    clipped."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, ge=1)
    """Number of independent networks, with seeds seed, seed + 1, ...; a definite verdict requires three."""
    nets_of: Path | None = None
    """Run folder of another study. Its trained networks are reused if they are exactly those needed here."""
    device: str = "cpu"

    @model_validator(mode="after")
    def _is_trainable(self) -> "ImageConfig":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, got momentum=0")
        if list(self.drops) != sorted(self.drops) or not all(0 < at < 1 for at in self.drops):
            raise ValueError(f"drops must be increasing shares of the epochs, between 0 and 1, got {self.drops}")
        return self

    @property
    def all_seeds(self) -> range:
        """The seeds of the networks: seed, seed + 1, ..."""
        return range(self.seed, self.seed + self.seeds)

    def learning_rate_factor(self, epoch: float, warmup: int | None = None) -> float:
        """Return the factor by which the learning rate is multiplied in an epoch, counted from 0.

        Args:
            epoch: number of the epoch.
            warmup: number of warm-up epochs, if it differs from that of the config.
        """
        if epoch < (self.warmup if warmup is None else warmup):
            return 0.1
        return float(0.1 ** sum(epoch >= at * self.epochs for at in self.drops))


class ResNetConfig(ImageConfig, abc.ABC):
    """Data and training recipe of a study of a pre-activation residual network with 6·modules + 2 layers."""

    modules: int = Field(default=5, ge=1)
    """Number of residual modules in each of the three stages: 18 for the 54 modules of ResNet-110."""
    widths: tuple[int, int, int] = (8, 16, 32)
    """Number of channels in each stage."""

    @property
    def depth(self) -> int:
        """Number of residual modules."""
        return 3 * self.modules
