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

# Processes are used from this number on: the steps of all runs, times the parameter tensors of a model. Seconds that 9
# runs with 16 units per layer took in one process with one thread, in two processes on two idle cores, and in two
# processes while other programs used the cores (one process took 0.32 and 2.04 then):
#   layers  steps     work   one   two   two, busy
#        3    200   10 800  0.29  0.23        0.36
#        3   2000  108 000  2.00  1.42        2.13
#       30    200  108 000  1.21  0.88           -
#       30    700  378 000  3.43  2.45           -
# On busy cores the threads of a single process wait for each other: a trial of about 8 000 took 9 s and more, and 0.6 s
# in two processes.
_LEAST_WORK = 5_000

Advance = Callable[[int], None]


def train_runs(runs: Sequence[Run], plan: Plan, advance: Advance, *, processes: int | None = None) -> None:
    """Train all runs, diagnose those with a spare setup again, and write their results.

    Args:
        runs: the runs.
        plan: what every run does.
        advance: is called with the number of completed steps, summed over runs.
        processes: number of processes. Default: one for each thread of PyTorch, if processes can be forked and the
            trial is large enough.
    Raises:
        RuntimeError: if a process ends before its work is done.
    """
    if processes is None:
        work = plan.steps * sum(len(list(run.setup.model.parameters())) for run in runs)
        processes = possible_processes(run.setup.model for run in runs) if work >= _LEAST_WORK else 1
    groups = group_runs(runs)
    if processes == 1:
        for group in groups:
            _train_group(group, plan, advance)
        return
    pieces = divided(groups, processes)

    def train(task: int, count: Advance) -> list[Results]:
        _train_group(pieces[task], plan, count)
        return [run.results for run in pieces[task].runs]

    for piece, results in zip(pieces, in_processes(processes, len(pieces), train, advance), strict=True):
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
