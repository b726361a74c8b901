"""Every draw into the run folder, and going on where that stopped."""

import time

import torch
from torch import Tensor

from thruway.experiments.experiment import Progress
from thruway.experiments.glorot2010.cost_surface import Config, Draw, draws_of
from thruway.experiments.glorot2010.cost_surface_net import draw_net, guessing_cost, surfaces
from thruway.experiments.glorot2010.cost_surface_plateaus import flat_share, stuck_share
from thruway.runs import Run
from thruway.seeding import generator

__all__ = ["axis_of", "measure_draw", "prepare", "run_study"]

SHOWN = "surfaces"
"""The checkpoint with the surfaces of the first draw."""


def prepare(config: Config) -> None:
    """Nothing: nets and data are drawn."""


def axis_of(config: Config, reach: float) -> Tensor:
    """The values that either weight takes, (points,) float64."""
    return torch.linspace(-reach, reach, config.points, dtype=torch.float64)


def run_study(config: Config, _prepared: None, run: Run, progress: Progress) -> None:
    """Measure every set of draws that is not there yet."""
    seeds = [
        seed for seed in range(config.seed, config.seed + config.seeds) if f"draws-{seed}" not in run.checkpoints()
    ]
    left = [draw for draw in draws_of(config) if draw.seed in seeds]
    progress.begin(len(left))
    shown: dict[str, Tensor] = {}
    started = time.monotonic()
    for draw in left:
        found = measure_draw(config, draw, run)
        if draw.member == 0:
            shown = found
        if draw.number == config.draws - 1:
            run.log(0, {"seconds": time.monotonic() - started}, site="draws", member=draw.seed)
            run.save(f"draws-{draw.seed}", shown)
            shown, started = {}, time.monotonic()
        progress.advance(1, f"seed {draw.seed}, draw {draw.number + 1}")


def measure_draw(config: Config, draw: Draw, run: Run) -> dict[str, Tensor]:
    """Log how flat both costs of one net are, on every square; hand back the costs on the square that is shown."""
    net = draw_net(config, generator(draw.seed, "net", draw.number))
    shown: dict[str, Tensor] = {}
    for reach in config.reaches:
        for name, surface in surfaces(net, axis_of(config, reach)).items():
            guessing = guessing_cost(name, config.classes)
            shares = {}
            for fraction in config.fractions:
                shares[f"flat/{fraction:g}"] = flat_share(surface, fraction)
                shares[f"stuck/{fraction:g}"] = stuck_share(surface, fraction, guessing)
            run.log(0, shares, site=f"{name}/{reach:g}", member=draw.member)
            if reach == config.reach:
                shown[name] = surface.cost
    return shown
