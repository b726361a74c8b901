"""A highway network of 1,000 layers trains; a plain network of that depth does not start to learn.

Paper     Srivastava, Greff & Schmidhuber 2015: Highway Networks, sec. 3 (900 layers, CIFAR-100, 80 epochs); Training
          Very Deep Networks, sec. 2.2 (SGD did not stall in pilots beyond 1,000 layers)
Protocol  a highway network of 1,000 layers, and plain networks of the same depth and number of parameters, trained by
          SGD with momentum; training loss against epoch, for which the papers show no curve
Claims    the highway network learns, without setbacks; the plain ones do not
Measured  results/highway2015.very_deep-laptop
Cost      demo: 40 seconds on one busy core; laptop: 28 minutes on one busy core (26 of training); paper: requires a GPU
Differs   data, width and recipe, which the papers do not state for this network; its gate bias of -7 is from pilot
          runs; plain networks for comparison, which the papers have only up to 100 layers
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional as F

from thruway.experiments.highway2015.recorded_gates import gate_at, sum_gates
from thruway.experiments.machinery import Claim, ImageConfig, ImageParts, Measurement, Net, Rows
from thruway.experiments.machinery.measuring import Row, read_rows
from thruway.experiments.machinery.training import error_rate, evaluation_batches, guessing_error
from thruway.networks import mlp, paired_width
from thruway.runs import RunReader

__all__ = [
    "SCALES",
    "Config",
    "best_plain",
    "claims",
    "lowest_plain",
    "measurements",
    "rows_with_losses",
    "setback",
]


class Config(ImageConfig):
    """Settings that determine the results of a run."""

    depth: int = Field(default=1000, ge=10)
    """Number of hidden layers. The first one is plain in every network."""
    width: int = Field(default=50, ge=1)
    """Units per highway layer. The width of the plain networks gives the same number of parameters (71 for 50)."""
    activation: Literal["relu", "tanh"] = "relu"
    gate_bias: float = -7.0
    """Initial bias of the transform gates, before the sigmoid. At -7, each gate is initially open by about 0.001, so
    that 1,000 layers together change a signal about as much as one open layer."""
    plain_activations: tuple[Literal["relu", "tanh"], ...] = ("relu",)
    """Activations of the plain networks, one network each."""
    plain_rates: tuple[float, ...] = (0.1,)
    """Learning rates with which each plain network is trained. The best result is used."""

    @model_validator(mode="after")
    def _has_plain_rates(self) -> "Config":
        if not all(rate > 0 for rate in self.plain_rates):
            raise ValueError(f"plain_rates must be learning rates above 0, got {self.plain_rates}")
        for name in ("plain_activations", "plain_rates"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must differ from each other, got {getattr(self, name)}")
        return self


# As in the pilots: a constant rate after the first epoch, no weight decay.
_RECIPE: dict[str, Any] = {"weight_decay": 0.0, "drops": ()}

SCALES: dict[str, Config] = {
    "demo": Config(**_RECIPE, epochs=8, batch=100),
    "laptop": Config(
        **_RECIPE,
        scale="laptop",
        data="fashion-mnist",
        examples=4000,
        test_examples=2000,
        epochs=8,
        batch=100,
        seeds=3,
        plain_activations=("relu", "tanh"),
        plain_rates=(0.1, 0.01),
    ),
    "paper": Config(
        **_RECIPE,
        scale="paper",
        data="cifar100",
        depth=900,
        epochs=80,
        batch=100,
        seeds=3,
        plain_activations=("relu", "tanh"),
        plain_rates=(0.1, 0.01, 0.001),
        device="cuda",
    ),
}


# --- measurements

# The states of all layers are in memory: inputs, H and T of 1,000 layers of 50 units are 60 MB per 100 examples.
_BATCH = 100
_GATES_OF = 500  # training examples over which mean gates are taken


def measurements(config: Config) -> list[Measurement]:
    """Return the measurements: for each seed, the tests of the highway network and of the plain ones."""
    found = []
    for seed in config.all_seeds:
        found.append(_tested(config, seed, "highway", config.activation, config.learning_rate))
        found += [
            _tested(config, seed, "plain", activation, rate)
            for activation in config.plain_activations
            for rate in config.plain_rates
        ]
    return found


def _tested(config: Config, seed: int, block: str, activation: str, rate: float) -> Measurement:
    width = paired_width(block, config.width)
    # A plain network, run layer by layer, takes longer than a highway network that runs as one fused stack.
    cost = config.depth / 1000 * (1.0 if block == "highway" else 1.5)

    def build(parts: ImageParts, weights: torch.Generator, _coins: torch.Generator) -> nn.Module:
        return mlp(
            block,
            config.depth,
            width,
            parts.inputs,
            parts.classes,
            activation,
            config.gate_bias,
            fused=block == "highway",
            generator=weights,
        )

    def measure(model: nn.Module, parts: ImageParts) -> list[Row]:
        net = {"block": block, "depth": config.depth, "width": width, "activation": activation, "learning_rate": rate}
        return [net | _results(model, parts) | (_gates(model, parts) if block == "highway" else {})]

    def test_cost(parts: ImageParts) -> float:
        return cost * (len(parts.train) + len(parts.test)) / 3  # a forward pass is a third of a training step

    name = "highway" if block == "highway" else f"plain-{activation}-{rate:g}"
    net = Net(name, seed, build, learning_rate=rate, weights=f"{block}-{activation}", cost=cost)
    return Measurement("tested", net, measure, test_cost)


def _results(model: nn.Module, parts: ImageParts) -> dict[str, Any]:
    """Return the loss and the errors. The loss is NaN or infinite if the network has diverged."""
    train = parts.train
    with torch.no_grad():
        loss = sum(
            float(F.cross_entropy(model(images), labels, reduction="sum"))
            for images, labels in evaluation_batches(train.images, train.labels)
        )
    return {
        "final_loss": loss / len(train),
        "train_error": error_rate(model, train.images, train.labels),
        "test_error": error_rate(model, parts.test.images, parts.test.labels),
        "guessing": guessing_error(train.labels.cpu()),
        "chance_loss": math.log(parts.classes),
    }


def _gates(model: nn.Module, parts: ImageParts) -> dict[str, Any]:
    """Return the mean transform gate of every highway layer, rounded to enough digits for a curve."""
    images, labels = parts.train.images[:_GATES_OF], parts.train.labels[:_GATES_OF]
    sums = sum_gates(model, evaluation_batches(images, labels, _BATCH), parts.classes)
    means = sums.gates.sum(0).mean(1) / len(labels)
    return {"gates": [float(f"{mean:.4g}") for mean in means.tolist()]}


def rows_with_losses(reader: RunReader, config: Config) -> list[Row]:
    """Return the row of every tested network, including its training loss in every epoch."""
    rows = []
    for row in read_rows(reader, measurements(config)):
        table = reader.table(site=row["net"], member=row["seed"], quantity="train_loss")
        # A killed and resumed run logs some epochs twice, with the same numbers.
        losses = dict(zip(table["step"].tolist(), table["value"].tolist(), strict=True))
        rows.append(row | {"losses": [losses[epoch] for epoch in sorted(losses)]})
    return rows


# --- claims. The thresholds were set before any run.

_LEARNT = 0.5  # of the error of guessing
_FIRST = "Srivastava, Greff & Schmidhuber 2015 (Highway Networks), sec. 3"


def setback(losses: Sequence[float]) -> float:
    """Return the largest increase of a loss above its lowest value so far, in nats.

    It is infinite if any loss is not finite, and NaN for a single loss.

    >>> setback([2.0, 1.0, 1.5, 0.5]), setback([2.0, 1.0]), setback([1.0, float("nan")])
    (0.5, 0.0, inf)
    """
    if not all(math.isfinite(loss) for loss in losses):
        return math.inf
    if len(losses) < 2:
        return math.nan
    lowest, most = losses[0], 0.0
    for loss in losses[1:]:
        most, lowest = max(most, loss - lowest), min(lowest, loss)
    return most


def lowest_plain(rows: Rows) -> float:
    """Return the lowest mean training loss of any plain network in any epoch, divided by the loss of guessing.

    It is infinite if no loss is finite, and NaN without a plain network.
    """
    found = [loss / row["chance_loss"] for row in rows if row["block"] == "plain" for loss in row["losses"]]
    if not found:
        return math.nan
    return min((each for each in found if math.isfinite(each)), default=math.inf)


def best_plain(rows: Rows) -> float:
    """Return `lowest_plain` of one seed; NaN if the error of its highway network is above half the guessing error.

    If the highway network has not learned either, plain networks that do not learn are not evidence.
    """
    return lowest_plain(rows) if _error_over_guessing(rows) <= _LEARNT else math.nan


def _highway(rows: Rows) -> Mapping[str, Any] | None:
    return next((row for row in rows if row["block"] == "highway"), None)


def _error_over_guessing(rows: Rows) -> float:
    row = _highway(rows)
    return math.nan if row is None else float(row["train_error"] / row["guessing"])


def _setback_over_guessing(rows: Rows) -> float:
    row = _highway(rows)
    return math.nan if row is None else setback(row["losses"]) / float(row["chance_loss"])


def claims(config: Config) -> tuple[Claim, ...]:
    """Return the claims, about networks of this depth."""
    depth = f"{config.depth:,}"
    open_at_first = (config.depth - 1) * gate_at(config.gate_bias)  # the first layer is a plain one
    return (
        Claim(
            id="highway-learns",
            text=f"A highway network of {depth} layers learns.",
            source=f"{_FIRST} (900 layers, CIFAR-100)",
            statistic="final training error / error of always predicting the most frequent class. It does not "
            f"show how many layers are used: with an initial gate bias of {config.gate_bias:g} all layers together "
            f"start like {open_at_first:.1f} open ones, and a network that remains nearly as shallow can pass",
            measure=_error_over_guessing,
            holds_if="<=",
            threshold=_LEARNT,
        ),
        Claim(
            id="without-trouble",
            text=f"The training loss of a highway network of {depth} layers falls without setbacks.",
            source=f"{_FIRST} (no optimisation trouble in 80 epochs)",
            statistic="largest increase of the training loss of an epoch above that of any earlier epoch / chance loss",
            measure=_setback_over_guessing,
            holds_if="<=",
            threshold=0.1,
        ),
        Claim(
            id="plain-does-not",
            text=f"Plain networks of {depth} layers do not learn.",
            source="Ours; the papers' plain networks have at most 100 layers, and stall at that depth already",
            statistic="lowest training loss of any plain network in any epoch / chance loss",
            measure=best_plain,
            holds_if=">=",
            threshold=0.9,
        ),
    )
