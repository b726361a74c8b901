"""Lesions that leave out branches of a trained model, one at a time or several at random."""

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

# Lesions of a gated branch: T = 0, or T replaced by its mean over the data.
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
    """Evaluate the metric without each branch in turn, and of the intact model.

    With a `Metric` such as `Accuracy`, `Error` or `Loss`, each lesion starts at its own branch, from stored values of
    the intact pass, which halves the work. The results equal those of `without(index)` bit for bit, and each change has
    a bootstrap interval, paired with the intact model example by example. A function of a model runs in full, once per
    branch, and has no interval.

    The model is evaluated in evaluation mode and without gradients. Modes, buffers and random states are restored.

    Args:
        evaluate: a metric such as `Error(batches)`, or a function that takes a model and returns a number.
        gate: the lesion of gated branches. "closed" sets T = 0, so that the block returns x, even if it has a separate
            carry gate. "mean" replaces T by its mean over the data, unit by unit, which measures how much the gate's
            dependence on its input matters. Other branches are left out in both cases.
        level: coverage of the intervals.
        resamples: number of bootstrap resamples.
        generator: generator for the bootstrap, on the CPU. Default: one with a fixed seed.
        memory: maximum number of bytes of the intact pass to store at a time. If more are needed, the lesions run in
            groups.
        progress: If True, progress is shown on stderr.
    Returns:
        A row for each branch.
    Raises:
        ConfigError: if there are no batches, the gate is unknown, or `evaluate` is not a metric.
        DissectError: if a lesion makes the model call something that is not on its tape, or if it has other branches
            in evaluation mode.
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
    """Evaluate the metric with k random branches left out together, `draws` times for each k.

    Every set of k branches is equally likely.

    Args:
        k: number of branches to leave out together, or several such numbers.
        draws: number of random sets for each k.
        evaluate: a metric or a function of a model; see `delete_each`.
        generator: generator for the draws, on the CPU.
        memory: maximum number of bytes to store; see `delete_each`.
        progress: If True, progress is shown on stderr.
    Returns:
        All draws; `quartiles()` gives their spread.
    Raises:
        ConfigError: if k is larger than the number of branches, or `draws` is below 1.
        DissectError: if a lesion makes the model call something that is not on its tape.
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
    """Check one or several values of k, and return them as a list.

    Raises:
        ConfigError: if one is below 0 or above `most`, with the reason `why`; or if `draws` is below 1.
    """
    ks = [k] if isinstance(k, int) else list(k)
    for each in ks:
        if isinstance(each, bool) or not isinstance(each, int) or each < 0 or (most is not None and each > most):
            raise ConfigError(f"k={each!r}, but {why}. Give an integer from 0{f' to {most}' if most else ' on'}.")
    if draws < 1:
        raise ConfigError(f"draws must be at least 1, got {draws}.")
    return ks


def _drawn(n: int, k: int, generator: torch.Generator) -> tuple[int, ...]:
    return tuple(sorted(torch.randperm(n, generator=generator)[:k].tolist()))
