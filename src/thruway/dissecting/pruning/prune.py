"""Search for the branches whose removal does the least damage."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from thruway.dissecting.lesions.bootstrap import interval_of_means
from thruway.dissecting.lesions.evaluation import Evaluation, evaluate_lesions
from thruway.dissecting.lesions.metrics import Metric
from thruway.dissecting.lesions.runner import MEMORY, Lesion
from thruway.dissecting.pruning.results import Pruning, Removed
from thruway.dissecting.ranking.rankings import rankings
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.lesioned import Lesioned
from thruway.dissecting.tracing.lineage import Cut, unneeded
from thruway.errors import ConfigError, unknown_name

__all__ = ["STRATEGIES", "prune"]


@dataclass
class _Search:
    """State of one search.

    Attributes:
        engine: engine of the dissection.
        metric: the metric of the choice.
        count: number of branches to remove.
        candidates: number of branches whose damage is measured anew in each step of the greedy search.
        generator: generator of a random choice.
        progress: show the progress.
        evaluated: number of lesions evaluated so far.
    """

    engine: Engine
    metric: Metric
    count: int
    candidates: int | None
    generator: torch.Generator | None
    progress: bool
    evaluated: int = 0
    intact: float = field(default=math.nan)

    def damages(self, sets: Sequence[Sequence[int]]) -> list[float]:
        """Return the damage of leaving out each set of branches."""
        found = _evaluate(self.engine, sets, self.metric, self.progress)
        self.evaluated += len(sets)
        self.intact = found.intact
        return [_sign(self.metric) * (value - found.intact) for value in found.values]


def one_shot(search: _Search) -> list[int]:
    """The branches with the least damage when each is left out alone."""
    single = search.damages([[index] for index in range(len(search.engine.branches))])
    return _ascending(single)[: search.count]


def greedy(search: _Search) -> list[int]:
    """One branch after another: that which does the least damage together with those chosen before.

    In each step the damage is measured anew for the candidates with the least damage so far.
    """
    estimates = search.damages([[index] for index in range(len(search.engine.branches))])
    chosen = [_ascending(estimates)[0]]
    while len(chosen) < search.count:
        left = [index for index in _ascending(estimates) if index not in chosen]
        some = left if search.candidates is None else left[: search.candidates]
        for index, damage in zip(some, search.damages([[*chosen, index] for index in some]), strict=True):
            estimates[index] = damage
        chosen.append(min(some, key=lambda index: estimates[index]))
    return chosen


def contiguous(search: _Search) -> list[int]:
    """The block of neighbouring branches that does the least damage."""
    count = len(search.engine.branches)
    blocks = [list(range(start, start + search.count)) for start in range(count - search.count + 1)]
    return blocks[_ascending(search.damages(blocks))[0]]


def block_influence(search: _Search) -> list[int]:
    """The branches that turn the stream the least, as in ShortGPT; a baseline that needs no metric."""
    batches = [(inputs, None) for inputs, _ in search.metric.batches]
    return rankings(search.engine, batches).order("influence")[: search.count]


def random(search: _Search) -> list[int]:
    """Branches at random; a baseline."""
    generator = search.generator or torch.Generator().manual_seed(0)
    return torch.randperm(len(search.engine.branches), generator=generator)[: search.count].tolist()


# To add a strategy, write a function of the search that returns indices of branches, and an entry.
STRATEGIES: dict[str, Callable[[_Search], list[int]]] = {
    "greedy": greedy,
    "one-shot": one_shot,
    "contiguous": contiguous,
    "block influence": block_influence,
    "random": random,
}


def prune(
    engine: Engine,
    evaluate: Metric,
    remove: int,
    *,
    strategy: str = "greedy",
    report: Metric | None = None,
    max_damage: float = math.inf,
    candidates: int | None = 6,
    level: float = 0.95,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Pruning:
    """Choose branches whose removal does little damage, and return the smaller model.

    Args:
        evaluate: metric of the choice, such as `Loss(batches)`. Its batches are read several times.
        remove: number of branches to remove.
        strategy: "greedy", "one-shot", "contiguous", or one of the baselines "block influence" and "random".
        report: metric on data that the choice has not seen. Without one, the intervals are those of the choice, and the
            damage looks smaller than it is.
        max_damage: damage on the data of the choice above which no further branch is removed.
        candidates: number of branches whose damage the greedy search measures anew in each step. None: all.
        level: coverage of the intervals.
        generator: generator on the CPU for the strategy "random".
        progress: show the progress on stderr.
    Returns:
        The removals with the damage after each, `chosen`, and `model`.
    Raises:
        ConfigError: if an argument is invalid, or the batches can be read only once.
        DissectError: when `model` is asked for, if the branches cannot be removed.
    Source:
        The search is ours. Baselines: Men et al. 2024 (ShortGPT), Block Influence; Gromov et al. 2024, a contiguous
        block.

    >>> from thruway.dissecting import Loss, dissect
    >>> from thruway.networks import mlp
    >>> net = mlp("residual", depth=6, width=8, inputs=4, classes=2, generator=torch.Generator().manual_seed(0))
    >>> x = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    >>> found = dissect(net, x).prune(Loss([(x, (x[:, 0] > 0).long())]), 2)
    >>> len(found.chosen), len(net.blocks), len(found.model.blocks)
    (2, 5, 3)
    """
    count = len(engine.branches)
    if strategy not in STRATEGIES:
        raise ConfigError(unknown_name("strategy", strategy, STRATEGIES))
    if isinstance(remove, bool) or not isinstance(remove, int) or not 1 <= remove <= count:
        raise ConfigError(f"remove must be a number of branches from 1 to {count}, got {remove!r}.")
    if candidates is not None and (isinstance(candidates, bool) or candidates < 1):
        raise ConfigError(f"candidates must be at least 1, or None for all branches, got {candidates!r}.")
    for name, metric in (("evaluate", evaluate), ("report", report)):
        _check_metric(name, metric)
    search = _Search(engine, evaluate, remove, candidates, generator, progress)
    chosen = STRATEGIES[strategy](search)
    evaluated = search.evaluated
    found = _evaluate(engine, [chosen[: k + 1] for k in range(len(chosen))], evaluate, progress)
    damages = [_sign(evaluate) * (value - found.intact) for value in found.values]
    kept = next((k for k, damage in enumerate(damages) if damage > max_damage), len(chosen))
    chosen = chosen[:kept]
    rows = tuple(_rows(engine, chosen, found, damages, evaluate, report, level, progress))
    examples = found.examples
    return Pruning(rows, found.intact, evaluate.name, strategy, level, evaluated, examples, engine)


def _rows(
    engine: Engine,
    chosen: list[int],
    found: Evaluation,
    damages: list[float],
    evaluate: Metric,
    report: Metric | None,
    level: float,
    progress: bool,
) -> Iterator[Removed]:
    if not chosen:
        return
    sets = [chosen[: k + 1] for k in range(len(chosen))]
    reported = found if report is None else _evaluate(engine, sets, report, progress)
    low, high = _interval(reported, len(chosen), _sign(report or evaluate), level)
    total = sum(call.flops for call in engine.tape.calls)
    parameters = sum(engine.tape.parameters)
    for k, index in enumerate(chosen):
        branch = engine.branches[index]
        skipped = unneeded(
            engine.tape, [Cut(b.join, b.shortcut.value) for b in (engine.branches[i] for i in chosen[: k + 1])]
        )
        flops = sum(engine.tape.calls[number].flops for number in skipped)
        gone = _weights(engine, skipped)
        yield Removed(
            index,
            branch.name,
            branch.kind,
            found.values[k],
            damages[k],
            low[k],
            high[k],
            math.nan if report is None else _sign(report) * (reported.values[k] - reported.intact),
            1 - flops / total if total else 1.0,
            1 - gone / parameters if parameters else 1.0,
        )


def _weights(engine: Engine, skipped: frozenset[int]) -> int:
    """Return the number of elements of the parameters that only skipped calls read."""
    tape = engine.tape
    of_skipped = frozenset[int]().union(*(tape.weights_of(tape.calls[number]) for number in skipped))
    of_others = frozenset[int]().union(*(tape.weights_of(c) for c in tape.calls if c.number not in skipped))
    return sum(tape.parameters[weight] for weight in of_skipped - of_others)


def _interval(found: Evaluation, rows: int, sign: float, level: float) -> tuple[list[float], list[float]]:
    if found.scores is None or found.intact_scores is None:
        return [math.nan] * rows, [math.nan] * rows
    changes: Tensor = sign * (found.scores[:rows] - found.intact_scores)
    low, high = interval_of_means(changes, level)
    return low.tolist(), high.tolist()


def _evaluate(engine: Engine, sets: Sequence[Sequence[int]], metric: Metric, progress: bool) -> Evaluation:
    lesions = [Lesion(dict.fromkeys(chosen)) for chosen in sets]
    return evaluate_lesions(engine, lesions, lambda each: Lesioned(engine, each.merges), metric, MEMORY, progress)


def _check_metric(name: str, metric: object) -> None:
    if metric is None and name == "report":
        return
    if not isinstance(metric, Metric):
        raise ConfigError(f"{name} must be a metric such as Loss(batches), got {type(metric).__name__}.")
    if iter(metric.batches) is metric.batches:
        raise ConfigError(f"the batches of {name} can be read only once. Pass a list of them, or a DataLoader.")


def _sign(metric: Metric) -> float:
    return -1.0 if metric.higher_is_better else 1.0


def _ascending(damages: Sequence[float]) -> list[int]:
    """Return the places of the damages from the least to the largest; NaN comes last."""
    return sorted(range(len(damages)), key=lambda place: (math.isnan(damages[place]), damages[place]))
