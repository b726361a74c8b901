"""Deletion of modules from a trained network: config, measurements, damage and a figure."""

import abc
import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator
from torch import nn

from thruway.dissecting import Error
from thruway.experiments.machinery import ImageConfig, ImageParts, Rows, mean_of, only
from thruway.experiments.machinery.measuring import Row
from thruway.experiments.machinery.training import evaluation_batches, guessing_error
from thruway.experiments.veit2016.nets import MODULES_IN_PAPER, PaperConfig, dissected_net
from thruway.figures import deletion_boxes
from thruway.report import Section
from thruway.seeding import generator

__all__ = [
    "DAMAGE",
    "DeletionConfig",
    "damage",
    "damage_by_k",
    "delete_one",
    "delete_some",
    "drawn_cost",
    "drawn_error",
    "from_to",
    "interval_in_words",
    "several_deleted",
    "single_cost",
]


class DeletionConfig(PaperConfig, abc.ABC):
    """Data and training recipe of a study that deletes several random modules at a time."""

    deleted: tuple[int, ...] = (1, 2, 4, 6, 8, 10, 12, 15, 20)
    """Numbers of modules, out of 54, to delete together; 10 and 20 are added. They are scaled to smaller networks."""
    draws: int = Field(default=10, ge=1)
    """Number of random lesions for each number of modules."""
    drawn_examples: int | None = Field(default=None, ge=20)
    """Number of test examples, from the first one on, on which random lesions are measured. If unset, all."""

    @model_validator(mode="after")
    def _can_be_deleted(self) -> "DeletionConfig":
        if any(not 1 <= count <= MODULES_IN_PAPER for count in self.deleted):
            raise ValueError(
                f"deleted must be numbers from 1 to {MODULES_IN_PAPER}, out of {MODULES_IN_PAPER} modules; got "
                f"{self.deleted}"
            )
        return self

    @property
    def ks(self) -> list[int]:
        """Numbers of modules that are deleted together, scaled to this network.

        >>> from thruway.experiments.veit2016.lesion import SCALES
        >>> SCALES["demo"].ks, SCALES["laptop"].ks
        ([1, 2, 3, 4, 6], [1, 2, 4, 6, 8, 10, 12, 15, 20])
        """
        return sorted({self.as_many_as(count) for count in (*self.deleted, 10, 20)})


def delete_one(model: nn.Module, parts: ImageParts) -> list[Row]:
    """Measure the error without each module, or without each layer of a VGG that keeps the size of its input."""
    d = dissected_net(model, parts)
    deletions = d.delete_each(Error(evaluation_batches(parts.test.images, parts.test.labels)))
    return [
        {
            "what": "delete_one",
            "index": each.index,
            "branch": each.name,
            "resizes": not d.branches[each.index].keeps_shape,
            "error": each.value,
            "low": deletions.intact + each.low,
            "high": deletions.intact + each.high,
            "intact": deletions.intact,
            "guessing": guessing_error(parts.test.labels),
        }
        for each in deletions
    ]


def delete_some(config: DeletionConfig, seed: int, model: nn.Module, parts: ImageParts) -> list[Row]:
    """Measure the error without k random modules, for every k in the config."""
    error = drawn_error(config, parts)
    drawn = dissected_net(model, parts).delete(config.ks, config.draws, error, generator(seed, "deleted"))
    guessing = guessing_error(parts.test.labels)
    return [
        {
            "what": "delete_k",
            "k": each.k,
            "draw": each.draw,
            "error": each.value,
            "intact": drawn.intact,
            "guessing": guessing,
        }
        for each in drawn
    ]


def drawn_error(config: DeletionConfig, parts: ImageParts) -> Error:
    """Return the metric of random lesions: the error on the first test examples."""
    return Error(
        evaluation_batches(parts.test.images[: config.drawn_examples], parts.test.labels[: config.drawn_examples])
    )


def single_cost(modules: float, parts: ImageParts) -> float:
    """Return the cost of deleting `modules` modules one by one.

    A lesion runs the network from the deleted module on, which is half a pass on average.
    """
    return len(parts.test) * modules / 6


def drawn_cost(config: DeletionConfig, lesions: int, parts: ImageParts) -> float:
    """Return the cost of `lesions` random lesions in each draw."""
    return min(config.drawn_examples or len(parts.test), len(parts.test)) * config.draws / 3 * lesions


# --- the damage


def damage(row: Mapping[str, Any]) -> float:
    """Return the share of the network's advantage over guessing that a lesion destroys.

    It is 0 for the error of the intact network, 1 for that of guessing, and NaN for a network that has hardly learned.

        (error - intact) / (guessing - intact)

    Source:
        Ours: the paper shows errors, of much better networks.

    >>> damage({"error": 0.5, "intact": 0.1, "guessing": 0.9})
    0.5
    """
    skill = row["guessing"] - row["intact"]
    # The quotient would be noise for a network that has hardly learned.
    return float((row["error"] - row["intact"]) / skill) if skill > 0.5 * row["guessing"] else math.nan


def damage_by_k(rows: Rows, net: str = "resnet") -> dict[int, float]:
    """Return the mean damage over the draws for each number of deleted modules, from 0 on; empty without draws."""
    drawn = only(rows, what="delete_k", net=net)
    ks = sorted({row["k"] for row in drawn})
    return {0: 0.0} | {k: mean_of(damage(row) for row in only(drawn, k=k)) for k in ks} if ks else {}


DAMAGE = "Damage: 0 if the error is that of the intact network, 1 if it is that of guessing."


def interval_in_words(config: ImageConfig) -> str:
    """Describe the error bars of `over_seeds`."""
    return "95 % bootstrap intervals over the test examples" if config.seeds == 1 else "the range over seeds"


def several_deleted(rows: Rows, net: str = "resnet") -> list[Section]:
    """Return a list with the section for fig. 5a; empty without results."""
    drawn = only(rows, what="delete_k", net=net)
    if not drawn:
        return []
    draws = {k: [row["error"] for row in only(drawn, k=k)] for k in sorted({row["k"] for row in drawn})}
    figure = deletion_boxes(draws, intact=mean_of(row["intact"] for row in drawn), quantity="test error", unit="share")
    means = {k: mean_of(errors) for k, errors in draws.items()}
    reading = (
        f"Random modules are deleted together; every draw of every seed is shown. {from_to(means, 'deleted')} In the "
        "paper the error grows smoothly."
    )
    return [Section("Several modules deleted (fig. 5a)", figure, reading)]


def from_to(means: Mapping[int, float], done: str) -> str:
    """Describe both ends of a curve of the mean error against the number of modules."""
    few, many = min(means), max(means)
    return f"With {few} {done}, the mean error is {means[few]:.1%}; with {many}, {means[many]:.1%}."
