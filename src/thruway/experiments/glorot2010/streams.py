"""Endless streams of training examples: newly drawn Shapeset images, or a data set shuffled anew in each pass."""

import abc
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from thruway import data
from thruway.errors import ConfigError, unknown_name
from thruway.seeding import derive

__all__ = [
    "Examples",
    "Finite",
    "Online",
    "Parts",
    "Source",
    "StreamConfig",
    "data_in_words",
    "load_parts",
    "shapeset",
    "standardised_parts",
]

Examples = tuple[Tensor, Tensor]
"""Inputs (examples, inputs) float32, and labels (examples,) int64."""

# The paper's split of MNIST; of CIFAR-10's 50,000 images it takes as many.
_VALIDATION_SHARE, _VALIDATION_MOST = 0.2, 10_000


class StreamConfig(BaseModel, abc.ABC):
    """Data of a study that trains for a number of updates, on a stream of examples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: about a minute; laptop: minutes to an hour on one core; paper: as published, needs a GPU. Sets the
    defaults of the other options."""
    data: str = "shapeset"
    """"shapeset", whose images are drawn on demand, or the name of an image data set, as in tw.data.load."""
    data_root: Path | None = None
    """Folder of the data. If unset, the default folders are searched."""
    download: bool = False
    """Download the data set if it is missing."""
    size: int = Field(default=16, ge=10)
    """Height and width of a Shapeset image, in pixels."""
    examples: int | None = Field(default=None, ge=100)
    """Number of training examples of a named data set, taken at even intervals. If unset, all are used."""
    batch: int = Field(default=10, ge=1)
    """Number of examples in one update."""
    device: str = "cpu"


class Source(Protocol):
    """An endless stream of training examples for every seed."""

    @property
    def work(self) -> float:
        """Cost of drawing one example, in updates of one weight."""
        ...

    def draw(self, seed: int, start: int, count: int) -> Examples:
        """Return examples `start` to `start + count - 1` of the stream `seed`, the same ones in every call."""
        ...


@dataclass(frozen=True)
class Online:
    """Stream of Shapeset images, in which each image occurs once."""

    size: int
    device: str
    work: float = 1.6e4

    def draw(self, seed: int, start: int, count: int) -> Examples:
        images, labels = data.Shapeset(self.size, seed).images(start, count, self.device)
        return images.flatten(1), labels


@dataclass(frozen=True, eq=False)
class Finite:
    """Stream of the examples of a training set, shuffled anew in each pass.

    >>> source = Finite(torch.arange(3.0).view(3, 1), torch.arange(3))
    >>> labels = source.draw(0, 0, 6)[1].tolist()
    >>> sorted(labels[:3]), source.draw(0, 4, 2)[1].tolist() == labels[4:]
    ([0, 1, 2], True)
    """

    inputs: Tensor
    labels: Tensor
    work: float = 1e3

    def draw(self, seed: int, start: int, count: int) -> Examples:
        n = len(self.labels)
        rounds = range(start // n, (start + count - 1) // n + 1)
        order = torch.cat([data.permutation(seed, number, n) for number in rounds])
        chosen = order[start - rounds[0] * n :][:count].to(self.labels.device)
        return self.inputs[chosen], self.labels[chosen]


class Parts(NamedTuple):
    """Training stream and held-out examples of a run."""

    source: Source
    valid: Examples
    test: Examples
    fixed: Examples | None  # a training set of a fixed size
    classes: int

    @property
    def inputs(self) -> int:
        """Number of values in an example."""
        return self.test[0].shape[1]

    @property
    def majority_error(self) -> float:
        """Error of always predicting the most frequent class of the test examples."""
        labels = self.test[1]
        return 1.0 - float(labels.bincount().max()) / len(labels)


def load_parts(config: StreamConfig, held_out: int, fixed_examples: int = 0) -> Parts:
    """Load the data of a run onto the training device.

    Args:
        config: config with the name and the size of the data.
        held_out: number of Shapeset images for validation, and for testing. A named data set has a test part, and up to
            a fifth of its training part, at most 10,000 images, is used for validation.
        fixed_examples: size of the fixed training set. If 0, there is none.
    Raises:
        ConfigError: if the data set is unknown or was never published, or if a batch or the fixed training set is
            larger than the training part.
        DatasetError: if the data is missing or damaged.
    """
    if config.data == "shapeset":
        source = shapeset(config)
        # Held-out and fixed images are the same in every run, so that runs can be compared.
        valid, test = (source.draw(_stream(name), 0, held_out) for name in ("valid", "test"))
        fixed = source.draw(_stream("fixed"), 0, fixed_examples) if fixed_examples else None
        return Parts(source, valid, test, fixed, len(data.Shapeset(config.size).classes))
    whole, test_part = standardised_parts(config)
    count = min(int(_VALIDATION_SHARE * len(whole)), _VALIDATION_MOST)
    order = data.permutation(_stream("valid"), 0, len(whole))
    valid, train = whole.batch(order[:count]), whole.batch(order[count:])
    for name, asked in (("fixed_examples", fixed_examples), ("batch", config.batch)):
        if asked > len(train[1]):
            raise ConfigError(
                f"{name}: got {asked}, but {config.data} has {len(train[1])} training examples besides its validation "
                "examples. Use at most that many."
            )
    fixed = (train[0][:fixed_examples], train[1][:fixed_examples]) if fixed_examples else None
    return Parts(Finite(*train), valid, (test_part.images, test_part.labels), fixed, len(whole.classes))


def shapeset(config: StreamConfig) -> Online:
    """Return the stream of Shapeset images.

    Raises:
        ConfigError: if the config limits the number of examples.
    """
    if config.examples is not None:
        raise ConfigError(
            f"examples: got {config.examples}, but the number of Shapeset images is unlimited. "
            "Omit the option, or choose another data set."
        )
    return Online(config.size, config.device)


def standardised_parts(config: StreamConfig, test_examples: int | None = None) -> tuple[data.TensorSet, data.TensorSet]:
    """Load the training and test part of a named data set, flattened, and standardised by the moments of the training
    part.

    Raises:
        ConfigError: if the data set is unknown or was never published.
        DatasetError: if the data is missing or damaged.
    """
    if config.data.lower().replace("_", "-") in ("small-imagenet", "smallimagenet"):
        raise ConfigError(
            f"data: got {config.data!r}, which the authors never published, so that column cannot "
            "be reproduced. Allowed: shapeset, or one of " + ", ".join(data.DATASETS) + "."
        )
    if config.data not in data.DATASETS:
        raise ConfigError(unknown_name("data set", config.data, {*data.DATASETS, "shapeset"}))
    get = partial(data.load, config.data, config.data_root, download=config.download)
    train, test = get(train=True, limit=config.examples), get(train=False, limit=test_examples)
    moments = train.moments()
    train, test = (part.standardised(*moments).flat().to(config.device) for part in (train, test))
    return train, test


def data_in_words(config: StreamConfig) -> str:
    """Return the name of the data set, including the image size for Shapeset."""
    shapes = f"shapeset, {config.size}x{config.size} pixels, drawn on demand"
    return shapes if config.data == "shapeset" else config.data


def _stream(name: str) -> int:
    """Return the seed of a held-out stream of Shapeset, which differs from those of all training streams."""
    return derive(0, "glorot2010.errors", name) % 2**31
