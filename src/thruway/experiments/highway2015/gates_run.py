"""The nets of the study, and what is found out about their gates."""

from functools import partial

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.experiments.experiment import Progress
from thruway.experiments.highway2015 import lesion
from thruway.experiments.highway2015.gates import Config
from thruway.experiments.highway2015.gates_heard import Sums, hear, stack_of, sum_over
from thruway.experiments.image_parts import Parts, load_parts
from thruway.experiments.measuring import Measurement, Row, run_measurements
from thruway.experiments.net_training import Net, guessing_error, passes
from thruway.networks import mlp
from thruway.runs import Run

__all__ = ["highway_net", "load_looked_at", "measurements", "run_study"]

_AT_ONCE = 500  # examples of a pass; all its states are in memory


def load_looked_at(config: Config) -> Parts:
    """Both parts of the data set on the device that trains.

    Raises:
        ConfigError: for an example or a class that the data does not have, or as `load_parts`.
        DatasetError: if the data is not there, or damaged.
        RunError: if `nets_of` is no run folder.
    """
    parts = load_parts(config)
    labels = parts.train.labels[: config.looked_at]
    if config.example >= len(parts.train):
        raise ConfigError(
            f"example: got {config.example}, but there are {len(parts.train)} training examples, from 0 on. "
            "Take one of them."
        )
    for number in config.classes:
        if not bool((labels == number).any()):
            raise ConfigError(
                f"classes: got {number}, but none of the {len(labels)} examples looked at is of that class of "
                f"{config.data}. It has: {', '.join(f'{i} {name}' for i, name in enumerate(parts.train.classes))}."
            )
    return parts


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train every net and look at its gates, or what is left of both, into the run folder."""
    run_measurements(config, measurements(config, len(parts.train)), parts, run, progress)


def measurements(config: Config, examples: int = 1) -> list[Measurement]:
    """What is measured on which net; `examples` are those of the training part, for the costs."""
    cost = min(config.looked_at or examples, examples) / 2
    layers = [
        Measurement("layers", highway_net(config, seed), partial(_layers, config), cost) for seed in config.all_seeds
    ]
    # Of one net only: maps are for looking at.
    return [*layers, Measurement("maps", highway_net(config, config.seed), partial(_maps, config), cost)]


def highway_net(config: Config | lesion.Config, seed: int) -> Net:
    """The net whose layers, or gates, are looked at: the first layer plain, the others one stack."""

    def build(parts: Parts, weights: torch.Generator, _coins: torch.Generator) -> nn.Module:
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


def _layers(config: Config, model: nn.Module, parts: Parts) -> list[Row]:
    """A row per highway layer, counted from 2 as the first is the plain one; and one of the net as a whole."""
    sums, labels = _sums(config, model, parts), parts.train.labels[: config.looked_at]
    examples = int(sums.counts.sum())
    bias, mean, differences = _biases(model), _mean(sums), _differences(config, sums)
    whole = {"error": sums.wrong / examples, "guessing": guessing_error(labels.cpu())}
    change = (sums.change / sums.inputs).sqrt()
    by_layer: list[Row] = [
        {
            "what": "layer",
            "layer": layer + 2,
            "bias": bias[layer].mean().item(),
            "fallen": (bias[layer] < config.gate_bias).double().mean().item(),
            "gate": mean[layer].mean().item(),
            "change": change[layer].item(),
            "difference": differences[:, layer].abs().mean().item(),
            **whole,
        }
        for layer in range(len(bias))
    ]
    return [*by_layer, {"what": "whole", "sparseness": sums.sparseness / examples, **whole}]


def _maps(config: Config, model: nn.Module, parts: Parts) -> list[Row]:
    """A row per highway layer, with a number for each of its units; enough digits for a map."""
    sums = _sums(config, model, parts)
    heard = hear(model, parts.train.images[config.example : config.example + 1])
    kinds = {
        "bias": _biases(model),
        "gate": _mean(sums),
        "gate_of_one": heard.gates[:, 0],
        "output_of_one": heard.outputs[:, 0],
    }
    differences = _differences(config, sums)
    names = [parts.train.classes[number] for number in config.classes]
    class_of_one = parts.train.classes[int(parts.train.labels[config.example])]
    return [
        {
            "what": "map",
            "layer": layer + 2,
            **{kind: _short(table[layer]) for kind, table in kinds.items()},
            "differences": [_short(table[layer]) for table in differences],
            "classes": names,
            "class_of_one": class_of_one,
        }
        for layer in range(len(heard.gates))
    ]


def _sums(config: Config, model: nn.Module, parts: Parts) -> Sums:
    images, labels = parts.train.images[: config.looked_at], parts.train.labels[: config.looked_at]
    return sum_over(model, passes(images, labels, _AT_ONCE), parts.classes)


def _biases(model: nn.Module) -> Tensor:
    """Of the transform gates, (layers, width), in float64: a bias that has not moved equals its start."""
    stack = stack_of(model)
    return stack.bias.detach()[:, stack.width :].double().cpu()


def _mean(sums: Sums) -> Tensor:
    return sums.gates.sum(0) / sums.counts.sum()


def _differences(config: Config, sums: Sums) -> Tensor:
    """The mean gate over a class less that over all examples, (2, layers, width)."""
    chosen = list(config.classes)
    return sums.gates[chosen] / sums.counts[chosen, None, None] - _mean(sums)


def _short(values: Tensor) -> list[float]:
    return [float(f"{value:.4g}") for value in values.tolist()]
