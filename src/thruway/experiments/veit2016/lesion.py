"""A residual network tolerates the deletion of modules and their reordering; a plain network needs every layer.

Paper     Veit, Wilber & Belongie 2016, sec. 4, figs. 3 to 5
Protocol  train a residual network and a VGG; then, without further training, measure the test error without each layer
          of the VGG and each module of the residual network, without k random modules, and with k random pairs of
          modules of equal shape swapped
Claims    deleting one module hardly changes the error, except where the size changes; deleting any layer of VGG does;
          the error grows smoothly with the number of deleted modules, and as modules are reordered
Measured  results/veit2016.lesion-laptop
Cost      demo: half a minute on one core; laptop: about 25 minutes; paper: requires a GPU
Differs   data, size and training at demo and laptop scale; VGG with and without batch norm, since the paper does not
          say which it used; the report lists all differences
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from thruway.dissecting.ranking.rank_correlation import spearman
from thruway.experiments.machinery import Claim, ImageParts, Measurement, Rows, mean_of, only
from thruway.experiments.machinery.measuring import Row
from thruway.experiments.machinery.training import guessing_error
from thruway.experiments.veit2016.deletions import (
    DeletionConfig,
    damage,
    damage_by_k,
    delete_one,
    delete_some,
    drawn_cost,
    drawn_error,
    single_cost,
)
from thruway.experiments.veit2016.nets import LAPTOP, PAPER, dissected_net, plain_net, residual_net
from thruway.seeding import generator

__all__ = ["SCALES", "Config", "claims", "measurements"]


class Config(DeletionConfig):
    """Settings that determine the results of a run."""

    plain: tuple[Literal["vgg", "vgg-norm"], ...] = ("vgg", "vgg-norm")
    """VGGs to train, without and with batch norm."""
    vgg_width: int = Field(default=16, ge=1)
    """Number of channels of VGG's first stage (64 in the paper); the others have 2, 4, 8 and 8 times as many."""
    vgg_learning_rate: float = Field(default=0.01, gt=0)
    """Learning rate of the VGG without batch norm, which does not learn at the rate of the others."""
    swaps: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Numbers of pairs of modules to swap successively."""

    @model_validator(mode="after")
    def _can_be_lesioned(self) -> "Config":
        if len(set(self.plain)) < len(self.plain):
            raise ValueError(f"plain must not repeat a network; got {', '.join(self.plain)}")
        if not self.swaps or min(self.swaps) < 1:
            raise ValueError(f"swaps must be numbers of pairs, each at least 1; got {self.swaps}")
        if self.modules < 3:
            raise ValueError(
                f"modules: got {self.modules}, but swapping needs at least 3 per stage, since the first one has "
                "a different shape from the others"
            )
        return self


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(**LAPTOP, draws=5, drawn_examples=1000),
    "paper": Config(**PAPER, vgg_width=64, deleted=tuple(range(1, 21)), swaps=tuple(range(1, 28)), draws=20),
}


def measurements(config: Config) -> list[Measurement]:
    """Return the measurements on every network: single deletions, random deletions, and reordered modules."""
    found = []
    for seed in config.all_seeds:
        net = residual_net(config, seed)
        found += [
            Measurement("delete_one", net, delete_one, partial(single_cost, config.depth)),
            Measurement(
                "delete_k", net, partial(delete_some, config, seed), partial(drawn_cost, config, len(config.ks))
            ),
            Measurement(
                "reorder", net, partial(_reorder, config, seed), partial(drawn_cost, config, len(config.swaps))
            ),
        ]
        for name in config.plain:
            rate = config.vgg_learning_rate if name == "vgg" else None
            layered = plain_net(config, seed, config.vgg_width, name == "vgg-norm", rate)
            # About 10 of its layers keep the shape of their input.
            found.append(Measurement("delete_one", layered, delete_one, partial(single_cost, 10 * layered.cost)))
    return found


def _reorder(config: Config, seed: int, model: nn.Module, parts: ImageParts) -> list[Row]:
    """Measure the error with k random pairs of modules swapped, for every k in the config."""
    error = drawn_error(config, parts)
    drawn = dissected_net(model, parts).permute_pairs(config.swaps, config.draws, error, generator(seed, "swapped"))
    guessing = guessing_error(parts.test.labels)
    return [
        {
            "what": "reorder",
            "k": each.k,
            "draw": each.draw,
            "tau": each.tau,
            "error": each.value,
            "intact": drawn.intact,
            "guessing": guessing,
        }
        for each in drawn
    ]


# --- claims: thresholds were set before any run

_PAPER = "Veit, Wilber & Belongie 2016"


def _spared(rows: Rows) -> float:
    """Return the median damage of deleting a module that keeps the size of its input."""
    found = [damage(row) for row in only(rows, what="delete_one", net="resnet", resizes=False)]
    return median(found) if found else math.nan


def _resizing_over_others(rows: Rows) -> float:
    resizing, others = (
        mean_of(damage(row) for row in only(rows, what="delete_one", net="resnet", resizes=resizes))
        for resizes in (True, False)
    )
    return resizing - others


def _layers_of(net: str) -> Callable[[Rows], float]:
    def measure(rows: Rows) -> float:
        found = [damage(row) for row in only(rows, what="delete_one", net=net)]
        return median(found) if found else math.nan

    return measure


def _steepest(rows: Rows) -> float:
    """Return the largest increase of the mean damage per additional deleted module."""
    means = damage_by_k(rows)
    return max(((after - before) / (m - k) for (k, before), (m, after) in pairwise(means.items())), default=math.nan)


def _tau(rows: Rows) -> float:
    drawn = only(rows, what="reorder", net="resnet")
    return spearman([row["tau"] for row in drawn], [row["error"] for row in drawn])


def claims(config: Config) -> tuple[Claim, ...]:
    """Return the claims, with the paper's numbers of modules scaled to this network."""
    ten, twenty = config.as_many_as(10), config.as_many_as(20)
    plain = {"vgg": "a VGG", "vgg-norm": "a VGG with batch norm"}
    return (
        Claim(
            id="one-module-is-spared",
            text="Deleting a typical module that keeps the size of its input hardly changes the error.",
            source=f"{_PAPER}, sec. 4.1, fig. 3",
            statistic="median damage of deleting a module that keeps the size (0 none, 1 as bad as guessing)",
            measure=_spared,
            holds_if="<=",
            threshold=0.05,
        ),
        Claim(
            id="resizing-modules-matter",
            text="On average, modules that change the size matter more than the others.",
            source=f"{_PAPER}, sec. 4.1, fig. 3",
            statistic="mean damage of deleting one module, modules that change the size minus others",
            measure=_resizing_over_others,
            holds_if=">=",
            threshold=0.02,
        ),
        *(
            Claim(
                id=f"one-layer-is-all-{name}",
                text=f"Without a typical layer, {plain[name]} is about as bad as guessing.",
                source=f"{_PAPER}, sec. 4.1, fig. 3",
                statistic="median damage of deleting a layer",
                measure=_layers_of(name),
                holds_if=">=",
                threshold=0.8,
            )
            for name in config.plain
        ),
        Claim(
            id="several-deleted-smooth",
            text="As more modules are deleted at random, the error grows smoothly.",
            source=f"{_PAPER}, sec. 4.2, fig. 5a",
            statistic="largest increase of the mean damage per additional module",
            measure=_steepest,
            holds_if="<=",
            threshold=0.25,
        ),
        Claim(
            id="ten-of-54",
            text="Without 10 of 54 modules, the network retains most of its advantage over guessing.",
            source=f"{_PAPER}, sec. 4.2, fig. 5a (error about 0.2: damage about 0.17)",
            statistic=f"mean damage without {ten} of {config.depth}",
            measure=lambda rows: damage_by_k(rows).get(ten, math.nan),
            holds_if="<=",
            threshold=0.3,
        ),
        Claim(
            id="twenty-of-54",
            text="Without 20 of 54 modules, the network retains much less of its advantage over guessing.",
            source=f"{_PAPER}, sec. 4.2, fig. 5a",
            statistic=f"mean damage without {twenty} of {config.depth} modules, minus that without {ten}",
            measure=lambda rows: damage_by_k(rows).get(twenty, math.nan) - damage_by_k(rows).get(ten, math.nan),
            holds_if=">=",
            threshold=0.1,
        ),
        Claim(
            id="reordering-smooth",
            text="The error grows smoothly as the order of the modules departs from the original one.",
            source=f"{_PAPER}, sec. 4.3, fig. 5b",
            statistic="rank correlation of the error and Kendall's tau, over all draws",
            measure=_tau,
            holds_if="<=",
            threshold=-0.8,
        ),
    )
