"""How far a deep net gets depends on how it starts and on its activation.

Paper     Glorot & Bengio 2010, Table 1, figs. 11 and 12, and the SVM baseline of sec. 5
Protocol  five pairs of activation and initialiser; plain SGD on batches of ten; learning rate and depth chosen on
          validation examples; then fresh nets from several seeds, with their test error against updates; a net
          pre-trained by denoising autoencoders as the reference; an RBF-SVM beside a net on one fixed training set
Claims    sigmoid is worst by far and does not learn at depth 5; the normalized start helps tanh much and softsign
          little; tanh with it is among the best, beats the SVM, and closes much of the gap to pre-training
          (errors_claims.py)
Measured  results/glorot2010.errors-laptop: 6 of 9 claims hold, 3 unclear
Cost      demo under a minute on one core; laptop an hour on a busy one; paper a GPU
Differs   the grid of learning rates and the number of seeds (the paper prints neither), and what the report lists
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "FIXED_PAIR",
    "PAIRS",
    "SCALES",
    "Choice",
    "Config",
    "Net",
    "Pair",
    "choose",
    "final_nets",
    "fixed_nets",
    "search_nets",
]

PairName = Literal["sigmoid", "tanh", "tanh-n", "softsign", "softsign-n", "tanh-pretrained"]


class Pair(NamedTuple):
    """An activation and what the weights of its nets start from."""

    activation: str
    scheme: str  # a key of thruway.init.SCHEMES
    title: str  # as Table 1 has it
    is_pretrained: bool = False


PAIRS: dict[str, Pair] = {
    "softsign": Pair("softsign", "standard", "Softsign"),
    "softsign-n": Pair("softsign", "glorot_uniform", "Softsign N"),
    "tanh": Pair("tanh", "standard", "Tanh"),
    "tanh-n": Pair("tanh", "glorot_uniform", "Tanh N"),
    "sigmoid": Pair("sigmoid", "standard", "Sigmoid"),
    "tanh-pretrained": Pair("tanh", "glorot_uniform", "Tanh, pre-trained", is_pretrained=True),
}
"""In the order of Table 1; the last is the reference curve of fig. 11."""

FIXED_PAIR = "tanh-n"
"""What stands beside the SVM."""


_ALL_PAIRS: tuple[PairName, ...] = ("softsign", "softsign-n", "tanh", "tanh-n", "sigmoid", "tanh-pretrained")


class Config(BaseModel):
    """Everything that decides the numbers of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Literal["demo", "laptop", "paper"] = "demo"
    """demo: a minute; laptop: half an hour on one core; paper: as published, needs a GPU. Sets the other defaults."""
    data: str = "shapeset"
    """shapeset, drawn as it is needed, or a data set that `thruway list` names."""
    data_root: Path | None = None
    """Where the data lies; unset: the usual places."""
    download: bool = False
    """Get the data set if it is not there."""
    size: int = Field(default=16, ge=10)
    """Side of a Shapeset image, in pixels."""
    examples: int | None = Field(default=None, ge=100)
    """Images of a named data set's training part that are used, taken evenly over it; unset: all."""
    held_out: int = Field(default=1000, ge=10)
    """Shapeset images for validation, and as many for the test. Other sets have a test part, and give up to a fifth of
    their training part, at most 10,000 images, for validation."""
    pairs: tuple[PairName, ...] = Field(default=_ALL_PAIRS, min_length=1)
    depths: tuple[int, ...] = Field(default=(1, 5), min_length=1)
    """Hidden layers to choose from."""
    width: int = Field(default=50, ge=1)
    """Units of each hidden layer."""
    batch: int = Field(default=10, ge=1)
    learning_rates: tuple[float, ...] = Field(default=(0.01, 0.03, 0.1), min_length=1)
    """The grid to choose from; the gradient is that of the mean loss of a batch."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, ge=1)
    """Nets per pair at the end, with seeds seed, seed + 1, ...; a verdict needs three."""
    search_updates: int = Field(default=2000, ge=1)
    """Updates after which learning rate and depth are chosen."""
    updates: int = Field(default=6000, ge=1)
    """Updates of the nets that are tested."""
    evaluations: int = Field(default=12, ge=1)
    """Points of an error curve."""
    pretrain_updates: int = Field(default=500, ge=1)
    """Updates of each layer's denoising autoencoder."""
    pretrain_rate: float = Field(default=0.001, gt=0, lt=math.inf)
    noise: float = Field(default=0.25, ge=0, lt=1)
    """Share of an autoencoder's inputs that is set to 0."""
    fixed_examples: int = Field(default=500, ge=0)
    """Size of the training set that the SVM and a net share; 0 leaves both out."""
    fixed_updates: int = Field(default=2000, ge=1)
    svm_costs: tuple[float, ...] = Field(default=(1.0, 10.0), min_length=1)
    """The SVM's C to choose from."""
    svm_gammas: tuple[float, ...] = Field(default=(1.0, 3.0), min_length=1)
    """The SVM's gamma to choose from, in units of 1 / (inputs x variance of the inputs)."""
    device: str = "cpu"

    @model_validator(mode="after")
    def _can_be_run(self) -> "Config":
        if min(self.depths) < 1:
            raise ValueError(f"depths count hidden layers and start at 1, got {min(self.depths)}")
        for name in ("pairs", "depths", "learning_rates", "svm_costs", "svm_gammas"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names each value once, got {', '.join(map(str, values))}")
        for name in ("learning_rates", "svm_costs", "svm_gammas"):
            wrong = [value for value in getattr(self, name) if not 0 < value < math.inf]
            if wrong:
                raise ValueError(f"{name} are finite and above 0, got {wrong[0]}")
        for name in ("search_updates", "updates", "fixed_updates"):
            if getattr(self, name) < self.evaluations:
                raise ValueError(f"{name} is at least evaluations ({self.evaluations}), got {getattr(self, name)}")
        return self

    @property
    def deepest(self) -> int:
        """The depth at which the pairs are compared, 5 in Table 1."""
        return max(self.depths)


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(
        scale="laptop",
        size=32,
        held_out=5000,
        depths=(1, 3, 5),
        width=100,
        learning_rates=(0.01, 0.03, 0.1, 0.3),
        seeds=3,
        search_updates=20_000,
        updates=180_000,
        evaluations=20,
        pretrain_updates=10_000,
        fixed_examples=10_000,
        fixed_updates=60_000,
        svm_gammas=(1.0, 3.0, 6.0),
    ),
    "paper": Config(
        scale="paper",
        size=32,
        held_out=10_000,
        depths=(1, 2, 3, 4, 5),
        width=1000,
        learning_rates=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
        seeds=3,
        search_updates=5_000_000,
        updates=5_000_000,
        evaluations=100,
        pretrain_updates=500_000,
        fixed_examples=100_000,
        fixed_updates=1_000_000,
        svm_costs=(1.0, 10.0, 100.0),
        svm_gammas=(1.0, 3.0, 6.0),
        device="cuda",
    ),
}


class Net(NamedTuple):
    """One net to train."""

    stage: str  # search, final or fixed
    pair: str
    depth: int
    rate: float
    seed: int
    member: int  # tells it from the others of its site

    @property
    def site(self) -> str:
        """Where its numbers stand in the series."""
        return f"{self.stage}/{self.pair}/{self.depth}"


class Choice(NamedTuple):
    """What validation chose for a pair: the best depth and rate, and the best rate at the greatest depth."""

    depth: int
    rate: float
    deepest_rate: float


def search_nets(config: Config) -> tuple[Net, ...]:
    """Every pair at every depth with every learning rate; what is pre-trained stands at the greatest depth only."""
    return tuple(
        Net("search", pair, depth, rate, config.seed, member)
        for pair in config.pairs
        for depth in ((config.deepest,) if PAIRS[pair].is_pretrained else sorted(config.depths))
        for member, rate in enumerate(config.learning_rates)
    )


def choose(nets: Iterable[Net], valid_errors: Sequence[float]) -> dict[str, Choice]:
    """For each pair the depth and rate of lowest validation error; the first of several that are equal.

    A net whose error is NaN has diverged and is chosen only if all have.

    >>> nets = [Net("search", "tanh", depth, rate, 0, 0) for depth in (1, 5) for rate in (0.1, 0.3)]
    >>> choose(nets, [0.4, 0.3, float("nan"), 0.5])
    {'tanh': Choice(depth=1, rate=0.3, deepest_rate=0.3)}
    """
    ranked: dict[str, list[tuple[float, int, Net]]] = {}
    for number, (net, error) in enumerate(zip(nets, valid_errors, strict=True)):
        ranked.setdefault(net.pair, []).append((math.inf if math.isnan(error) else error, number, net))
    chosen = {}
    for pair, entries in ranked.items():
        deepest = max(net.depth for _, _, net in entries)
        best = min(entries)[2]
        at_deepest = min(entry for entry in entries if entry[2].depth == deepest)[2]
        chosen[pair] = Choice(best.depth, best.rate, at_deepest.rate)
    return chosen


def final_nets(config: Config, chosen: Mapping[str, Choice]) -> tuple[Net, ...]:
    """Fresh nets of every pair and seed at the greatest depth, and at the chosen one where that is another."""
    nets = []
    for pair, choice in chosen.items():
        rates = {choice.depth: choice.rate, config.deepest: choice.deepest_rate}
        for depth, rate in sorted(rates.items()):
            nets += [Net("final", pair, depth, rate, config.seed + member, member) for member in range(config.seeds)]
    return tuple(nets)


def fixed_nets(config: Config) -> tuple[Net, ...]:
    """The nets beside the SVM: every seed with every learning rate, at the greatest depth."""
    rates = config.learning_rates
    return tuple(
        Net("fixed", FIXED_PAIR, config.deepest, rate, config.seed + number, number * len(rates) + place)
        for number in range(config.seeds)
        for place, rate in enumerate(rates)
    )
