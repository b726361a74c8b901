"""The test error of a deep network depends on its activation and its initialization.

Paper     Glorot & Bengio 2010, Table 1, figs. 11 and 12, and the SVM baseline of sec. 5
Protocol  five pairs of activation and initialiser; plain SGD on batches of ten; learning rate and depth chosen on
          validation examples; then new networks from several seeds, with their test error against updates; a network
          pre-trained by denoising autoencoders as the reference; an RBF-SVM and a network trained on the same fixed
          training set
Claims    sigmoid networks are by far the worst and do not learn at depth 5; normalized initialization helps tanh a lot
          and softsign little; tanh networks with it are among the best, beat the SVM, and close much of the gap to
          pre-training (errors_claims.py)
Measured  results/glorot2010.errors-laptop: 6 of 9 claims hold, 3 unclear
Cost      demo: under a minute on one core; laptop: an hour on a busy one; paper: requires a GPU
Differs   the grid of learning rates and the number of seeds (the paper states neither); the report lists all
          differences
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from thruway.errors import ConfigError
from thruway.experiments.glorot2010 import streams
from thruway.experiments.glorot2010.streams import Parts, StreamConfig
from thruway.experiments.methods import require_svm

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
    "load_parts",
    "search_nets",
]

PairName = Literal["sigmoid", "tanh", "tanh-n", "softsign", "softsign-n", "tanh-pretrained"]


class Pair(NamedTuple):
    """An activation and the scheme of the initial weights."""

    activation: str
    scheme: str  # a key of thruway.init.SCHEMES
    title: str  # as in Table 1
    is_pretrained: bool = False


PAIRS: dict[str, Pair] = {
    "softsign": Pair("softsign", "standard", "Softsign"),
    "softsign-n": Pair("softsign", "glorot_uniform", "Softsign N"),
    "tanh": Pair("tanh", "standard", "Tanh"),
    "tanh-n": Pair("tanh", "glorot_uniform", "Tanh N"),
    "sigmoid": Pair("sigmoid", "standard", "Sigmoid"),
    "tanh-pretrained": Pair("tanh", "glorot_uniform", "Tanh, pre-trained", is_pretrained=True),
}
"""Pairs of activation and initialization, in the order of Table 1; the last is the reference curve of fig. 11."""

FIXED_PAIR = "tanh-n"
"""The pair that is compared with the SVM."""

_ALL_PAIRS: tuple[PairName, ...] = ("softsign", "softsign-n", "tanh", "tanh-n", "sigmoid", "tanh-pretrained")


class Config(StreamConfig):
    """Settings that determine the results of a run."""

    held_out: int = Field(default=1000, ge=10)
    """Number of Shapeset images for validation, and for testing. Other data sets have a test part, and up to a fifth of
    their training part, at most 10,000 images, is used for validation."""
    pairs: tuple[PairName, ...] = Field(default=_ALL_PAIRS, min_length=1)
    depths: tuple[int, ...] = Field(default=(1, 5), min_length=1)
    """Numbers of hidden layers to choose from."""
    width: int = Field(default=50, ge=1)
    """Number of units in each hidden layer."""
    learning_rates: tuple[float, ...] = Field(default=(0.01, 0.03, 0.1), min_length=1)
    """Learning rates to choose from. The loss is the mean over a batch."""
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, ge=1)
    """Number of tested networks per pair, with seeds seed, seed + 1, ...; a definite verdict requires three."""
    search_updates: int = Field(default=2000, ge=1)
    """Number of updates after which learning rate and depth are chosen."""
    updates: int = Field(default=6000, ge=1)
    """Number of updates of the tested networks."""
    evaluations: int = Field(default=12, ge=1)
    """Number of points of an error curve."""
    pretrain_updates: int = Field(default=500, ge=1)
    """Number of updates of each layer's denoising autoencoder."""
    pretrain_rate: float = Field(default=0.001, gt=0, lt=math.inf)
    """Learning rate of the autoencoders."""
    noise: float = Field(default=0.25, ge=0, lt=1)
    """Share of an autoencoder's inputs that is set to 0."""
    fixed_examples: int = Field(default=500, ge=0)
    """Size of the training set shared by the SVM and a network. If 0, neither is trained."""
    fixed_updates: int = Field(default=2000, ge=1)
    """Number of updates of the networks on the shared training set."""
    svm_costs: tuple[float, ...] = Field(default=(1.0, 10.0), min_length=1)
    """Values of the SVM's C to choose from."""
    svm_gammas: tuple[float, ...] = Field(default=(1.0, 3.0), min_length=1)
    """Values of the SVM's gamma to choose from, in units of 1 / (inputs x variance of the inputs)."""

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
        """Depth at which the pairs are compared, 5 in Table 1."""
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


def load_parts(config: Config) -> Parts:
    """Load the data of a run onto the training device.

    Raises:
        ConfigError: if the data set is unknown or was never published, if a batch or the fixed training set is larger
            than the training part, or if scikit-learn, which the SVM needs, is missing.
        DatasetError: if the data is missing or damaged.
    """
    if config.fixed_examples:
        try:
            require_svm()
        except ConfigError as error:
            raise ConfigError(f"{error} Or omit the SVM with --fixed-examples 0.") from error
    return streams.load_parts(config, config.held_out, config.fixed_examples)


# --- the networks, as functions of the config and of the choice


class Net(NamedTuple):
    """One network to train."""

    stage: str  # search, final or fixed
    pair: str
    depth: int
    rate: float
    seed: int
    member: int  # its number among the networks of its site

    @property
    def site(self) -> str:
        """Site of the network's numbers in the run's series."""
        return f"{self.stage}/{self.pair}/{self.depth}"


class Choice(NamedTuple):
    """Settings of a pair chosen on validation data: best depth and rate, and best rate at the greatest depth."""

    depth: int
    rate: float
    deepest_rate: float


def search_nets(config: Config) -> tuple[Net, ...]:
    """Return a network for every pair, depth and learning rate; pre-trained ones at the greatest depth only."""
    return tuple(
        Net("search", pair, depth, rate, config.seed, member)
        for pair in config.pairs
        for depth in ((config.deepest,) if PAIRS[pair].is_pretrained else sorted(config.depths))
        for member, rate in enumerate(config.learning_rates)
    )


def choose(nets: Iterable[Net], valid_errors: Sequence[float]) -> dict[str, Choice]:
    """Choose for each pair the depth and rate with the lowest validation error; the first one if several are equal.

    A network whose error is NaN has diverged and is chosen only if all networks have diverged.

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
    """Return the networks of every pair and seed at the greatest depth, and at the chosen depth if it differs."""
    nets = []
    for pair, choice in chosen.items():
        rates = {choice.depth: choice.rate, config.deepest: choice.deepest_rate}
        for depth, rate in sorted(rates.items()):
            nets += [Net("final", pair, depth, rate, config.seed + member, member) for member in range(config.seeds)]
    return tuple(nets)


def fixed_nets(config: Config) -> tuple[Net, ...]:
    """Return the networks to compare with the SVM: one for every seed and learning rate, at the greatest depth."""
    rates = config.learning_rates
    return tuple(
        Net("fixed", FIXED_PAIR, config.deepest, rate, config.seed + number, number * len(rates) + place)
        for number in range(config.seeds)
        for place, rate in enumerate(rates)
    )
