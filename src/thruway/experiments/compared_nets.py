"""A study that trains several nets alike and tests them: who takes part, and the row that each net leaves."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from thruway.experiments.experiment import Progress
from thruway.experiments.image_parts import Parts
from thruway.experiments.image_study import ImageStudy
from thruway.experiments.measuring import Measurement, Row, run_measurements
from thruway.experiments.net_training import Net, error_rate, guessing_error
from thruway.runs import Run

__all__ = ["Contender", "error_of", "errors_of", "excess", "measurements_of", "parameters_of", "run_comparison"]

Rows = Sequence[Mapping[str, Any]]

_TRAINING_EXAMPLES = 2000  # at most so many are looked at for the training error


@dataclass(frozen=True)
class Contender:
    """One of the nets that a study compares.

    Attributes:
        name: in checkpoints, rows and series, such as "highway-b".
        label: in the report, such as "Highway B".
        layers: with weights on the main road, as the papers count them.
        build: (data, weights, coins) -> the net, see `Net`.
        cost: the time an example takes in training, in a unit that the study's nets share.
        warmup, learning_rate, weights: as in `Net`.
    """

    name: str
    label: str
    layers: int
    build: Callable[[Parts, torch.Generator, torch.Generator], nn.Module]
    cost: float = 1.0
    warmup: int | None = None
    learning_rate: float | None = None
    weights: str = ""


def run_comparison(
    config: ImageStudy, contenders: Sequence[Contender], parts: Parts, run: Run, progress: Progress
) -> None:
    """Train and test every contender with every seed, or what is left of it, into the run folder."""
    run_measurements(config, measurements_of(config, contenders, len(parts.test)), parts, run, progress)


def measurements_of(config: ImageStudy, contenders: Iterable[Contender], examples: int = 1) -> list[Measurement]:
    """The test of every net; `examples` are those of the test part, for the costs.

    All contenders of a seed come before the next seed: what there is, can be compared.
    """
    return [
        # Forwards only is a third of the work.
        Measurement(
            "tested",
            Net(each.name, seed, each.build, each.learning_rate, each.warmup, each.weights, each.cost),
            _outcome,
            each.cost * examples / 3,
        )
        for seed in config.all_seeds
        for each in contenders
    ]


def _outcome(model: nn.Module, parts: Parts) -> list[Row]:
    """What a net gets wrong, in evaluation mode, of the test part and of up to 2,000 training examples."""
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


# --- the rows


def errors_of(rows: Rows, net: str, which: str = "error") -> list[float]:
    """The errors of one net, seed by seed; `which` may be "train_error".

    >>> errors_of([{"net": "a", "seed": 1, "error": 0.5}, {"net": "a", "seed": 0, "error": 0.25}], "a")
    [0.25, 0.5]
    """
    mine = sorted((row for row in rows if row["net"] == net), key=lambda row: int(row["seed"]))
    return [float(row[which]) for row in mine]


def error_of(rows: Rows, net: str, which: str = "error") -> float:
    """The error of one net, the mean over the seeds in the rows; NaN if they have none."""
    found = errors_of(rows, net, which)
    return sum(found) / len(found) if found else math.nan


def excess(net: str, other: str, which: str = "error") -> Callable[[Rows], float]:
    """rows -> by how much the error of `net` is above that of `other`; NaN if that says nothing.

    It says nothing if one of the nets is missing, or if neither has learnt: the better one has to be down to half of
    the error of guessing.

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
    """How many parameters the net has; None before it is there."""
    return next((int(row["parameters"]) for row in rows if row["net"] == net), None)
