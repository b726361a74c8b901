"""The two nets of the study, and what each loses without some of its modules."""

from functools import partial

from thruway.experiments.experiment import Progress
from thruway.experiments.image_parts import Parts
from thruway.experiments.measuring import Measurement, run_measurements
from thruway.experiments.veit2016.lesion_run import delete_one, delete_some
from thruway.experiments.veit2016.nets import residual_net, stochastic_net
from thruway.experiments.veit2016.stochastic_depth import Config
from thruway.runs import Run

__all__ = ["measurements", "run_study"]


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and lesion both nets of every seed, or what is left of it, into the run folder."""
    run_measurements(config, measurements(config, len(parts.test)), parts, run, progress)


def measurements(config: Config, examples: int = 1) -> list[Measurement]:
    """What is measured on which net; `examples` are those of the test part, for the costs."""
    found = []
    drawn = min(config.drawn_examples or examples, examples) * config.draws / 3
    for seed in config.all_seeds:
        for net in (residual_net(config, seed), stochastic_net(config, seed, config.survival)):
            found += [
                Measurement("delete_one", net, delete_one, examples * config.depth / 6),
                # Both nets lose the same modules.
                Measurement("delete_k", net, partial(delete_some, config, seed), drawn * len(config.ks)),
            ]
    return found
