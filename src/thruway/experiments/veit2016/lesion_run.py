"""The nets and the lesions of the study."""

from functools import partial

from torch import nn

from thruway.dissecting.lesions.metrics import Error
from thruway.experiments.experiment import Progress
from thruway.experiments.image_parts import Parts
from thruway.experiments.measuring import Measurement, run_measurements
from thruway.experiments.net_training import guessing_error, passes
from thruway.experiments.veit2016.harm import Row
from thruway.experiments.veit2016.lesion import Config
from thruway.experiments.veit2016.nets import opened, plain_net, residual_net
from thruway.experiments.veit2016.protocol import DeletionStudy
from thruway.runs import Run
from thruway.seeding import generator

__all__ = ["delete_one", "delete_some", "measurements", "run_study"]


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and lesion every net, or what is left of it, into the run folder."""
    run_measurements(config, measurements(config, len(parts.test)), parts, run, progress)


def measurements(config: Config, examples: int = 1) -> list[Measurement]:
    """What is measured on which net; `examples` are those of the test part, for the costs."""
    found = []
    drawn = min(config.drawn_examples or examples, examples) * config.draws / 3
    for seed in config.all_seeds:
        net = residual_net(config, seed)
        # A lesion starts at the module that is missing: half a pass each.
        found += [
            Measurement("delete_one", net, delete_one, examples * config.depth / 6),
            Measurement("delete_k", net, partial(delete_some, config, seed), drawn * len(config.ks)),
            Measurement("reorder", net, partial(_reorder, config, seed), drawn * len(config.swaps)),
        ]
        for name in config.plain:
            rate = config.vgg_learning_rate if name == "vgg" else None
            layered = plain_net(config, seed, config.vgg_width, name == "vgg-norm", rate)
            found.append(Measurement("delete_one", layered, delete_one, layered.cost * examples * 10 / 6))
    return found


def delete_one(model: nn.Module, parts: Parts) -> list[Row]:
    """The error without each module, or each layer of a VGG that keeps its size."""
    d = opened(model, parts)
    deletions = d.delete_each(Error(passes(parts.test.images, parts.test.labels)))
    return [
        {
            "what": "delete_one",
            "index": each.index,
            "branch": each.name,
            "resizes": not d.branches[each.index].keeps_shape,
            "error": each.value,
            "low": deletions.intact + each.low,
            "high": deletions.intact + each.high,
            "intact": deletions.intact,
            "guessing": guessing_error(parts.test.labels),
        }
        for each in deletions
    ]


def delete_some(config: DeletionStudy, seed: int, model: nn.Module, parts: Parts) -> list[Row]:
    """The error without k random modules, for every k of the config."""
    error = _error(config, parts)
    drawn = opened(model, parts).delete(config.ks, config.draws, error, generator(seed, "deleted"))
    guessing = guessing_error(parts.test.labels)
    return [
        {
            "what": "delete_k",
            "k": each.k,
            "draw": each.draw,
            "error": each.value,
            "intact": drawn.intact,
            "guessing": guessing,
        }
        for each in drawn
    ]


def _reorder(config: Config, seed: int, model: nn.Module, parts: Parts) -> list[Row]:
    error = _error(config, parts)
    drawn = opened(model, parts).permute_pairs(config.swaps, config.draws, error, generator(seed, "swapped"))
    guessing = guessing_error(parts.test.labels)
    return [
        {
            "what": "reorder",
            "k": each.k,
            "draw": each.draw,
            "tau": each.tau,
            "error": each.value,
            "intact": drawn.intact,
            "guessing": guessing,
        }
        for each in drawn
    ]


def _error(config: DeletionStudy, parts: Parts) -> Error:
    return Error(passes(parts.test.images[: config.drawn_examples], parts.test.labels[: config.drawn_examples]))
