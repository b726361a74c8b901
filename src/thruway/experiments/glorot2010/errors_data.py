"""Where the nets of the study get their examples: drawn for ever, or taken from a set again and again."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from thruway import data
from thruway.errors import ConfigError, unknown_name
from thruway.experiments.glorot2010.errors import Config
from thruway.experiments.glorot2010.svm import require_svm
from thruway.seeding import derive

__all__ = ["Examples", "Finite", "Online", "Parts", "Source", "load_parts"]

Examples = tuple[Tensor, Tensor]
"""Inputs (examples, inputs) float32, and labels (examples,) int64."""

# As the paper parts MNIST; of CIFAR-10's 50,000 it takes as many.
_VALIDATION_SHARE, _VALIDATION_MOST = 0.2, 10_000


class Source(Protocol):
    """An endless stream of training examples for every seed."""

    @property
    def work(self) -> float:
        """What drawing an example costs, in weights updated by one."""
        ...

    def draw(self, seed: int, start: int, count: int) -> Examples:
        """Examples start, start + 1, ... of the stream `seed`: always the same ones."""
        ...


@dataclass(frozen=True)
class Online:
    """Shapeset images, each seen once."""

    size: int
    device: str
    work: float = 1.6e4

    def draw(self, seed: int, start: int, count: int) -> Examples:
        images, labels = data.Shapeset(self.size, seed).images(start, count, self.device)
        return images.flatten(1), labels


@dataclass(frozen=True, eq=False)
class Finite:
    """A training set, in a new order each time round.

    >>> source = Finite(torch.arange(3.0).view(3, 1), torch.arange(3))
    >>> seen = source.draw(0, 0, 6)[1].tolist()
    >>> sorted(seen[:3]), source.draw(0, 4, 2)[1].tolist() == seen[4:]
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
    """All that a run learns from and is measured on."""

    source: Source
    valid: Examples
    test: Examples
    fixed: Examples | None  # the training set that the SVM and a net share
    classes: int

    @property
    def inputs(self) -> int:
        """Numbers in an example."""
        return self.test[0].shape[1]

    @property
    def majority_error(self) -> float:
        """The share of the test examples that are not of the most frequent class: what knowing nothing costs."""
        labels = self.test[1]
        return 1.0 - float(labels.bincount().max()) / len(labels)


def load_parts(config: Config) -> Parts:
    """The data of a run on the device that trains.

    Raises:
        ConfigError: for an unknown data set, one that nobody can get, a fixed set or a batch larger than the data,
            or an SVM without scikit-learn.
        DatasetError: if the data is not there, or damaged.
    """
    if config.fixed_examples:
        require_svm()
    return _shapeset(config) if config.data == "shapeset" else _named(config)


def _shapeset(config: Config) -> Parts:
    if config.examples is not None:
        raise ConfigError(
            f"examples: got {config.examples}, but Shapeset is drawn as it is needed and has no end. "
            "Leave it out, or name another data set."
        )
    source = Online(config.size, config.device)
    held_out = partial(source.draw, start=0, count=config.held_out)
    # The held-out and the fixed images are the same in every run, so that runs can be compared.
    fixed = source.draw(_stream("fixed"), 0, config.fixed_examples) if config.fixed_examples else None
    classes = len(data.Shapeset(config.size).classes)
    return Parts(source, held_out(_stream("valid")), held_out(_stream("test")), fixed, classes)


def _named(config: Config) -> Parts:
    if config.data.lower().replace("_", "-") in ("small-imagenet", "smallimagenet"):
        raise ConfigError(
            f"data: got {config.data!r}, which the authors made for themselves and never published, so nobody can "
            "repeat that column. Allowed: shapeset, or one of " + ", ".join(data.DATASETS) + "."
        )
    if config.data not in data.DATASETS:
        raise ConfigError(unknown_name("data set", config.data, {*data.DATASETS, "shapeset"}))
    get = partial(data.load, config.data, config.data_root, download=config.download)
    whole, test = get(train=True, limit=config.examples), get(train=False)
    # Everything is shifted and scaled by the training part's numbers.
    moments = whole.moments()
    whole, test = (part.standardised(*moments).flat().to(config.device) for part in (whole, test))
    held_out = min(int(_VALIDATION_SHARE * len(whole)), _VALIDATION_MOST)
    order = data.permutation(_stream("valid"), 0, len(whole))
    valid, train = whole.batch(order[:held_out]), whole.batch(order[held_out:])
    for name, asked in (("fixed_examples", config.fixed_examples), ("batch", config.batch)):
        if asked > len(train[1]):
            raise ConfigError(
                f"{name}: got {asked}, but {config.data} has {len(train[1])} training examples beside its validation "
                "examples. Take at most as many."
            )
    fixed = (train[0][: config.fixed_examples], train[1][: config.fixed_examples]) if config.fixed_examples else None
    return Parts(Finite(*train), valid, (test.images, test.labels), fixed, len(whole.classes))


def _stream(name: str) -> int:
    """The seed of a stream of Shapeset that no training seed meets."""
    return derive(0, "glorot2010.errors", name) % 2**31
