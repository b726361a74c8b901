"""The part of a Diagnosis that its displays read."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from thruway.diagnosing.finding import Finding
from thruway.watching.trace.trace import Trace

__all__ = ["ReadableDiagnosis"]


class ReadableDiagnosis(Protocol):
    """Interface of a Diagnosis for its displays."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The causes."""

    @property
    def unseen(self) -> dict[str, str]:
        """Symptoms that the trace could not show, with the reason."""

    @property
    def trace(self) -> Trace:
        """The trace that was read."""

    @property
    def losses(self) -> Sequence[float] | None:
        """Losses that were passed to `diagnose`."""

    @property
    def healthy(self) -> bool:
        """True if nothing was found."""

    def every_finding(self) -> Iterator[tuple[int, Finding]]:
        """Yield (depth, finding) for causes and their effects."""
