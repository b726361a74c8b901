"""The stages of a run, each a set of nets trained side by side on the same examples, and how they are begun."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from thruway.experiments.glorot2010.errors import PAIRS, Choice, Config, Net, final_nets, fixed_nets, search_nets
from thruway.experiments.glorot2010.errors_data import Examples, Finite, Parts, Source
from thruway.experiments.glorot2010.errors_nets import PlainNets, layers_of
from thruway.init import initialize
from thruway.networks import mlp
from thruway.networks.mlp import MLP
from thruway.seeding import derive, generator

__all__ = ["Group", "Stage", "build_nets", "chunk", "groups", "new_net", "pieces", "stages_of", "stream", "work"]

# Updates between two looks at the user's wish to stop; the examples of so many lie in memory.
_PIECE = 500
# A forward pass alone, on large batches, against a whole update of ten examples; measured.
_EVALUATION_WORK = 0.025


@dataclass(frozen=True)
class Stage:
    """Nets that train for so many updates, and what is measured on the way."""

    name: str
    nets: tuple[Net, ...]
    updates: int
    source: Source
    measured: Mapping[str, Examples]  # quantity -> examples


class Group(NamedTuple):
    """Nets of one shape: they differ in numbers only, and train as one."""

    activation: str
    depth: int
    nets: tuple[Net, ...]


def stages_of(config: Config, parts: Parts, chosen: Mapping[str, Choice] | None) -> dict[str, Stage]:
    """The stages by name; the final one only once something has been chosen."""
    both = {"valid_error": parts.valid, "test_error": parts.test}
    stages = [Stage("search", search_nets(config), config.search_updates, parts.source, {"valid_error": parts.valid})]
    if chosen is not None:
        stages.append(Stage("final", final_nets(config, chosen), config.updates, parts.source, both))
    if parts.fixed is not None:
        stages.append(Stage("fixed", fixed_nets(config), config.fixed_updates, Finite(*parts.fixed), both))
    return {stage.name: stage for stage in stages}


def groups(nets: Sequence[Net]) -> list[Group]:
    """The nets by activation and depth, in a fixed order."""
    found: dict[tuple[str, int], list[Net]] = {}
    for net in nets:
        found.setdefault((PAIRS[net.pair].activation, net.depth), []).append(net)
    return [Group(activation, depth, tuple(members)) for (activation, depth), members in sorted(found.items())]


def new_net(config: Config, parts: Parts, pair: str, depth: int, stage: str, seed: int) -> MLP:
    """A net with its initial weights; all pairs of a seed start from the same draws, scaled as their scheme says."""
    activation, scheme = PAIRS[pair].activation, PAIRS[pair].scheme
    rng = generator(seed, "weights", stage, depth)
    net = mlp("plain", depth, config.width, parts.inputs, parts.classes, activation=activation, generator=rng)
    initialize(net, scheme, generator=generator(seed, "weights", stage, depth))
    return net.to(config.device)


def build_nets(config: Config, group: Group, parts: Parts, pretrained: Mapping[str, Tensor]) -> PlainNets:
    """The nets of a group as they start; the hidden layers of pre-trained ones from `pretrained`, by stage and seed."""
    models = []
    for net in group.nets:
        model = new_net(config, parts, net.pair, net.depth, net.stage, net.seed)
        if PAIRS[net.pair].is_pretrained:
            member = 0 if net.stage == "search" else 1 + net.member
            for layer, (weight, bias) in enumerate(layers_of(model)[:-1]):
                weight.data.copy_(pretrained[f"weight/{layer}"][member])
                bias.data.copy_(pretrained[f"bias/{layer}"][member])
        models.append(model)
    return PlainNets(group.activation, models, [net.rate for net in group.nets])


def stream(stage: str, seed: int) -> int:
    """The stream of examples that the nets of a seed see in a stage."""
    return derive(seed, "glorot2010.errors", stage) % 2**31


def pieces(updates: int, evaluations: int, done: int = 0) -> Iterator[tuple[int, int, bool]]:
    """(first, end, whether to evaluate after it) of the runs of updates that a training is made of, from `done` on.

    >>> list(pieces(1000, 2))
    [(0, 500, True), (500, 1000, True)]
    >>> list(pieces(1800, 2, done=500))
    [(500, 900, True), (900, 1400, False), (1400, 1800, True)]
    """
    stops = {updates * number // evaluations for number in range(1, evaluations + 1)}
    while done < updates:
        end = min(done + _PIECE, min(stop for stop in stops if stop > done))
        yield done, end, end in stops
        done = end


def work(config: Config, stage: Stage, parts: Parts, first: int, end: int, is_evaluated: bool) -> float:
    """What a piece of a stage costs, in weights updated by one batch: a measure that grows evenly with time."""
    # Which depths the search will choose is not known when the work is added up; those nets ride along uncounted.
    counted = [net for net in stage.nets if stage.name != "final" or net.depth == config.deepest]
    weights = sum(size_of(config, parts, net.depth) for net in counted)
    drawn = len({net.seed for net in stage.nets}) * config.batch * stage.source.work
    looked_at = sum(len(labels) for _, labels in stage.measured.values()) * is_evaluated
    return (end - first) * (weights + drawn) + looked_at * weights * _EVALUATION_WORK


def size_of(config: Config, parts: Parts, depth: int) -> int:
    """Weights of a net, without biases."""
    return config.width * (parts.inputs + (depth - 1) * config.width + parts.classes)


def chunk(stage: Stage, config: Config, first: int, end: int) -> tuple[dict[int, int], Tensor, Tensor]:
    """The examples of updates first .. end: the place of each seed, inputs (updates, seeds, batch, inputs), labels."""
    seeds = sorted({net.seed for net in stage.nets})
    count = end - first
    drawn = [stage.source.draw(stream(stage.name, s), first * config.batch, count * config.batch) for s in seeds]
    inputs = torch.stack([x.view(count, config.batch, -1) for x, _ in drawn], dim=1)
    labels = torch.stack([y.view(count, config.batch) for _, y in drawn], dim=1)
    return {seed: place for place, seed in enumerate(seeds)}, inputs, labels
