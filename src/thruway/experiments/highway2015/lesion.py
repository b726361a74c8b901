"""In a trained highway network of 50 layers the early layers matter; most of the later ones can be removed.

Paper     Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 4, fig. 4
Protocol  train a highway network of 50 layers; then, for each layer, measure the error on the training part with its
          transform gate closed, T = 0, so that the layer returns its input
Claims    layers 15 to 45 have almost no effect, and more than half of all layers have none; up to layer 45, the first
          15 layers account for most of the effect
Measured  results/highway2015.lesion-laptop
Cost      demo: 15 seconds on one core; laptop: six minutes; paper: requires a GPU
Differs   data and training at demo and laptop scale; activation, rate and gate bias are from pilot runs (the paper does
          not state the result of its search); in addition to T = 0, the gate is fixed at its mean, unit by unit
"""

import abc
import math
from functools import partial
from statistics import median
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from thruway.dissecting import Error, dissect
from thruway.experiments.machinery import Claim, ImageConfig, ImageParts, Measurement, Net, Rows
from thruway.experiments.machinery.measuring import Row
from thruway.experiments.machinery.training import evaluation_batches, guessing_error
from thruway.networks import mlp

__all__ = ["IDLE", "SCALES", "Config", "HighwayConfig", "claims", "highway_net", "measurements", "rises"]


class HighwayConfig(ImageConfig, abc.ABC):
    """Data, training recipe and network of the studies of one deep highway network."""

    depth: int = Field(default=50, ge=10)
    """Number of hidden layers. The first one is plain."""
    width: int = Field(default=50, ge=1)
    """Units per layer."""
    activation: Literal["relu", "tanh"] = "tanh"
    gate_bias: float = -2.0
    """Initial bias of the transform gates, before the sigmoid. The papers use -2 for MNIST and -4 for CIFAR-100."""


class Config(HighwayConfig):
    """Settings that determine the results of a run."""

    lesioned_examples: int | None = Field(default=None, ge=20)
    """Number of training examples, from the first one on, on which lesions are measured. If unset, all."""


_RECIPE: dict[str, Any] = {"learning_rate": 0.05, "weight_decay": 0.0, "clip": 1.0}

SCALES: dict[str, Config] = {
    # With a bias of -2, 50 layers do not start to learn 1,400 digits; tanh networks with -3 learn them in a few layers.
    "demo": Config(**{**_RECIPE, "learning_rate": 0.02}, activation="relu", gate_bias=-3.0, epochs=40),
    "laptop": Config(
        **_RECIPE, scale="laptop", data="fashion-mnist", epochs=20, batch=100, lesioned_examples=10_000, seeds=3
    ),
    "paper": Config(**_RECIPE, scale="paper", data="mnist", epochs=400, batch=100, seeds=3, device="cuda"),
}


def highway_net(config: HighwayConfig, seed: int) -> Net:
    """Return the highway network of one seed, for training. All layers except the first are one `HighwayStack`."""

    def build(parts: ImageParts, weights: torch.Generator, _coins: torch.Generator) -> nn.Module:
        return mlp(
            "highway",
            config.depth,
            config.width,
            parts.inputs,
            parts.classes,
            config.activation,
            config.gate_bias,
            fused=True,
            generator=weights,
        )

    return Net("highway", seed, build)


# --- measurements

# State of the lesioned layer's gate: closed, as in the paper, or held at its mean over the data.
_GATES = ("closed", "mean")

_BATCH = 1000  # examples


def measurements(config: Config) -> list[Measurement]:
    """Return the measurements: for the network of every seed, all layers with gates closed, and with mean gates."""

    def cost(parts: ImageParts) -> float:
        examples = len(parts.train)
        return min(config.lesioned_examples or examples, examples) * config.depth / 6

    return [
        Measurement(f"lesion_{gate}", highway_net(config, seed), partial(_lesions, config, gate), cost)
        for seed in config.all_seeds
        for gate in _GATES
    ]


def _lesions(config: Config, gate: str, model: nn.Module, parts: ImageParts) -> list[Row]:
    """Return the error on training examples with each layer lesioned. Layer 1 is the plain one."""
    images, labels = (each[: config.lesioned_examples] for each in (parts.train.images, parts.train.labels))
    found = dissect(model, images[:2]).delete_each(Error(evaluation_batches(images, labels, _BATCH)), gate=gate)
    return [
        {
            "gate": gate,
            "layer": each.index + 2,
            "error": each.value,
            "low": found.intact + each.low,
            "high": found.intact + each.high,
            "intact": found.intact,
            "guessing": guessing_error(labels),
        }
        for each in found
    ]


# --- claims. The thresholds were set before any run.

_PAPER = "Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 4, fig. 4"

IDLE = 0.005
"""A layer is idle if the error increases by less than this without it: half a percentage point."""


def rises(rows: Rows, gate: str = "closed", first: float = 1, last: float = math.inf) -> list[float]:
    """Return the increase of the error with one layer lesioned, for each layer from `first` to `last`.

    The list is empty for a network that has hardly learned, where a small increase would not mean anything.
    """
    mine = [row for row in rows if row["gate"] == gate and first <= row["layer"] <= last]
    mine = [row for row in mine if row["intact"] < 0.5 * row["guessing"]]
    return [float(row["error"] - row["intact"]) for row in sorted(mine, key=lambda row: int(row["layer"]))]


def _median_rise(rows: Rows, first: float, last: float) -> float:
    found = rises(rows, first=first, last=last)
    return median(found) if found else math.nan


def _idle_share(rows: Rows) -> float:
    found = rises(rows)
    return sum(rise < IDLE for rise in found) / len(found) if found else math.nan


def _early_share(rows: Rows, early_end: float, end: float) -> float:
    # Rises below IDLE are chance, and their sum does not depend on where they are.
    early, whole = (sum(rise for rise in rises(rows, last=last) if rise >= IDLE) for last in (early_end, end))
    return early / whole if whole else math.nan


def claims(config: Config) -> tuple[Claim, ...]:
    """Return the claims, about the layers at the paper's relative depths."""
    from_15, to_45 = round(15 * config.depth / 50), round(45 * config.depth / 50)
    return (
        Claim(
            id="later-layers-idle",
            text="On MNIST, layers 15 to 45 of 50 have almost no effect.",
            source=_PAPER,
            statistic=f"median increase of the training error (share) without one of the layers {from_15} to {to_45}",
            measure=lambda rows: _median_rise(rows, from_15, to_45),
            holds_if="<=",
            threshold=IDLE,
        ),
        Claim(
            id="most-layers-idle",
            text="About 60 % of all layers are idle.",
            source=_PAPER,
            statistic=f"share of the highway layers without which the training error increases by less than {IDLE:g}",
            measure=_idle_share,
            holds_if=">=",
            threshold=0.5,
        ),
        Claim(
            id="early-layers-matter",
            text="Among the layers up to 45, the early ones matter.",
            source=_PAPER,
            statistic=f"sum of the increases of at least {IDLE:g}, layers up to {from_15} / layers up to {to_45}",
            measure=lambda rows: _early_share(rows, from_15, to_45),
            holds_if=">=",
            threshold=0.5,
        ),
    )
