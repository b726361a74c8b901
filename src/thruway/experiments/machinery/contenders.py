"""Networks to be compared by a study, and statistics of their errors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from thruway.experiments.machinery.images import ImageParts
from thruway.experiments.machinery.measuring import Measurement, Row
from thruway.experiments.machinery.study import Rows
from thruway.experiments.machinery.training import Net, error_rate, guessing_error

__all__ = ["Contender", "error_of", "errors_of", "excess", "measurements_of", "parameters_of"]

_TRAINING_EXAMPLES = 2000  # the training error is measured on at most this many


@dataclass(frozen=True)
class Contender:
    """One of the networks to be compared by a study.

    Attributes:
        name: name in checkpoints, rows and series, such as "highway-b".
        label: name in the report, such as "Highway B".
        layers: number of layers with weights, counted as in the papers.
        build: function (data, weights, coins) that returns the network; see `Net`.
        cost: training time per example, in a unit common to all networks of the study.
        warmup, learning_rate, weights: see `Net`.
    """

    name: str
    label: str
    layers: int
    build: Callable[[ImageParts, torch.Generator, torch.Generator], nn.Module]
    cost: float = 1.0
    warmup: int | None = None
    learning_rate: float | None = None
    weights: str = ""

    def net(self, seed: int) -> Net:
        """Return the network of one seed, for training."""
        return Net(self.name, seed, self.build, self.learning_rate, self.warmup, self.weights, self.cost)


def measurements_of(contenders: Sequence[Contender], seeds: Sequence[int]) -> list[Measurement]:
    """Return the measurements that test every contender with every seed.

    All contenders of a seed precede those of the next seed, so that the networks of an unfinished run can be compared.
    """
    return [
        Measurement("tested", each.net(seed), _errors, partial(_test_cost, each.cost))
        for seed in seeds
        for each in contenders
    ]


def _test_cost(cost: float, parts: ImageParts) -> float:
    return cost * len(parts.test) / 3  # a forward pass is a third of a training step


def _errors(model: nn.Module, parts: ImageParts) -> list[Row]:
    """Return the errors in evaluation mode, on the test part and on up to 2,000 training examples."""
    train = parts.train
    images, labels = (each[:_TRAINING_EXAMPLES] for each in (train.images, train.labels))
    return [
        {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "error": error_rate(model, parts.test.images, parts.test.labels),
            "train_error": error_rate(model, images, labels),
            "guessing": guessing_error(parts.test.labels),
        }
    ]


# --- statistics of the rows


def errors_of(rows: Rows, net: str, which: str = "error") -> list[float]:
    """Return the errors of one network, ordered by seed.

    Args:
        rows: the study's rows.
        net: name of the network.
        which: "error" for the test error, "train_error" for the training error.

    >>> errors_of([{"net": "a", "seed": 1, "error": 0.5}, {"net": "a", "seed": 0, "error": 0.25}], "a")
    [0.25, 0.5]
    """
    mine = sorted((row for row in rows if row["net"] == net), key=lambda row: int(row["seed"]))
    return [float(row[which]) for row in mine]


def error_of(rows: Rows, net: str, which: str = "error") -> float:
    """Return the mean error of one network over the seeds; NaN if there are no rows."""
    found = errors_of(rows, net, which)
    return sum(found) / len(found) if found else math.nan


def excess(net: str, other: str, which: str = "error") -> Callable[[Rows], float]:
    """Return a statistic of rows: the error of `net` minus that of `other`.

    The statistic is NaN if one of the networks is missing, or if neither has learned: the error of the better one must
    be at most half the guessing error.

    >>> a, b = ({"net": net, "seed": 0, "error": error, "guessing": 0.9} for net, error in (("a", 0.5), ("b", 0.125)))
    >>> excess("a", "b")([a, b]), excess("b", "a")([{**b, "error": 0.5}, a])
    (0.375, nan)
    """

    def measure(rows: Rows) -> float:
        mine, its = error_of(rows, net, which), error_of(rows, other, which)
        mark = 0.5 * max((float(row["guessing"]) for row in rows), default=0.0)
        return mine - its if min(mine, its) <= mark else math.nan

    return measure


def parameters_of(rows: Rows, net: str) -> int | None:
    """Return the number of parameters of a network; None before it has been tested."""
    return next((int(row["parameters"]) for row in rows if row["net"] == net), None)
