"""The nets of the study, and each of their layers shut in turn."""

from functools import partial

from torch import nn

from thruway.dissecting import dissect
from thruway.dissecting.lesions.metrics import Error
from thruway.experiments.experiment import Progress
from thruway.experiments.highway2015.gates_run import highway_net
from thruway.experiments.highway2015.lesion import Config
from thruway.experiments.image_parts import Parts
from thruway.experiments.measuring import Measurement, Row, run_measurements
from thruway.experiments.net_training import guessing_error, passes
from thruway.runs import Run

__all__ = ["GATES", "measurements", "run_study"]

# What becomes of a layer's gate: shut, as in the paper, or held at its mean over the data.
GATES = ("closed", "mean")

_AT_ONCE = 1000  # examples of a pass


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and lesion every net, or what is left of it, into the run folder."""
    run_measurements(config, measurements(config, len(parts.train)), parts, run, progress)


def measurements(config: Config, examples: int = 1) -> list[Measurement]:
    """What is measured on which net; `examples` are those of the training part, for the costs."""
    cost = min(config.lesioned_examples or examples, examples) * config.depth / 6
    return [
        Measurement(f"lesion_{gate}", highway_net(config, seed), partial(_lesions, config, gate), cost)
        for seed in config.all_seeds
        for gate in GATES
    ]


def _lesions(config: Config, gate: str, model: nn.Module, parts: Parts) -> list[Row]:
    """The error on training examples with one layer's gate changed; layers are counted from 1, the plain one."""
    images, labels = (each[: config.lesioned_examples] for each in (parts.train.images, parts.train.labels))
    found = dissect(model, images[:2]).delete_each(Error(passes(images, labels, _AT_ONCE)), gate=gate)
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
