"""Gradients along randomly drawn paths: the published estimate of the gradient on paths of each length."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thruway import seeding
from thruway.dissecting.paths.cutting import CutPass
from thruway.dissecting.paths.gradients import AT_ONCE, Loss, cut_passes
from thruway.dissecting.paths.results import SampledPaths
from thruway.dissecting.paths.routes import START, Counts
from thruway.dissecting.paths.segments import Segment, vjp
from thruway.dissecting.paths.start import Where
from thruway.dissecting.running.engine import Engine
from thruway.errors import ConfigError

__all__ = ["DRAWS", "sampled_paths"]

DRAWS = 10  # paths of each length


def sampled_paths(
    engine: Engine,
    loss: Loss,
    inputs: Any = None,
    targets: Any = None,
    *,
    draws: int = DRAWS,
    generator: torch.Generator | None = None,
    where: Where | None = None,
    examples: int | None = None,
    at_once: int = AT_ONCE,
) -> SampledPaths:
    """Compute the norm of the gradient along random paths of each length, as published.

    After one forward pass, `draws` paths are drawn for every length k, all paths of that length equally likely. The
    gradient goes back through their k branches, and along the shortcut of all others. In a chain, this is a random
    choice of k branches. Norms have no sign: multiplied by the number of paths, they estimate the gradient that the
    paths would carry if none cancelled. `path_gradients` computes the gradient that they do carry.

    Args:
        draws: number of paths of each length.
        generator: generator for the draws. Default: one with a fixed seed.
        loss, inputs, targets, where, examples, at_once: see `path_gradients`.
    Raises:
        ConfigError, DissectError, ShapeError: as `path_gradients`; ConfigError if `draws` is below 1.
    Source:
        Veit, Wilber & Belongie 2016, sec. 4.2, fig. 6.

    >>> from torch import nn
    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> branch = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(branch.weight, 0.5)
    >>> d = dissect(nn.Sequential(Residual(branch), Residual(branch)), torch.ones(1, 1))
    >>> d.sampled_paths(lambda y: y.sum(), draws=2).mean                     # 1, a, a^2
    tensor([1.0000, 0.5000, 0.2500])
    """
    if draws < 1:
        raise ConfigError(f"draws is the number of paths of each length, at least 1, got {draws}.")
    generator = generator if generator is not None else seeding.generator(0, "paths")
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    norms: list[Tensor] = []
    counts: Counts = ()
    for cut in cut_passes(engine, loss, inputs, targets, where, examples):
        # The same paths in every pass, so that all examples are averaged over the same paths.
        same = torch.Generator().manual_seed(seed)
        at = cut.routes().counts_at()
        counts = cut.routes().counts()
        norms.append(torch.stack([_of_length(cut, at, k, draws, same, at_once) for k in range(len(counts))]))
    return SampledPaths(counts, torch.cat(norms, dim=-1))


def _of_length(
    cut: CutPass, at: dict[int, Counts], length: int, draws: int, generator: torch.Generator, at_once: int
) -> Tensor:
    """Norms along the paths drawn for one length: (draws, examples)."""
    examples = cut.start.shape[0] if cut.start.dim() else 1
    routes = [_route(cut, at, length, generator) for _ in range(draws)]
    if cut.end is None or routes[0] is None:
        return torch.zeros(draws, examples, dtype=cut.start.dtype, device=cut.start.device)
    steps = [dict(route) for route in routes if route is not None]
    carried: list[Tensor] = [torch.empty(0)] * draws
    places = [0] * draws

    def follow(piece: Segment, which: Sequence[int], cotangents: Sequence[Tensor], come_from: int) -> None:
        for draw, gradients in zip(which, vjp(piece, cotangents, at_once), strict=True):
            places[draw] = steps[draw][come_from][1]
            onward = gradients.get(places[draw])
            carried[draw] = torch.zeros_like(piece.leaves[places[draw]]) if onward is None else onward

    follow(cut.end, range(draws), [cut.loss_form] * draws, _END)
    for join in reversed(cut.joins):
        for piece, is_through in ((join.skip, False), (join.through, True)):
            here = [d for d in range(draws) if places[d] == join.index and steps[d][join.index][0] == is_through]
            if piece is not None and here:
                follow(piece, here, [carried[draw] for draw in here], join.index)
    return torch.stack([_norms(gradient) for gradient in carried])


_END = -2  # the end of the routes, where the walk backwards begins

Step = tuple[bool, int]  # True for a step through the branch, and the join whose output comes next


def _route(
    cut: CutPass, at: dict[int, Counts], length: int, generator: torch.Generator
) -> list[tuple[int, Step]] | None:
    """Draw a path of this length, all equally likely, from the end back to the start; None if there is no such path."""
    joins = {join.index: join for join in cut.joins}
    place, left, route = _END, length, list[tuple[int, Step]]()
    while place != START:
        if place == _END:
            options = [(False, leaf) for leaf in (cut.end.leaves if cut.end else ())]
        else:
            join = joins[place]
            options = [(False, leaf) for leaf in (join.skip.leaves if join.skip else ())]
            options += [(True, leaf) for leaf in (join.through.leaves if join.through else ())]
        weights = [_count(at[leaf], left - is_through) for is_through, leaf in options]
        if not any(weights):
            return None
        step = options[_pick(weights, generator)]
        route.append((place, step))
        place, left = step[1], left - step[0]
    return route


def _pick(weights: Sequence[int], generator: torch.Generator) -> int:
    whole = sum(weights)
    rest = float(torch.rand((), generator=generator, dtype=torch.float64))
    for place, weight in enumerate(weights):
        rest -= weight / whole
        if rest < 0:
            return place
    return max(place for place, weight in enumerate(weights) if weight)


def _count(counts: Counts, length: int) -> int:
    return counts[length] if 0 <= length < len(counts) else 0


def _norms(gradient: Tensor) -> Tensor:
    wide = gradient if gradient.dtype in (torch.float32, torch.float64) else gradient.float()
    return wide.reshape(len(wide), -1).norm(dim=1) if wide.dim() else wide.abs().reshape(1)
