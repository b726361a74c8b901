"""The nets of the study, what each has learnt, and how far its gates are open from layer to layer."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from thruway.experiments.experiment import Progress
from thruway.experiments.highway2015.gates_heard import sum_over
from thruway.experiments.highway2015.very_deep import Config
from thruway.experiments.image_parts import Parts
from thruway.experiments.measuring import Measurement, Row, read_rows, run_measurements
from thruway.experiments.net_training import Net, error_rate, guessing_error, passes
from thruway.networks import mlp, paired_width
from thruway.runs import Run, RunReader

__all__ = ["measurements", "read_nets", "run_study"]

# All layers' states of a pass are in memory: 1,000 layers of 50 units, inputs, H and T, are 60 MB per 100 examples.
_AT_ONCE = 100
_GATES_OF = 500  # training examples over which the gates' means are taken


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train every net and test it, or what is left of both, into the run folder."""
    run_measurements(config, measurements(config, len(parts.train) + len(parts.test)), parts, run, progress)


def measurements(config: Config, examples: int = 1) -> list[Measurement]:
    """What is measured on which net; `examples` are those of both parts, for the costs."""
    found = []
    for seed in config.all_seeds:
        found.append(_tested(config, seed, "highway", config.activation, config.learning_rate, examples))
        found += [
            _tested(config, seed, "plain", activation, rate, examples)
            for activation in config.plain_activations
            for rate in config.plain_rates
        ]
    return found


def _tested(config: Config, seed: int, block: str, activation: str, rate: float, examples: int) -> Measurement:
    width = paired_width(block, config.width)

    def build(parts: Parts, weights: torch.Generator, _coins: torch.Generator) -> nn.Module:
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

    def measure(model: nn.Module, parts: Parts) -> list[Row]:
        given = {"block": block, "depth": config.depth, "width": width, "activation": activation, "learning_rate": rate}
        return [given | _outcome(model, parts) | (_gates(model, parts) if block == "highway" else {})]

    name = "highway" if block == "highway" else f"plain-{activation}-{rate:g}"
    # Layer by layer a plain net takes longer than a highway net in one piece.
    cost = config.depth / 1000 * (1.0 if block == "highway" else 1.5)
    net = Net(name, seed, build, learning_rate=rate, weights=f"{block}-{activation}", cost=cost)
    return Measurement("tested", net, measure, cost * examples / 3)


def _outcome(model: nn.Module, parts: Parts) -> dict[str, Any]:
    """How well the net does on both parts; a loss of NaN or infinity if it has diverged."""
    train = parts.train
    with torch.no_grad():
        loss = sum(
            float(F.cross_entropy(model(images), labels, reduction="sum"))
            for images, labels in passes(train.images, train.labels)
        )
    return {
        "final_loss": loss / len(train),
        "train_error": error_rate(model, train.images, train.labels),
        "test_error": error_rate(model, parts.test.images, parts.test.labels),
        "guessing": guessing_error(train.labels.cpu()),
        "chance_loss": math.log(parts.classes),
    }


def _gates(model: nn.Module, parts: Parts) -> dict[str, Any]:
    """The mean transform gate of every highway layer; enough digits for a curve."""
    images, labels = parts.train.images[:_GATES_OF], parts.train.labels[:_GATES_OF]
    sums = sum_over(model, passes(images, labels, _AT_ONCE), parts.classes)
    means = sums.gates.sum(0).mean(1) / len(labels)
    return {"gates": [float(f"{mean:.4g}") for mean in means.tolist()]}


def read_nets(reader: RunReader, config: Config) -> list[Row]:
    """A row per net that is trained and tested, with its training loss of every epoch."""
    rows = []
    for row in read_rows(reader, measurements(config)):
        table = reader.table(site=row["net"], member=row["seed"], quantity="train_loss")
        # A killed and resumed run logs some epochs twice, with the same numbers.
        losses = dict(zip(table["step"].tolist(), table["value"].tolist(), strict=True))
        rows.append(row | {"losses": [losses[epoch] for epoch in sorted(losses)]})
    return rows
