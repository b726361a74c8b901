"""The whole study into its run folder, and going on where that stopped: every start, then some of the nets trained."""

import time
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from thruway.experiments.experiment import Progress
from thruway.experiments.glorot2010.initialization import SCHEMES, Config, Net, start_nets
from thruway.experiments.glorot2010.initialization_data import Parts
from thruway.experiments.glorot2010.initialization_start import measure_start
from thruway.experiments.glorot2010.initialization_training import Training, train_net, trained_widths, updates_made
from thruway.runs import Run

__all__ = ["run_study"]


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Measure and train what is left of it."""
    known = {"inputs": parts.inputs, "classes": parts.classes}
    run.log(0, {"mean_square": float(parts.probe[0].double().square().mean()), **known}, site="data")
    nets, done = start_nets(config), run.checkpoints()
    seeds = [seed for seed in _seeds(config, config.seeds) if _start_name(seed) not in done]
    trainings = [Training(scheme, seed) for seed in _seeds(config, config.trained_seeds) for scheme in SCHEMES]
    left = {training: config.updates - updates_made(training, run) for training in trainings}
    update_cost = _update_cost(config, trained_widths(config, parts))
    progress.begin(len(seeds) * sum(_start_cost(config, net, parts) for net in nets) + update_cost * sum(left.values()))
    for seed in seeds:
        _measure_seed(config, nets, seed, parts, run, progress)
    for training, updates in left.items():
        if updates:
            train_net(config, training, parts, run, progress, update_cost)


def _measure_seed(config: Config, nets: Sequence[Net], seed: int, parts: Parts, run: Run, progress: Progress) -> None:
    started = time.monotonic()
    histograms: dict[str, Tensor] = {}
    for net in nets:
        found = measure_start(config, net, seed, parts, run)
        histograms |= {f"{net.scheme}/{what}": table for what, table in found.items()}
        progress.advance(_start_cost(config, net, parts), f"{net.site}, seed {seed}")
    run.log(0, {"seconds": time.monotonic() - started}, site="start", member=seed)
    run.save(_start_name(seed), histograms)


def _start_name(seed: int) -> str:
    return f"start-{seed}"


def _seeds(config: Config, count: int) -> range:
    return range(config.seed, config.seed + count)


# Seconds of one slow core, roughly: only their proportions matter.


def _start_cost(config: Config, net: Net, parts: Parts) -> float:
    widths = (parts.inputs, *config.widths(net.shape))
    passes = _weights(widths) * (1e-7 + 4e-10 * config.probe + 4e-8 * config.singles)
    if net.shape != "equal":
        return passes
    jacobians = config.singles if net.activation == "tanh" else 1
    return passes + jacobians * config.depth * 4e-10 * config.width**3


def _update_cost(config: Config, widths: Sequence[int]) -> float:
    return 3e-4 + _weights(widths) * (4e-9 + 2e-10 * config.batch)


def _weights(widths: Sequence[int]) -> int:
    return sum(a * b for a, b in pairwise(widths))
