"""The nets of the study, their paths before and after deletions, and their errors."""

from functools import partial

from torch import nn

from thruway.experiments.experiment import Progress
from thruway.experiments.image_parts import Parts
from thruway.experiments.measuring import Measurement, run_measurements
from thruway.experiments.veit2016.harm import Row
from thruway.experiments.veit2016.lesion_run import delete_some
from thruway.experiments.veit2016.nets import opened, residual_net
from thruway.experiments.veit2016.path_survival import Config
from thruway.experiments.veit2016.paths_run import sampled_lengths
from thruway.runs import Run

__all__ = ["measurements", "run_study"]


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and measure every net, or what is left of it, into the run folder."""
    run_measurements(config, measurements(config, len(parts.test)), parts, run, progress)


def measurements(config: Config, examples: int = 1) -> list[Measurement]:
    """What is measured on which net; `examples` are those of the test part, for the costs."""
    found = []
    drawn = min(config.drawn_examples or examples, examples) * config.draws / 3
    for seed in config.all_seeds:
        net = residual_net(config, seed)
        cost = config.probe * config.depth * config.paths / 3
        found += [
            Measurement("delete_k", net, partial(delete_some, config, seed), drawn * len(config.ks)),
            Measurement("left", net, partial(_left, config, seed), cost),
        ]
    return found


def _left(config: Config, seed: int, model: nn.Module, parts: Parts) -> list[Row]:
    """What is left of the paths of each length, of all paths, and of what they carry, for each number of deletions."""
    lengths, _ = sampled_lengths(model, parts, config.probe, config.paths, seed)
    d = opened(model, parts)
    rows: list[Row] = [{**row, "what": "length"} for row in lengths]
    for k in config.ks:
        left = d.path_survival(k)
        rows.append(
            {
                "what": "left",
                "k": k,
                "left": list(left),
                "of_paths": sum(share * row["paths"] for share, row in zip(left, lengths, strict=True)),
                "of_contribution": sum(share * row["contribution"] for share, row in zip(left, lengths, strict=True)),
            }
        )
    return rows
