"""Short paths carry the gradient of a deep residual network, although nearly all paths have a medium length.

Paper     Veit, Wilber & Belongie 2016, sec. 4.4 to 5, fig. 6
Protocol  train a residual network; then count the paths of each length, and measure the gradient with respect to the
          input along single random paths of each length, as published, and as the exact sum over all paths of a length
Claims    path lengths follow a binomial distribution; the gradient along a path falls exponentially with its length;
          short paths contribute nearly all of the gradient
Measured  results/veit2016.paths-laptop
Cost      demo: 15 seconds on one core; laptop: about 20 minutes, 4 with networks of veit2016.lesion; paper: requires a
          GPU
Differs   data, size and training at demo and laptop scale; the exact decomposition in addition to the published
          estimate; the report lists all differences
"""

import math
from functools import partial

import numpy as np
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.dissecting.paths.results import PathGradients, SampledPaths
from thruway.experiments.machinery import Claim, ImageParts, Measurement, Rows, only
from thruway.experiments.machinery.measuring import Row
from thruway.experiments.veit2016.nets import LAPTOP, PAPER, PaperConfig, dissected_net, residual_net
from thruway.seeding import generator

__all__ = ["SCALES", "Config", "claims", "decay", "measurements", "sampled_lengths"]


class Config(PaperConfig):
    """Settings that determine the results of a run."""

    probe: int = Field(default=64, ge=1)
    """Number of test examples, from the first one on, whose gradients are decomposed."""
    paths: int = Field(default=20, ge=2)
    """Number of random paths of each length."""


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(**LAPTOP, paths=40),
    "paper": Config(**PAPER, probe=128, paths=100),
}


def measurements(config: Config) -> list[Measurement]:
    """Return the measurements: gradients along sampled paths, and exact sums for each length."""
    found = []
    for seed in config.all_seeds:
        net = residual_net(config, seed)
        found += [
            Measurement("sampled", net, partial(_sampled, config, seed), partial(_cost, config, config.paths)),
            Measurement("exact", net, partial(_exact, config), partial(_cost, config, 1)),
        ]
    return found


def _cost(config: Config, paths: int, _parts: ImageParts) -> float:
    return config.probe * config.depth * paths / 3


def sampled_lengths(
    model: nn.Module, parts: ImageParts, probe: int, paths: int, seed: int
) -> tuple[list[Row], dict[str, float]]:
    """Return one row per path length with the published estimate, and statistics over all lengths."""
    images, labels = parts.test.images[:probe], parts.test.labels[:probe]
    found = dissected_net(model, parts).sampled_paths(
        _losses, images, labels, draws=paths, generator=generator(seed, "paths")
    )
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
    return rows, _statistics(found)


def _sampled(config: Config, seed: int, model: nn.Module, parts: ImageParts) -> list[Row]:
    rows, whole = sampled_lengths(model, parts, config.probe, config.paths, seed)
    return [*rows, {"what": "sampled_whole", **whole}]


def _exact(config: Config, model: nn.Module, parts: ImageParts) -> list[Row]:
    images, labels = parts.test.images[: config.probe], parts.test.labels[: config.probe]
    found = dissected_net(model, parts).path_gradients(_losses, images, labels)
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
    return [*rows, {"what": "exact_whole", **_statistics(found)}]


def _statistics(found: SampledPaths | PathGradients) -> dict[str, float]:
    """Return statistics over all lengths."""
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
    """Return the loss of each example in nats."""
    return F.cross_entropy(outputs, labels, reduction="none")


# --- claims: thresholds were set before any run

_PAPER = "Veit, Wilber & Belongie 2016"


def _near_half(rows: Rows, depth: int) -> float:
    """Return the share of the paths whose length is within 1.2 sqrt(n) of n/2."""
    found = only(rows, what="sampled")
    reach = 1.2 * math.sqrt(depth)
    return sum(row["paths"] for row in found if abs(row["length"] - depth / 2) <= reach) if found else math.nan


def decay(rows: Rows) -> tuple[float, float]:
    """Fit an exponential decay of the gradient with the path length, and return the factor per module and R^2.

    Both are NaN without gradients.
    """
    found = [(row["length"], row["gradient"]) for row in only(rows, what="sampled") if row["gradient"] > 0]
    if len(found) < 3:
        return math.nan, math.nan
    lengths, logs = np.array([length for length, _ in found], float), np.log([gradient for _, gradient in found])
    slope, offset = np.polyfit(lengths, logs, 1)
    left = logs - (slope * lengths + offset)
    return float(np.exp(slope)), float(1 - left.var() / logs.var())


def _falls(rows: Rows) -> float:
    """Return R^2 of the exponential law, with a negative sign if the gradient increases with length."""
    factor, fit = decay(rows)
    return fit if factor < 1 else -fit


def _whole(rows: Rows, what: str, key: str) -> float:
    found = only(rows, what=what)
    return float(found[0][key]) if found else math.nan


def claims(config: Config) -> tuple[Claim, ...]:
    """Return the claims for the number of modules of this network."""
    n = config.depth
    return (
        Claim(
            id="lengths-binomial",
            text="Nearly all paths have a medium length.",
            source=f"{_PAPER}, fig. 6a (19 to 35 of 54 modules: over 95 %)",
            statistic=f"share of the paths whose length is within {1.2 * math.sqrt(n):.1f} (1.2 sqrt(n)) of {n / 2:g}",
            measure=lambda rows: _near_half(rows, n),
            holds_if=">=",
            threshold=0.95,
        ),
        Claim(
            id="gradient-falls-exponentially",
            text="The gradient along a path falls exponentially with its length.",
            source=f"{_PAPER}, fig. 6b",
            statistic="R^2 of a straight line through log(mean norm along a path) against length; negative if it rises",
            measure=_falls,
            holds_if=">=",
            threshold=0.9,
        ),
        Claim(
            id="short-paths-contribute",
            text="Short paths contribute most of the gradient.",
            source=f"{_PAPER}, fig. 6c (5 to 17 of 54: about 0.2 of the modules)",
            statistic="mean path length, weighted by mean norm x number of paths, divided by the number of modules "
            "(0.5 if all paths contributed equally)",
            measure=lambda rows: _whole(rows, "sampled_whole", "depth") / n,
            holds_if="<=",
            threshold=0.35,
        ),
        Claim(
            id="few-paths-contribute",
            text="The paths that contribute are a small share of all paths.",
            source=f"{_PAPER}, fig. 6c (0.45 %)",
            statistic="share of all paths whose length is in the smallest range that carries 95 % of the gradient",
            measure=lambda rows: _whole(rows, "sampled_whole", "effective_paths"),
            holds_if="<=",
            threshold=0.1,
        ),
        Claim(
            id="short-paths-exactly",
            text="Short paths also contribute most of the gradient if all paths are summed exactly instead of sampled.",
            source="Ours; the paper multiplies the mean norm of single paths by their number",
            statistic="mean path length, weighted by the norm of the exact sum over all paths of a length, divided by "
            "the number of modules",
            measure=lambda rows: _whole(rows, "exact_whole", "depth") / n,
            holds_if="<=",
            threshold=0.35,
        ),
    )
