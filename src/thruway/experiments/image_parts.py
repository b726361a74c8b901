"""The images a study learns from and is tested on."""

import dataclasses
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from thruway.data import TensorSet, load
from thruway.errors import ConfigError
from thruway.experiments.image_study import ImageStudy
from thruway.runs import open_run

__all__ = ["Parts", "load_parts", "pooled", "shifted_and_mirrored"]


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


def shifted_and_mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to an eighth of its height either way, its edge repeated, and mirrored half the time.

    Args:
        images: (batch, channels, height, width)
        generator: on the CPU.
    Source:
        He, Zhang, Ren & Sun 2015 (Deep Residual Learning), sec. 4.2: 4 of 32 pixels. They put zeros where nothing is
        known, before the mean is taken off.

    >>> shifted_and_mirrored(torch.ones(2, 1, 8, 8), torch.Generator().manual_seed(0)).unique()
    tensor([1.])
    """
    count, _, height, width = images.shape
    reach = height // 8
    padded = F.pad(images, (reach,) * 4, mode="replicate") if reach else images
    down, right = torch.randint(2 * reach + 1, (2, count), generator=generator).to(images.device)
    is_mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(count, width)
    columns = torch.where(is_mirrored[:, None], columns.flip(1), columns) + right[:, None]
    which = torch.arange(count, device=images.device)[:, None, None]
    # Indices around a slice put the slice last.
    return padded[which, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
