"""Training and test images of a study."""

import dataclasses
from functools import partial
from typing import NamedTuple

from torch.nn import functional as F

from thruway.data import TensorSet, contrast_normalised, load
from thruway.errors import ConfigError
from thruway.experiments.machinery.image_config import ImageConfig
from thruway.runs import open_run

__all__ = ["ImageParts", "load_images", "pooled"]


class ImageParts(NamedTuple):
    """Training and test images, standardised by the mean and deviation of the training part."""

    train: TensorSet
    test: TensorSet

    @property
    def channels(self) -> int:
        """Number of channels of an image."""
        return self.train.images.shape[1]

    @property
    def inputs(self) -> int:
        """Number of values in an image."""
        return self.train.images[0].numel()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.train.classes)


def load_images(config: ImageConfig) -> ImageParts:
    """Load both parts of the data set onto the training device.

    Raises:
        ConfigError: if the data set is unknown, a batch is larger than the training part, or the images cannot be
            pooled.
        DatasetError: if the data is missing or damaged.
        RunError: if `nets_of` is not a run folder.
    """
    if config.nets_of is not None:
        open_run(config.nets_of)
    get = partial(load, config.data, config.data_root, download=config.download)
    train, test = get(train=True, limit=config.examples), get(train=False, limit=config.test_examples)
    if config.batch > len(train):
        raise ConfigError(
            f"batch: got {config.batch}, but {config.data} has {len(train)} training examples. Use a smaller batch."
        )
    train, test = pooled(train, config.pool), pooled(test, config.pool)
    if config.contrast:
        train, test = (dataclasses.replace(part, images=contrast_normalised(part.images)) for part in (train, test))
    test, train = test.standardised(*train.moments()), train.standardised()
    return ImageParts(train.to(config.device), test.to(config.device))


def pooled(images: TensorSet, side: int) -> TensorSet:
    """Return the data set with every square of `side` x `side` pixels averaged into one pixel.

    Raises:
        ConfigError: if the height or width of the images is not a multiple of `side`.

    >>> pooled(load("digits", limit=100), 2).images.shape
    torch.Size([100, 1, 4, 4])
    """
    height, width = images.images.shape[-2:]
    if height % side or width % side:
        raise ConfigError(
            f"pool: got {side}, but {images.name} has images of {height} x {width} pixels. Use a number that divides "
            "both."
        )
    return images if side == 1 else dataclasses.replace(images, images=F.avg_pool2d(images.images, side))
