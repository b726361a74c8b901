"""Branches left out of a trained model, one at a time or several at random, and what that does to a metric."""

import math
from collections.abc import Iterable, Sequence

import torch

from thruway.dissecting.lesions.bootstrap import interval_of_means
from thruway.dissecting.lesions.evaluation import evaluate_lesions
from thruway.dissecting.lesions.mean_gates import mean_gate_merges
from thruway.dissecting.lesions.metrics import Evaluate
from thruway.dissecting.lesions.results import Deletion, Deletions, DrawnLesion, DrawnLesions
from thruway.dissecting.lesions.runner import MEMORY, Lesion
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.lesioned import Lesioned
from thruway.dissecting.running.merging import Merge
from thruway.errors import ConfigError, unknown_name

__all__ = ["GATES", "checked_counts", "delete", "delete_each"]

# What becomes of a gate: T = 0, or its mean over the data.
GATES = ("closed", "mean")


def delete_each(
    engine: Engine,
    evaluate: Evaluate,
    *,
    gate: str = "closed",
    level: float = 0.95,
    resamples: int = 1000,
    generator: torch.Generator | None = None,
    memory: int = MEMORY,
    progress: bool = False,
) -> Deletions:
    """The metric without each branch in turn, beside that of the intact model.

    With a metric of ours, `Accuracy`, `Error` or `Loss`, every lesion starts from stored values of the intact pass,
    at its own branch: half the work. The numbers are those of `without(index)`, to the bit; each change has a
    bootstrap interval, paired with the intact model example by example. A function of a model runs whole, once for
    each branch, and has no interval.

    The model is evaluated in evaluation mode and without gradients, whatever mode it is in; modes, buffers and
    random numbers come out as they went in. If the branches are others in that mode, it is refused.

    Args:
        evaluate: `Error(batches)`, or a function of a model (or what behaves like it) to a number.
        gate: of gated branches: "closed" is T = 0 and carries x on, also where the carry has a gate of its own; "mean"
            puts T's mean over the data in its place, unit by unit, and asks whether what the gate learnt to tell apart
            matters. Other branches are left out either way.
        level: of the intervals.
        resamples: of the bootstrap.
        generator: of the bootstrap's draws, on the CPU; None for a fixed one.
        memory: bytes of the intact pass to keep at a time. If less than needed, the lesions go in groups.
        progress: whether to say on stderr how far it is, and the time left.
    Raises:
        ConfigError: for no batches, an unknown gate, or something that is no metric.
        DissectError: if the model's code takes another way once a branch is missing.
    Source:
        Veit, Wilber & Belongie 2016, sec. 4.1, figs. 3-4; T = 0: Srivastava, Greff & Schmidhuber 2015 (Training Very
        Deep Networks), fig. 4. The mean gate is ours.

    >>> from thruway.dissecting import Error, dissect
    >>> from thruway.nn import Residual
    >>> net = torch.nn.Sequential(Residual(torch.nn.Linear(2, 2)), Residual(torch.nn.Linear(2, 2)))
    >>> with torch.no_grad():
    ...     for number, weight in ((0, [[-2.0, 1.0], [1.0, -2.0]]), (1, [[0.0, 0.0], [0.0, 0.0]])):
    ...         _ = net[number].branch.weight.copy_(torch.tensor(weight)), net[number].branch.bias.zero_()
    >>> x = torch.eye(2)
    >>> found = dissect(net, x).delete_each(Error([(x, torch.tensor([1, 0]))]))
    >>> [(row.name, row.value) for row in found]  # the first swaps the two classes, the second adds nothing
    [('0', 1.0), ('1', 0.0)]
    """
    if gate not in GATES:
        raise ConfigError(unknown_name("gate", gate, GATES))
    merges: dict[int, Merge] = mean_gate_merges(engine, evaluate) if gate == "mean" else {}
    lesions = [Lesion({branch.index: merges.get(branch.index)}) for branch in engine.branches]
    found = evaluate_lesions(engine, lesions, lambda each: Lesioned(engine, each.merges), evaluate, memory, progress)
    low = high = [math.nan] * len(lesions)
    if found.scores is not None and found.intact_scores is not None and lesions:
        ends = interval_of_means(found.scores - found.intact_scores, level, resamples, generator)
        low, high = (end.tolist() for end in ends)
    rows = tuple(
        Deletion(b.index, b.name, b.kind, value, value - found.intact, low[b.index], high[b.index])
        for b, value in zip(engine.branches, found.values, strict=True)
    )
    better, scores = found.higher_is_better, found.scores
    return Deletions(rows, found.intact, found.name, level, found.examples, better, gate, scores, found.intact_scores)


def delete(
    engine: Engine,
    k: int | Iterable[int],
    draws: int,
    evaluate: Evaluate,
    generator: torch.Generator,
    *,
    memory: int = MEMORY,
    progress: bool = False,
) -> DrawnLesions:
    """The metric with k random branches left out together, `draws` times; for several k, as many times each.

    Every set of k branches is equally likely. All draws are kept; `quartiles()` has the spread.

    Args:
        k: branches to leave out at once, or several such numbers.
        draws: random sets for each k.
        evaluate: as for `delete_each`, as are `memory`, `progress` and how the model is treated.
        generator: of the draws, on the CPU.
    Raises:
        ConfigError: for a k that there are not enough branches for, or fewer than one draw.
        DissectError: if the model's code takes another way once branches are missing.
    Source:
        Veit, Wilber & Belongie 2016, sec. 4.2, fig. 5a.

    >>> from thruway.dissecting import Error, dissect
    >>> from thruway.networks import mlp
    >>> net = mlp("residual", depth=6, width=4, inputs=3, classes=2, generator=torch.Generator().manual_seed(0))
    >>> x = torch.rand(8, 3, generator=torch.Generator().manual_seed(1))
    >>> d = dissect(net, x)
    >>> found = d.delete([1, 3], 5, Error([(x, net(x).argmax(1))]), generator=torch.Generator().manual_seed(2))
    >>> [(row["k"], row["draws"]) for row in found.quartiles().rows()], found.intact
    ([(1, 5), (3, 5)], 0.0)
    """
    n = len(engine.branches)
    ks = checked_counts(k, n, f"{n} branches were found", draws)
    chosen = [(each, draw, _drawn(n, each, generator)) for each in ks for draw in range(draws)]
    lesions = [Lesion(dict.fromkeys(branches)) for _, _, branches in chosen]
    found = evaluate_lesions(engine, lesions, lambda each: Lesioned(engine, each.merges), evaluate, memory, progress)
    rows = tuple(
        DrawnLesion(each, draw, branches, 1.0, value)
        for (each, draw, branches), value in zip(chosen, found.values, strict=True)
    )
    return DrawnLesions(rows, found.intact, found.name, found.examples, "branches left out")


def checked_counts(k: int | Iterable[int], most: int | None, why: str, draws: int) -> Sequence[int]:
    """One number or several, as several.

    Raises:
        ConfigError: if one is below 0 or above `most`, with the reason why; or there are no draws.
    """
    ks = [k] if isinstance(k, int) else list(k)
    for each in ks:
        if isinstance(each, bool) or not isinstance(each, int) or each < 0 or (most is not None and each > most):
            raise ConfigError(f"k={each!r}, but {why}: k is a whole number from 0{f' to {most}' if most else ' on'}.")
    if draws < 1:
        raise ConfigError(f"draws={draws}: at least 1.")
    return ks


def _drawn(n: int, k: int, generator: torch.Generator) -> tuple[int, ...]:
    return tuple(sorted(torch.randperm(n, generator=generator)[:k].tolist()))
