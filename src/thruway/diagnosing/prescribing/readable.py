"""The part of a Prescription that its displays read."""

from typing import Protocol

from thruway.diagnosing.prescribing.trial import Trial

__all__ = ["ReadablePrescription"]


class ReadablePrescription(Protocol):
    """Interface of a Prescription for its displays."""

    @property
    def model(self) -> str:
        """Class of the model."""

    @property
    def healthy(self) -> bool:
        """True if there were no findings."""

    @property
    def ranking(self) -> tuple[Trial, ...]:
        """The cures, the best first."""

    @property
    def best(self) -> Trial | None:
        """The cure that helps."""

    @property
    def no_change(self) -> Trial | None:
        """The runs without a change."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs."""

    @property
    def steps(self) -> int:
        """Number of steps of each run."""

    @property
    def seconds(self) -> float:
        """Duration of all runs."""

    def trials(self) -> tuple[Trial, ...]:
        """Return the ranked cures, then no change and the placebo."""
