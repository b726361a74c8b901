"""The two nets of the study, and what each gets wrong."""

import torch
from torch import nn

from thruway.experiments.experiment import Progress
from thruway.experiments.image_parts import Parts
from thruway.experiments.measuring import Measurement, run_measurements
from thruway.experiments.net_training import guessing_error, passes
from thruway.experiments.veit2016.effective_paths import Config
from thruway.experiments.veit2016.harm import Row
from thruway.experiments.veit2016.nets import residual_net, subset_net
from thruway.networks import ResNet
from thruway.nn import RandomSubset
from thruway.runs import Run

__all__ = ["measurements", "run_study"]


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and test both nets of every seed, or what is left of it, into the run folder."""
    run_measurements(config, measurements(config, len(parts.test)), parts, run, progress)


def measurements(config: Config, examples: int = 1) -> list[Measurement]:
    """What is measured on which net; `examples` are those of the test part, for the costs."""
    return [
        Measurement("tested", net, _tested, examples / 3)
        for seed in config.all_seeds
        for net in (residual_net(config, seed), subset_net(config, seed, config.used))
    ]


def _tested(model: nn.Module, parts: Parts) -> list[Row]:
    """Which test examples are wrong; of a net trained on subsets also with every module counted in full."""
    count = len(parts.test)
    row: Row = {"what": "tested", "examples": count, "guessing": guessing_error(parts.test.labels)}
    row["wrong"] = _wrong(model, parts)
    row["error"] = len(row["wrong"]) / count
    if isinstance(model, ResNet) and isinstance(model.blocks, RandomSubset):
        model.blocks.rescale = False
        try:
            row["error_in_full"] = len(_wrong(model, parts)) / count
        finally:
            model.blocks.rescale = True
    return [row]


def _wrong(model: nn.Module, parts: Parts) -> list[int]:
    """The indices of the test examples that the net gets wrong."""
    with torch.no_grad():
        found = [model(x).argmax(dim=-1) != y for x, y in passes(parts.test.images, parts.test.labels)]
    return [int(index) for index in torch.cat(found).nonzero().flatten()]
