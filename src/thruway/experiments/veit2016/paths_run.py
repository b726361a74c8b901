"""The nets of the study, and their gradients by path length."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from thruway.dissecting.paths.results import PathGradients, SampledPaths
from thruway.experiments.experiment import Progress
from thruway.experiments.image_parts import Parts
from thruway.experiments.measuring import Measurement, run_measurements
from thruway.experiments.veit2016.harm import Row
from thruway.experiments.veit2016.nets import opened, residual_net
from thruway.experiments.veit2016.paths import Config
from thruway.runs import Run
from thruway.seeding import generator

__all__ = ["measurements", "run_study", "sampled_lengths"]


def run_study(config: Config, parts: Parts, run: Run, progress: Progress) -> None:
    """Train and take apart every net, or what is left of it, into the run folder."""
    run_measurements(config, measurements(config), parts, run, progress)


def measurements(config: Config) -> list[Measurement]:
    """What is measured on which net."""
    found = []
    for seed in config.all_seeds:
        net = residual_net(config, seed)
        cost = config.probe * config.depth
        found += [
            # Half of a path's modules are gone through backwards.
            Measurement("sampled", net, partial(_sampled, config, seed), cost * config.paths / 3),
            Measurement("exact", net, partial(_exact, config), cost / 3),
        ]
    return found


def sampled_lengths(
    model: nn.Module, parts: Parts, probe: int, paths: int, seed: int
) -> tuple[list[Row], dict[str, float]]:
    """One row per length by the published estimate, and what follows for all lengths together."""
    images, labels = parts.test.images[:probe], parts.test.labels[:probe]
    found = opened(model, parts).sampled_paths(_losses, images, labels, draws=paths, generator=generator(seed, "paths"))
    whole = sum(found.paths)
    columns = (found.mean.tolist(), found.spread.tolist(), found.contribution.tolist())
    rows: list[Row] = [
        {
            "what": "sampled",
            "length": length,
            "paths": count / whole,
            "gradient": gradient,
            "spread": spread,
            "contribution": contribution,
        }
        for length, (count, gradient, spread, contribution) in enumerate(zip(found.paths, *columns, strict=True))
    ]
    return rows, _together(found)


def _sampled(config: Config, seed: int, model: nn.Module, parts: Parts) -> list[Row]:
    rows, whole = sampled_lengths(model, parts, config.probe, config.paths, seed)
    return [*rows, {"what": "sampled_whole", **whole}]


def _exact(config: Config, model: nn.Module, parts: Parts) -> list[Row]:
    images, labels = parts.test.images[: config.probe], parts.test.labels[: config.probe]
    found = opened(model, parts).path_gradients(_losses, images, labels)
    whole = sum(found.paths)
    columns = (found.mean.tolist(), found.contribution.tolist(), found.share.tolist())
    rows: list[Row] = [
        {
            "what": "exact",
            "length": length,
            "paths": count / whole,
            "gradient": gradient,
            "contribution": contribution,
            "share": share,
        }
        for length, (count, gradient, contribution, share) in enumerate(zip(found.paths, *columns, strict=True))
    ]
    return [*rows, {"what": "exact_whole", **_together(found)}]


def _together(found: SampledPaths | PathGradients) -> dict[str, float]:
    """What follows for all lengths together."""
    effective, depth = found.effective_paths(), found.effective_depth()
    return {
        "shortest": effective.shortest,
        "longest": effective.longest,
        "carried": effective.share,
        "effective_paths": effective.paths,
        "depth": depth.value,
        "depth_low": depth.low,
        "depth_high": depth.high,
    }


def _losses(outputs: Tensor, labels: Tensor) -> Tensor:
    """One for each example, in nats."""
    return F.cross_entropy(outputs, labels, reduction="none")
