"""Diagnosis: the findings of one trace, their text, table and JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from thruway.diagnosing.finding import Finding
from thruway.runs import Table
from thruway.watching.trace.trace import Trace

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from thruway.diagnosing.tried import Tried

__all__ = ["Diagnosis"]


@dataclass(frozen=True)
class Diagnosis(Sequence[Finding]):
    """A sequence of findings: causes first, each with the findings that follow from it in `effects`.

    Attributes:
        findings: the causes.
        unseen: symptoms that this trace could not show, with the reason. They may be present nevertheless.
        trace: the trace that was read.
        losses: losses that were passed to `diagnose`, if the trace has none.
    """

    findings: tuple[Finding, ...]
    unseen: dict[str, str]
    trace: Trace
    losses: Sequence[float] | None = None

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Finding, ...]: ...
    def __getitem__(self, index: int | slice) -> Finding | tuple[Finding, ...]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def healthy(self) -> bool:
        """True if nothing was found. See `unseen` for what could not be seen."""
        return not self.findings

    def every_finding(self) -> Iterator[tuple[int, Finding]]:
        """Yield (depth, finding) for causes, at depth 0, and their effects, at depth 1 and more."""

        def walk(findings: Sequence[Finding], depth: int) -> Iterator[tuple[int, Finding]]:
            for finding in findings:
                yield depth, finding
                yield from walk(finding.effects, depth + 1)

        yield from walk(self.findings, 0)

    def table(self) -> Table:
        """Return one line per finding, effects included: rule, depth, site, since, until, confidence, cause."""
        rows = list(self.every_finding())
        return Table(
            {
                "rule": np.array([f.rule for _, f in rows], dtype=object),
                "depth": np.array([depth for depth, _ in rows], dtype=np.int64),
                "site": np.array([f.sites[0] if f.sites else "" for _, f in rows], dtype=object),
                "since": np.array([f.onset for _, f in rows], dtype=np.int64),
                "until": np.array([-1 if f.until is None else f.until for _, f in rows], dtype=np.int64),
                "confidence": np.array([f.confidence for _, f in rows], dtype=np.float64),
                "cause": np.array([f.cause for _, f in rows], dtype=object),
            }
        )

    def to_json(self) -> str:
        """Return the diagnosis as strict JSON."""
        content: dict[str, Any] = {
            "model": self.trace.model,
            "healthy": self.healthy,
            "findings": [finding.to_dict() for finding in self.findings],
            "unseen": self.unseen,
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def figure(self, which: Finding | int = 0, picture: str | None = None) -> "go.Figure":
        """Plot the evidence of a finding.

        Args:
            which: a finding, or the place of a cause.
            picture: name of the picture, such as "map", "depth" or "loss". Default: the first of the finding.
        Raises:
            ConfigError: if there is no such finding or picture; the message lists the known ones.
        """
        from thruway.diagnosing.pictures.choice import finding_figure  # loads Plotly

        return finding_figure(self, which, picture)

    def report(self, path: Path | str, prescription: "Tried | None" = None) -> Path:
        """Write the diagnosis as one self-contained HTML page.

        Args:
            path: file to write.
            prescription: result of `prescribe`; the page then shows its measured curves and intervals.
        Returns:
            The path.
        Raises:
            RunError: if the file cannot be written.
        """
        from thruway.diagnosing.page import write_report  # loads Plotly

        return write_report(self, Path(path), prescription)

    def __repr__(self) -> str:
        from thruway.diagnosing.text import diagnosis_text

        return diagnosis_text(self)

    def _repr_html_(self) -> str:
        from thruway.diagnosing.notebook import diagnosis_html

        return diagnosis_html(self)
