"""The resumable loop: work in steps, saved as it goes, and continued after an interruption."""

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from thruway.errors import CheckpointError
from thruway.runs import Run

__all__ = ["Progress", "Silent", "run_resumable", "saved_state"]

SAVE_EVERY_S = 30.0
"""Longest time between two checkpoints: the work that a `kill -9` can cost."""


class Progress(Protocol):
    """Receiver of a run's progress."""

    def begin(self, total: float) -> None:
        """Set the total work, in any unit that grows evenly with time."""
        ...

    def advance(self, done: float, doing: str) -> None:
        """Add finished work. May raise KeyboardInterrupt to stop the run; it is called only when that is safe."""
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
    """Take all steps, and save the state at regular intervals, on an interrupt and at the end.

    A training is a generator of steps. It yields after each unit of work, such as an epoch, when its state is
    consistent; a resumed training yields only what is left.

    Args:
        steps: (cost, description) of each step, yielded once it is done. The cost is in the unit of `progress`.
        save: writes the state as it is after the latest step.
        progress: may raise KeyboardInterrupt between two steps. An interrupt inside a step would leave weights that
            belong to no epoch, so nothing is saved then.
        every: longest time between two saves, in seconds.
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
    """Return the state stored with a checkpoint, or `start` where there is none.

    Args:
        run: the run folder.
        checkpoint: name of the checkpoint.
        start: the state before the first step; also the default of entries that the stored state lacks.
    Raises:
        CheckpointError: if the checkpoint has no state.
    """
    if checkpoint not in run.checkpoints():
        return start
    found = run.load(checkpoint).state
    if found is None:
        raise CheckpointError(
            f"the checkpoint {checkpoint!r} does not say how far its training is. Remove it to train this part again."
        )
    return start | found
