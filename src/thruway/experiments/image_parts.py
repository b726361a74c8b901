"""The images a study learns from and is tested on."""

import dataclasses
from functools import partial
from typing import NamedTuple

from torch.nn import functional as F

from thruway.data import TensorSet, contrast_normalised, load
from thruway.errors import ConfigError
from thruway.experiments.image_study import ImageStudy
from thruway.runs import open_run

__all__ = ["Parts", "load_parts", "pooled"]


class Parts(NamedTuple):
    """The data, standardised by the training part's mean and deviation."""

    train: TensorSet
    test: TensorSet

    @property
    def channels(self) -> int:
        """Of an image."""
        return self.train.images.shape[1]

    @property
    def inputs(self) -> int:
        """Numbers in an image."""
        return self.train.images[0].numel()

    @property
    def classes(self) -> int:
        return len(self.train.classes)


def load_parts(config: ImageStudy) -> Parts:
    """Both parts of the data set on the device that trains.

    Raises:
        ConfigError: for an unknown data set, a batch larger than the training part, or images that cannot be pooled.
        DatasetError: if the data is not there, or damaged.
        RunError: if `nets_of` is no run folder.
    """
    if config.nets_of is not None:
        open_run(config.nets_of)
    get = partial(load, config.data, config.data_root, download=config.download)
    train, test = get(train=True, limit=config.examples), get(train=False, limit=config.test_examples)
    if config.batch > len(train):
        raise ConfigError(
            f"batch: got {config.batch}, but {config.data} has {len(train)} training examples. Take at most as many."
        )
    train, test = pooled(train, config.pool), pooled(test, config.pool)
    if config.contrast:
        train, test = (dataclasses.replace(part, images=contrast_normalised(part.images)) for part in (train, test))
    test, train = test.standardised(*train.moments()), train.standardised()
    return Parts(train.to(config.device), test.to(config.device))


def pooled(images: TensorSet, side: int) -> TensorSet:
    """The set with every `side` x `side` pixels averaged into one.

    Raises:
        ConfigError: if the images are no multiple of that size.

    >>> pooled(load("digits", limit=100), 2).images.shape
    torch.Size([100, 1, 4, 4])
    """
    height, width = images.images.shape[-2:]
    if height % side or width % side:
        raise ConfigError(
            f"pool: got {side}, but {images.name} has images of {height} x {width} pixels. Take a number that divides "
            "both."
        )
    return images if side == 1 else dataclasses.replace(images, images=F.avg_pool2d(images.images, side))
