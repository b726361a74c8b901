"""A recurrent network with deeper time steps, but no more parameters, models text better.

Paper     Zilly, Srivastava, Koutník & Schmidhuber 2017 (Recurrent Highway Networks), sec. 5; the numbers for each depth
          in the authors' repository, jzilly/RecurrentHighwayNetworks
Protocol  language models with recurrence depths from 1 to 10 and the same number of parameters, so that deeper ones are
          narrower; test loss at the epoch with the lowest validation loss
Claims    each increase of the depth helps, and the first one most. Thresholds were set before any run
Measured  results/rhn2017.depth-laptop
Cost      demo: half a minute on one thread; laptop: 43 minutes on one thread of a busy machine; paper: requires a GPU
Differs   characters of Python's documentation instead of the words of the Penn Treebank; networks a few hundred times
          smaller, trained for a few epochs with Adam and without dropout, which networks this small do not need
"""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from thruway.dissecting.ranking.rank_correlation import spearman
from thruway.experiments.machinery import Claim, Rows

__all__ = ["CLAIMS", "PAPER", "SCALES", "Config", "by_depth", "ratio_to_shallowest"]


class Config(BaseModel):
    """Settings that determine the results of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: a minute; laptop: three quarters of an hour on one busy core; paper: the authors' settings for characters,
    needs a GPU. Sets the defaults of the other options."""
    characters: int | None = Field(default=100_000, ge=1000)
    """Number of characters to use, from the start of the text. If unset, all."""
    depths: tuple[int, ...] = Field(default=(1, 3, 10), min_length=1)
    """Recurrence depths: numbers of highway layers in a time step."""
    parameters: int = Field(default=30_000, ge=1)
    """Number of parameters of the whole network. The width is chosen to come closest to it."""
    embedding: int = Field(default=32, ge=1)
    """Number of features in the embedding of a character."""
    gate_bias: float = -2.0
    epochs: int = Field(default=10, ge=1)
    batch: int = Field(default=32, ge=1)
    """Number of segments of the text that are processed in parallel."""
    window: int = Field(default=50, ge=1)
    """Number of characters between two updates. The state is carried over from one to the next, but detached."""
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-2, gt=0)
    steady: float = Field(default=0.5, ge=0, le=1)
    """Share of the epochs with the full learning rate."""
    decay: float = Field(default=0.6, gt=0, le=1)
    """Factor by which the learning rate is multiplied in each later epoch."""
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    """Maximum norm of the gradient; larger gradients are clipped."""
    drop_input: float = Field(default=0.0, ge=0, lt=1)
    drop_state: float = Field(default=0.0, ge=0, lt=1)
    drop_output: float = Field(default=0.0, ge=0, lt=1)
    """Dropout probabilities of input, state and output. Masks are drawn per segment and window."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, ge=1)
    """Number of independent networks per depth, with seeds seed, seed + 1, ...; a definite verdict requires three."""
    device: str = "cpu"

    @model_validator(mode="after")
    def _has_depths(self) -> "Config":
        if min(self.depths) < 1 or len(set(self.depths)) < len(self.depths):
            raise ValueError(f"depths must be different numbers of at least 1; got {', '.join(map(str, self.depths))}")
        return self

    @property
    def all_seeds(self) -> range:
        """The seeds of the networks: seed, seed + 1, ..."""
        return range(self.seed, self.seed + self.seeds)

    def learning_rate_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        falling = max(0, epoch + 1 - max(1, round(self.steady * self.epochs)))
        return self.learning_rate * float(self.decay**falling)


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(scale="laptop", characters=None, depths=(1, 2, 3, 5, 7, 10), epochs=20, decay=0.75, seeds=3),
    # The authors' settings for enwik8. They sum the loss over the 50 steps of a window, and it is averaged here: their
    # rate of 0.2 becomes 50 times as much, their largest norm of 10 a fiftieth, and their weight decay a fiftieth too,
    # so that it shrinks the weights as much in a step.
    "paper": Config(
        scale="paper",
        characters=None,
        depths=tuple(range(1, 11)),
        parameters=21_000_000,
        embedding=205,
        gate_bias=-4.0,
        epochs=500,
        batch=128,
        window=50,
        optimizer="sgd",
        learning_rate=10.0,
        steady=0.01,
        decay=1 / 1.03,
        weight_decay=2e-9,
        clip=0.2,
        drop_input=0.4,
        drop_state=0.1,
        drop_output=0.4,
        seeds=3,
        device="cuda",
    ),
}


# --- claims


def by_depth(rows: Rows, key: str) -> dict[int, list[float]]:
    """Return the values of all seeds for each depth, ordered by depth.

    >>> by_depth([{"depth": 4, "x": 2.0}, {"depth": 1, "x": 3.0}, {"depth": 4, "x": 1.0}], "x")
    {1: [3.0], 4: [2.0, 1.0]}
    """
    found: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["depth"]):
        found.setdefault(row["depth"], []).append(row[key])
    return found


_SOURCE = "Zilly, Srivastava, Koutník & Schmidhuber 2017, sec. 5; the authors' repository, README"

PAPER = {1: 90.6, 2: 75.1, 3: 70.6, 4: 68.6, 5: 67.7, 6: 66.6, 7: 66.4, 8: 66.1, 9: 66.0, 10: 65.4}
"""Test perplexity per word on the Penn Treebank with tied weights, by recurrence depth. For depth 10 the abstract of
the paper states 65.4, and the table in the repository 66.0.
"""


def ratio_to_shallowest(rows: Rows, key: str = "test_bits") -> dict[int, float]:
    """Return the mean bits for each depth, relative to those of the shallowest network.

    >>> ratio_to_shallowest([{"depth": 1, "test_bits": 2.0}, {"depth": 5, "test_bits": 1.5}])
    {1: 1.0, 5: 0.75}
    """
    means = {depth: sum(values) / len(values) for depth, values in by_depth(rows, key).items()}
    first = next(iter(means.values()), math.nan)
    return {depth: mean / first for depth, mean in means.items()}


def _deepest(rows: Rows, key: str) -> float:
    ratios = list(ratio_to_shallowest(rows, key).values())
    return ratios[-1] if len(ratios) > 1 else math.nan


def _falls(rows: Rows) -> float:
    ratios = ratio_to_shallowest(rows)
    if len(ratios) < 3 or any(map(math.isnan, ratios.values())):
        return math.nan
    return spearman(list(ratios), list(ratios.values()))


def _first_share(rows: Rows) -> float:
    ratios = list(ratio_to_shallowest(rows).values())
    if len(ratios) < 3 or not min(ratios) < 1:
        return math.nan
    return (1 - ratios[1]) / (1 - min(ratios))


CLAIMS = (
    Claim(
        id="deeper-is-better",
        text="With the same number of parameters, the deepest network models text better than the shallowest.",
        source=_SOURCE,
        # From the paper's perplexities per word: log2 65.4 / log2 90.6 = 0.928.
        statistic="test bits per character, deepest / shallowest",
        measure=lambda rows: _deepest(rows, "test_bits"),
        holds_if="<=",
        threshold=0.98,
    ),
    Claim(
        id="every-step-helps",
        text="Each additional layer in a time step helps, from 1 to 10.",
        source=_SOURCE,
        statistic="rank correlation of recurrence depth and test bits per character",
        measure=_falls,
        holds_if="<=",
        threshold=-0.9,
    ),
    Claim(
        id="first-steps-help-most",
        text="Most of the gain from depth comes from the first increase of the depth.",
        source=_SOURCE,
        # From the paper's perplexities: log(90.6 / 75.1) / log(90.6 / 65.4) = 0.58 at depth 2.
        statistic="gain at the second depth of the run / largest gain",
        measure=_first_share,
        holds_if=">=",
        threshold=0.5,
    ),
    Claim(
        id="deeper-fits-better",
        text="Deeper networks are not harder to train: they fit the training text at least as well.",
        source="Ours; the paper shows validation and test results",
        statistic="training bits per character in the last epoch, deepest / shallowest",
        measure=lambda rows: _deepest(rows, "train_bits"),
        holds_if="<=",
        threshold=1.0,
    ),
)
