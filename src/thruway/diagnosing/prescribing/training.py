"""Training of all arms of a trial: together where the architecture is the same, one after another elsewhere."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thruway.diagnosing.prescribing.alone import Alone
from thruway.diagnosing.prescribing.setup import Setup, seeded
from thruway.diagnosing.prescribing.snapshot import Snapshot, take
from thruway.diagnosing.prescribing.together import Together, group_key, reason_against

__all__ = ["Plan", "Run", "group_runs", "scaled", "train_runs"]

# Members that are trained together hold at most this many numbers in their parameters.
_MOST_NUMBERS = 2**26

Batch = tuple[Any, Any]


@dataclass(frozen=True)
class Plan:
    """Settings that all runs share.

    Attributes:
        batches: the batches of all steps; step i uses batch i modulo their number.
        loss: function of (outputs, targets).
        steps: number of steps.
        measured: number of batches, from the first on, over which the curve is measured.
        points: steps before which the curve is measured; the last one is `steps`, after the last update.
        snapshots: steps before which a snapshot is taken.
    """

    batches: Sequence[Batch]
    loss: Callable[[Any, Any], Tensor]
    steps: int
    measured: int
    points: tuple[int, ...]
    snapshots: tuple[int, ...]


@dataclass
class Run:
    """One run of one arm with one seed, and its results.

    Attributes:
        arm: name of the arm.
        seed: the seed.
        setup: model, optimizer and loop. It is trained in place if it is trained alone.
        keeps_snapshots: True if snapshots are taken.
        curve: loss on the measured batches at each point of the plan, NaN once diverged.
        losses: training loss of every step.
        snapshots: training state at the steps of the plan.
        note: reason why the run was trained alone; "" if it was trained together with others.
        error: message of the error that ended the run; "" without one.
    """

    arm: str
    seed: int
    setup: Setup
    keeps_snapshots: bool = False
    curve: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    losses: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    note: str = ""
    error: str = ""


def train_runs(runs: Sequence[Run], plan: Plan, advance: Callable[[int], None]) -> None:
    """Train all runs and fill in their results.

    Args:
        runs: the runs.
        plan: what every run does.
        advance: is called with the number of completed steps, summed over runs.
    """
    for group, reason in group_runs(runs):
        if reason:
            _one_after_another(group, plan, reason, advance)
            continue
        done = 0

        def count(steps: int, size: int = len(group)) -> None:
            nonlocal done
            done += steps * size
            advance(steps * size)

        try:
            _train(Together([run.setup for run in group], plan.loss), group, plan, count)
        except Exception as error:  # an operation that cannot be vectorised, or the model's own error
            advance(-done)
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            _one_after_another(group, plan, f"could not be vectorised: {first[:160]}", advance)


def group_runs(runs: Sequence[Run]) -> list[tuple[list[Run], str]]:
    """Return groups of runs with the reason why the runs of a group are trained alone; "" if together."""
    together: list[tuple[list[Any], list[Run]]] = []
    alone: list[tuple[list[Run], str]] = []
    for run in runs:
        reason = reason_against(run.setup)
        if reason:
            alone.append(([run], reason))
            continue
        size = sum(p.numel() for p in run.setup.model.parameters())
        key = group_key(run.setup)
        group = next((g for k, g in together if _is_equal(k, key) and (len(g) + 1) * size <= _MOST_NUMBERS), None)
        if group is None:
            together.append((key, [run]))
        else:
            group.append(run)
    single = "no other run has its architecture"
    return [(group, "" if len(group) > 1 else single) for _, group in together] + alone


def _is_equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except (RuntimeError, ValueError):  # settings that hold tensors or arrays
        return False


def _one_after_another(group: Sequence[Run], plan: Plan, reason: str, advance: Callable[[int], None]) -> None:
    for run in group:
        run.note = reason
        done = 0

        def count(steps: int) -> None:
            nonlocal done
            done += steps
            advance(steps)

        start = take(run.setup)
        try:
            _train(Alone(run.setup, plan.loss), [run], plan, count)
        except Exception as error:
            advance(plan.steps - done)
            run.error = (str(error).strip() or type(error).__name__).splitlines()[0]
            run.snapshots = {0: start}


def _train(trainer: Together | Alone, runs: Sequence[Run], plan: Plan, advance: Callable[[int], None]) -> None:
    """Train all runs of one trainer; the results are written at the end, so that a failure leaves no part of them."""
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
                    if run.keeps_snapshots and trainer.is_alive(member):
                        kept[member][step] = trainer.snapshot(member)
            if step < plan.steps:
                losses.append(trainer.step(batches[step % len(batches)]))
                advance(1)
    for member, run in enumerate(runs):
        run.curve = torch.stack(curve)[:, member].numpy()
        run.losses = torch.stack(losses)[:, member].numpy()
        run.snapshots = kept[member]


def scaled(batch: Batch, scaling: Callable[[Tensor], Tensor]) -> Batch:
    """Return the batch with its first tensor of inputs scaled."""
    inputs, targets = batch
    if isinstance(inputs, tuple):
        return (scaling(inputs[0]), *inputs[1:]), targets
    if isinstance(inputs, dict):
        first = next(iter(inputs))
        return {**inputs, first: scaling(inputs[first])}, targets
    return scaling(inputs), targets
