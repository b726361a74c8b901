"""Resumable loop: work in steps that is saved at intervals and continued after an interruption."""

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from thruway.errors import CheckpointError
from thruway.runs import Run

__all__ = ["Progress", "Silent", "run_resumable", "saved_state"]

SAVE_EVERY_S = 30.0
"""Maximum time between two checkpoints, which is also the maximum loss of work after a `kill -9`."""


class Progress(Protocol):
    """Receiver of a run's progress."""

    def begin(self, total: float) -> None:
        """Set the total work, in any unit proportional to time."""
        ...

    def advance(self, done: float, doing: str) -> None:
        """Add finished work. May raise KeyboardInterrupt to stop the run, since it is only called when that is safe."""
        ...


class Silent:
    """Progress that is not shown."""

    def begin(self, total: float) -> None:
        """Do nothing."""

    def advance(self, done: float, doing: str) -> None:
        """Do nothing."""


def run_resumable(
    steps: Iterable[tuple[float, str]], save: Callable[[], None], progress: Progress, every: float = SAVE_EVERY_S
) -> None:
    """Run all steps, and save the state at regular intervals, on an interrupt and at the end.

    The training is a generator of steps. It yields after each unit of work, such as an epoch, when its state is
    consistent. A resumed training yields only the remaining steps.

    Args:
        steps: iterator over (cost, description), which yields after each step. The cost is in the unit of `progress`.
        save: function that writes the state after the latest step.
        progress: may raise KeyboardInterrupt between two steps. After an interrupt within a step nothing is saved,
            since the weights would not belong to any epoch.
        every: maximum time between two saves, in seconds.
    """
    saved_at = time.monotonic()
    for cost, doing in steps:
        if time.monotonic() - saved_at > every:
            save()
            saved_at = time.monotonic()
        try:
            progress.advance(cost, doing)
        except KeyboardInterrupt:
            save()
            raise
    save()


def saved_state(run: Run, checkpoint: str, **start: Any) -> dict[str, Any]:
    """Return the state stored with a checkpoint, or `start` if there is no checkpoint.

    Args:
        run: the run folder.
        checkpoint: name of the checkpoint.
        start: the state before the first step, and the defaults of entries missing from the stored state.
    Raises:
        CheckpointError: if the checkpoint has no state.
    """
    if checkpoint not in run.checkpoints():
        return start
    found = run.load(checkpoint).state
    if found is None:
        raise CheckpointError(
            f"the checkpoint {checkpoint!r} does not state how far its training got. Remove it to train this part "
            "again."
        )
    return start | found
