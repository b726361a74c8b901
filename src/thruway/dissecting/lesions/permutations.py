"""Lesions that swap branches of a trained model."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.finding.discovery import Discovery
from thruway.dissecting.lesions.deletions import checked_counts
from thruway.dissecting.lesions.evaluation import evaluate_lesions
from thruway.dissecting.lesions.kendall import kendall_tau
from thruway.dissecting.lesions.metrics import Evaluate
from thruway.dissecting.lesions.permutation_match import interchangeable_groups, match
from thruway.dissecting.lesions.results import DrawnLesion, DrawnLesions
from thruway.dissecting.lesions.runner import MEMORY, Lesion, run_permuted
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.lesioned import Lesioned
from thruway.dissecting.running.partial_plan import WeightSwaps
from thruway.dissecting.tracing.structure import Path
from thruway.dissecting.tracing.tape import Tape
from thruway.errors import ConfigError

__all__ = ["permute", "permute_pairs", "swap"]


def swap(engine: Engine, first: int | str | Branch, second: int | str | Branch) -> Lesioned:
    """Return the model with two branches swapped: f and its gates move, shortcuts stay.

    Raises:
        ConfigError: if the branches differ in more than their weights, with the reason.

    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> a, b = Residual(torch.nn.Linear(2, 2)), Residual(torch.nn.Linear(2, 2))
    >>> x = torch.ones(1, 2)
    >>> torch.equal(dissect(torch.nn.Sequential(a, b), x).swap(0, 1)(x), torch.nn.Sequential(b, a)(x))
    True
    """
    i, j = (branch.index for branch in engine.select([first, second]))
    order = list(range(len(engine.branches)))
    order[i], order[j] = j, i
    return permute(engine, order)


def permute(engine: Engine, order: Sequence[int]) -> Lesioned:
    """Return the model with branch `order[i]` in the place of branch i. Call it like the model.

    The model's own code runs with the weights of the other branch. So two branches can be swapped if they make the
    same calls with the same settings on weights of the same shapes. Layers of one stacked tensor, as in
    `HighwayStack`, can be swapped too.

    Raises:
        ConfigError: if `order` is not a permutation of the branches, or moves one to a place where it does not fit.
    Source:
        Veit, Wilber & Belongie 2016, sec. 4.3.
    """
    order = tuple(order)
    n = len(engine.branches)
    if sorted(order) != list(range(n)):
        raise ConfigError(f"order must contain each of 0 ... {n - 1} exactly once, got {list(order)}.")
    lesion = Lesion(swaps=_swaps_for(engine, order))
    lesion.swaps_on(engine.tape, Discovery(engine.branches, engine.refused))
    moved = [f"{engine.branches[j].name} at {engine.branches[i].name}" for i, j in enumerate(order) if i != j]

    def run_pass(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return run_permuted(engine, lesion, args, kwargs)

    return Lesioned(engine, {}, run_pass, "with " + ", ".join(moved)) if moved else Lesioned(engine, {})


def permute_pairs(
    engine: Engine,
    k: int | Iterable[int],
    draws: int,
    evaluate: Evaluate,
    generator: torch.Generator,
    *,
    memory: int = MEMORY,
    progress: bool = False,
) -> DrawnLesions:
    """Evaluate the metric after k random swaps of branches, together with Kendall's tau of each order.

    Each swap draws two places at random, all pairs that can be swapped equally likely, and swaps their present
    branches. A later swap may undo an earlier one; tau measures how far the order is from the original.

    Args:
        k: number of successive swaps, or several such numbers.
        draws: number of random orders for each k.
        evaluate: a metric or a function of a model; see `delete_each`.
        generator: generator for the draws, on the CPU.
        memory: maximum number of bytes to store; see `delete_each`.
        progress: If True, progress is shown on stderr.
    Returns:
        All draws; `quartiles()` gives their spread.
    Raises:
        ConfigError: if no two branches can be swapped, with the reason for the first two.
    Source:
        Veit, Wilber & Belongie 2016, sec. 4.3, fig. 5b.

    >>> from thruway.dissecting import Error, dissect
    >>> from thruway.networks import mlp
    >>> net = mlp("residual", depth=6, width=4, inputs=3, classes=2, generator=torch.Generator().manual_seed(0))
    >>> x = torch.rand(8, 3, generator=torch.Generator().manual_seed(1))
    >>> metric = Error([(x, net(x).argmax(1))])
    >>> found = dissect(net, x).permute_pairs([0, 2], 3, metric, generator=torch.Generator().manual_seed(2))
    >>> [(row.k, row.tau, row.value) for row in found][:3]
    [(0, 1.0, 0.0), (0, 1.0, 0.0), (0, 1.0, 0.0)]
    """
    pairs = _pairs(engine)
    ks = checked_counts(k, None, "it is a number of swaps", draws)
    n = len(engine.branches)
    chosen = [(each, draw, _shuffled(n, pairs, each, generator)) for each in ks for draw in range(draws)]
    lesions = [Lesion(swaps=_swaps_for(engine, order)) for _, _, order in chosen]
    orders = {id(lesion): order for lesion, (_, _, order) in zip(lesions, chosen, strict=True)}
    found = evaluate_lesions(
        engine, lesions, lambda each: permute(engine, orders[id(each)]), evaluate, memory, progress
    )
    rows = tuple(
        DrawnLesion(each, draw, order, kendall_tau(order), value)
        for (each, draw, order), value in zip(chosen, found.values, strict=True)
    )
    return DrawnLesions(rows, found.intact, found.name, found.examples, "pairs swapped")


def _swaps_for(engine: Engine, order: Sequence[int]) -> Callable[[Tape, Discovery], WeightSwaps]:
    moved = [(place, guest) for place, guest in enumerate(order) if place != guest]

    def swaps_on(tape: Tape, found: Discovery) -> WeightSwaps:
        swaps: dict[int, tuple[tuple[Path, int], ...]] = {}
        state_count = _state_count(engine)
        for place, guest in moved:
            matched = match(tape, found.branches[place], found.branches[guest], state_count)
            if matched.obstacle:
                raise ConfigError(
                    f"branch {guest} cannot run in the place of {place}: {matched.obstacle}. Branches can be swapped "
                    "if they make the same calls, with weights of their own of the same shapes."
                )
            if swaps.keys() & matched.swaps.keys():
                raise ConfigError(f"branch {place} lies within another branch that moves too. Move only one of them.")
            swaps |= matched.swaps
        return swaps

    return swaps_on


def _state_count(engine: Engine) -> int:
    model = engine.model
    return sum(1 for _ in model.parameters()) + sum(1 for _ in model.buffers())


def _pairs(engine: Engine) -> list[tuple[int, int]]:
    """All pairs of branches that can be swapped."""
    state_count, branches = _state_count(engine), engine.branches
    groups = interchangeable_groups(engine.tape, branches, state_count)
    pairs = [(i, j) for group in groups for at, i in enumerate(group) for j in group[at + 1 :]]
    if not pairs:
        reason = "there are fewer than two"
        if len(branches) > 1:
            reason = match(engine.tape, branches[0], branches[1], state_count).obstacle or "one contains the other"
        raise ConfigError(f"no two branches can be swapped: {reason}.")
    return pairs


def _shuffled(n: int, pairs: Sequence[tuple[int, int]], k: int, generator: torch.Generator) -> tuple[int, ...]:
    order = list(range(n))
    for number in torch.randint(len(pairs), (k,), generator=generator).tolist():
        i, j = pairs[number]
        order[i], order[j] = order[j], order[i]
    return tuple(order)
