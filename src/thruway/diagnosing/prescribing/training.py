"""Training of all arms of a trial: together where the architecture is the same, one after another elsewhere."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from thruway.diagnosing.prescribing.alone import Alone
from thruway.diagnosing.prescribing.groups import divided, group_runs
from thruway.diagnosing.prescribing.rediagnosing import diagnose_again
from thruway.diagnosing.prescribing.run import Group, Plan, Results, Run
from thruway.diagnosing.prescribing.setup import scaled, seeded
from thruway.diagnosing.prescribing.snapshot import Snapshot
from thruway.diagnosing.prescribing.together import Together
from thruway.diagnosing.prescribing.workers import in_processes, possible_processes

__all__ = ["train_runs"]

_LEAST_STEPS = 1000  # of all runs; below, starting processes takes about as long as it saves

Advance = Callable[[int], None]


def train_runs(runs: Sequence[Run], plan: Plan, advance: Advance, *, processes: int | None = None) -> None:
    """Train all runs, diagnose those with a spare setup again, and write their results.

    Args:
        runs: the runs.
        plan: what every run does.
        advance: is called with the number of completed steps, summed over runs.
        processes: number of processes. Default: one for each thread of PyTorch, where processes can be forked.
    Raises:
        RuntimeError: if a process ends before its work is done.
    """
    if processes is None:
        processes = possible_processes(run.setup.model for run in runs) if len(runs) * plan.steps >= _LEAST_STEPS else 1
    groups = group_runs(runs)
    if processes == 1:
        for group in groups:
            _train_group(group, plan, advance)
        return
    pieces = divided(groups, processes)

    def work(task: int, count: Advance) -> list[Results]:
        _train_group(pieces[task], plan, count)
        return [run.results for run in pieces[task].runs]

    for piece, results in zip(pieces, in_processes(processes, len(pieces), work, advance), strict=True):
        for run, result in zip(piece.runs, results, strict=True):
            run.results = result


def _train_group(group: Group, plan: Plan, advance: Advance) -> None:
    if group.reason:
        kept = _one_after_another(group.runs, plan, group.reason, advance)
    else:
        kept = _together(group.runs, plan, advance)
    for run, snapshots in zip(group.runs, kept, strict=True):
        if run.spare is not None and not run.results.error:
            run.results.remaining = diagnose_again(run.spare, snapshots, plan.batches, plan.loss)


def _together(runs: Sequence[Run], plan: Plan, advance: Advance) -> list[dict[int, Snapshot]]:
    done = 0

    def count(steps: int) -> None:
        nonlocal done
        done += steps * len(runs)
        advance(steps * len(runs))

    try:
        return _train(Together([run.setup for run in runs], plan.loss), runs, plan, count)
    except Exception as error:  # an operation that cannot be vectorised, or the model's own error
        advance(-done)
        return _one_after_another(runs, plan, f"could not be vectorised: {_first_line(error)[:160]}", advance)


def _one_after_another(runs: Sequence[Run], plan: Plan, reason: str, advance: Advance) -> list[dict[int, Snapshot]]:
    kept: list[dict[int, Snapshot]] = []
    for run in runs:
        done = 0

        def count(steps: int) -> None:
            nonlocal done
            done += steps
            advance(steps)

        run.results.note = reason
        try:
            kept += _train(Alone(run.setup, plan.loss), [run], plan, count)
        except Exception as error:
            advance(plan.steps - done)
            run.results.error = _first_line(error)
            kept.append({})
    return kept


def _train(trainer: Together | Alone, runs: Sequence[Run], plan: Plan, advance: Advance) -> list[dict[int, Snapshot]]:
    """Train all runs of one trainer and return their snapshots. A run that fails leaves no results."""
    scaling = runs[0].setup.scaling
    batches = list(plan.batches) if scaling is None else [scaled(batch, scaling) for batch in plan.batches]
    points, snapshots = set(plan.points), set(plan.snapshots)
    curve: list[Tensor] = []
    losses: list[Tensor] = []
    kept: list[dict[int, Snapshot]] = [{} for _ in runs]
    with warnings.catch_warnings(), seeded(0, "training"):
        warnings.filterwarnings("ignore", message="There is a performance drop")  # of vmap
        for step in range(plan.steps + 1):
            if step in points:
                curve.append(trainer.measure(batches[: plan.measured]))
            if step in snapshots:
                for member, run in enumerate(runs):
                    if run.spare is not None and trainer.is_alive(member):
                        kept[member][step] = trainer.snapshot(member)
            if step < plan.steps:
                losses.append(trainer.step(batches[step % len(batches)]))
                advance(1)
    for member, run in enumerate(runs):
        run.results.curve = torch.stack(curve)[:, member].numpy()
        run.results.losses = torch.stack(losses)[:, member].numpy()
    return kept


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
