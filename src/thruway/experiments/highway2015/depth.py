"""Plain networks stop training as they get deeper; highway and residual networks do not.

Paper     Srivastava, Greff & Schmidhuber 2015: Highway Networks, fig. 1; Training Very Deep Networks, fig. 1
Protocol  for each kind of block and each depth, a random search over learning rate, momentum, decay, activation and
          (highway) gate bias; training cross-entropy against epoch, for the best trial and the mean of the best few
Claims    plain networks get much worse with depth, highway networks do not; at the greatest depth they are ten times
          better; they converge faster
Measured  results/highway2015.depth-laptop: five claims with their verdicts, from three searches on Fashion-MNIST
Cost      demo: 1.5 minutes on two cores; laptop: 70 minutes on two busy cores, not yet timed on idle ones; paper:
          requires a GPU
Differs   the ranges of the search (the papers state only that of the gate bias), the data at demo and laptop scale,
          residual blocks in addition to the papers' two, and the order of the training examples, which is the same in
          all searches of a run (it depends on `seed` only)
"""

import math
import statistics
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thruway.experiments.machinery.study import Claim, Rows
from thruway.sweep import Choice, LogUniform, Uniform, draw_trial

__all__ = ["CLAIMS", "SCALES", "Case", "Config", "best_loss", "cases", "member_of", "trial_of"]

Block = Literal["plain", "highway", "residual"]


class Config(BaseModel):
    """Settings that determine the results of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: minutes; laptop: about an hour on two cores; paper: as published, needs a GPU. Sets the defaults of the
    other options."""
    data: str = "digits"
    """Name of an image data set, as in tw.data.load."""
    data_root: Path | None = None
    """Folder of the data. If unset, the default folders are searched."""
    download: bool = False
    """Download the data set if it is missing."""
    examples: int | None = Field(default=None, ge=100)
    """Number of training examples, taken at even intervals. If unset, all are used."""
    blocks: tuple[Block, ...] = Field(default=("plain", "highway", "residual"), min_length=1)
    """Kinds of block. Each has its own search."""
    depths: tuple[int, ...] = Field(default=(10, 20, 50), min_length=1)
    """Numbers of hidden layers. The first hidden layer is always plain."""
    highway_width: int = Field(default=50, ge=1)
    """Units per highway layer. The width of the other blocks gives the same number of parameters (71 for 50)."""
    seed: int = Field(default=0, ge=0)
    """Seed of the first search, and of the order of the training examples."""
    searches: int = Field(default=1, ge=1)
    """Number of independent random searches, with seeds seed, seed + 1, ...; a definite verdict requires three."""
    trials: int = Field(default=6, ge=1)
    """Number of trials in one search, per block and depth."""
    epochs: int = Field(default=30, ge=1)
    """Number of passes over the training examples."""
    batch: int = Field(default=100, ge=1)
    """Number of examples in one update."""
    learning_rate: LogUniform = LogUniform(low=0.003, high=0.3)
    momentum: Uniform = Uniform(low=0.5, high=0.95)
    rate_left: LogUniform = LogUniform(low=0.01, high=1.0)
    """Final learning rate, as a share of the initial one. The rate decays exponentially."""
    activation: Choice = Choice(values=("relu", "tanh"))
    gate_bias: Uniform = Uniform(low=-10.0, high=-1.0)
    """Initial bias of the transform gates, before the sigmoid."""
    device: str = "cpu"

    @model_validator(mode="after")
    def _is_searchable(self) -> "Config":
        if min(self.depths) < 2:
            raise ValueError(f"depths are numbers of hidden layers, at least 2; got {min(self.depths)}")
        if len(set(self.blocks)) < len(self.blocks):
            raise ValueError(f"blocks must differ from each other, got {', '.join(self.blocks)}")
        if not (self.momentum.low >= 0 and self.momentum.high < 1):
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum.low} to {self.momentum.high}")
        if self.rate_left.high > 1:
            raise ValueError(f"rate_left must be in (0, 1], got {self.rate_left.low} to {self.rate_left.high}")
        if unknown := set(self.activation.values) - {"relu", "tanh", "sigmoid", "elu", "linear"}:
            raise ValueError(f"activation must be relu, tanh, sigmoid, elu or linear, got {', '.join(sorted(unknown))}")
        return self

    @property
    def space(self) -> dict[str, Any]:
        """The search space: a range or a choice for each hyperparameter."""
        names = ("learning_rate", "momentum", "rate_left", "activation", "gate_bias")
        return {name: getattr(self, name) for name in names}


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(
        scale="laptop",
        data="fashion-mnist",
        examples=5000,
        depths=(10, 20, 50, 100),
        searches=3,
        trials=5,
        epochs=50,
    ),
    "paper": Config(
        scale="paper", data="mnist", depths=(10, 20, 50, 100), searches=3, trials=40, epochs=400, device="cuda"
    ),
}


class Case(NamedTuple):
    """Networks that are trained as one population. They have the same layers but different hyperparameters."""

    block: Block
    depth: int
    activation: str
    members: tuple[int, ...]  # in the order of the population

    @property
    def site(self) -> str:
        """Site of the case's values in the series."""
        return f"{self.block}/{self.depth}"

    @property
    def name(self) -> str:
        """Name of the case's checkpoint."""
        return f"{self.block}-{self.depth}-{self.activation}"

    @property
    def cost(self) -> float:
        """Cost of one epoch, in layers."""
        return self.depth * len(self.members)


def member_of(config: Config, search: int, trial: int) -> int:
    """Return the number under which the values of a trial are logged."""
    return search * config.trials + trial


def trial_of(config: Config, member: int) -> tuple[int, int, dict[str, Any]]:
    """Return (seed of the search, number of the trial, drawn hyperparameters) of a member.

    The result depends on the config only.
    """
    search, trial = divmod(member, config.trials)
    return config.seed + search, trial, draw_trial(config.space, config.seed + search, trial)


def cases(config: Config) -> list[Case]:
    """Return the populations to train, shallow ones first, so that there are early results to report."""
    members: dict[str, list[int]] = {}
    for member in range(config.searches * config.trials):
        members.setdefault(trial_of(config, member)[2]["activation"], []).append(member)
    return [
        Case(block, depth, activation, tuple(chosen))
        for depth in sorted(set(config.depths))
        for block in config.blocks
        for activation, chosen in sorted(members.items())
    ]


# --- claims

_PAPER = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.1, fig. 1"

# The paper's curves end here. Two lower losses count as equal: their ratio says nothing about depth.
_FLOOR = 1e-5


def best_loss(rows: Rows, block: str, depth: int) -> float:
    """Return the lowest final training loss of a block at a depth, but at least 1e-5.

    It is infinite if every trial diverged, and NaN if there are no trials.
    """
    losses = [r["final_loss"] for r in rows if (r["block"], r["depth"]) == (block, depth)]
    if not losses:
        return math.nan
    finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    return max(min(finite), _FLOOR) if finite else math.inf


def _depths(rows: Rows, block: str) -> list[int]:
    return sorted({row["depth"] for row in rows if row["block"] == block})


def _deepest_over_shallowest(rows: Rows, block: str) -> float:
    depths = _depths(rows, block)
    if len(depths) < 2:
        return math.nan
    return best_loss(rows, block, depths[-1]) / best_loss(rows, block, depths[0])


def _worst_deep_highway(rows: Rows) -> float:
    depths = _depths(rows, "highway")
    # The others are compared with the shallowest; compared with itself, it would always be equal.
    deep = [best_loss(rows, "highway", depth) for depth in depths[1:] if depth >= 50]
    if not deep or any(math.isnan(loss) for loss in deep):
        return math.nan
    return max(deep) / best_loss(rows, "highway", depths[0])


def _over_plain(rows: Rows, block: str) -> float:
    shared = sorted(set(_depths(rows, block)) & set(_depths(rows, "plain")))
    if not shared:
        return math.nan
    return best_loss(rows, block, shared[-1]) / best_loss(rows, "plain", shared[-1])


def _epochs_over_plain(rows: Rows) -> float:
    def fastest(block: str, depth: int) -> float:
        return min(float(r["epochs_to_tenth"]) for r in rows if (r["block"], r["depth"]) == (block, depth))

    ratios = []
    for depth in sorted(set(_depths(rows, "highway")) & set(_depths(rows, "plain"))):
        highway, plain = fastest("highway", depth), fastest("plain", depth)
        # NaN if neither gets to a tenth; 0 if only the plain network never does.
        ratios.append(highway / plain)
    known = [ratio for ratio in ratios if not math.isnan(ratio)]
    return statistics.median(known) if known else math.nan


CLAIMS = (
    Claim(
        id="plain-degrades",
        text="Plain networks become much harder to optimise as they get deeper.",
        source=_PAPER,
        statistic="best final loss of plain networks, deepest / shallowest",
        measure=lambda rows: _deepest_over_shallowest(rows, "plain"),
        holds_if=">=",
        threshold=10,
    ),
    Claim(
        id="highway-depth-is-free",
        text="Highway networks of 50 layers and more reach a loss as low as that of the shallowest one, or lower.",
        source=_PAPER,
        statistic="best final loss of highway networks, worst depth of 50 layers or more / shallowest",
        measure=_worst_deep_highway,
        holds_if="<=",
        threshold=1,
    ),
    Claim(
        id="highway-beats-plain",
        text="At the greatest depth the highway network is at least an order of magnitude better than the plain one.",
        source=_PAPER,
        statistic="best final loss at the greatest depth, highway / plain",
        measure=lambda rows: _over_plain(rows, "highway"),
        holds_if="<=",
        threshold=0.1,
    ),
    Claim(
        id="highway-is-faster",
        text="Highway networks converge faster than plain ones of the same depth.",
        source=_PAPER,
        statistic="epochs to a tenth of the loss of guessing, highway / plain, median over depths",
        measure=_epochs_over_plain,
        holds_if="<",
        threshold=1,
    ),
    Claim(
        id="residual-beats-plain",
        text="Residual networks, which the papers did not have, are also an order of magnitude better than plain ones.",
        source="Ours; after He et al. 2015",
        statistic="best final loss at the greatest depth, residual / plain",
        measure=lambda rows: _over_plain(rows, "residual"),
        holds_if="<=",
        threshold=0.1,
    ),
)
"""The claims in the order of the report."""
