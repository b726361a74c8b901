"""Prescription: cures in the order of the loss that they gained, and the best one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thruway.diagnosing.finding import Finding
from thruway.diagnosing.prescribing.trial import Trial
from thruway.runs import Table

__all__ = ["Prescription"]


@dataclass(frozen=True, eq=False)
class Prescription:
    """The cures that were tried, ranked by the loss gained relative to no change.

    Attributes:
        model: class of the model.
        findings: the findings whose cures were tried.
        ranking: one trial per cure, the best first, those that are not applicable last.
        best: the first cure if it helps, and more than the placebo; else None.
        no_change: the runs without a change; None if there was nothing to try.
        placebo: the runs with a cure of another symptom; None if no other one is applicable.
        seeds: seeds of the runs.
        steps: number of steps of each run.
        seconds: duration of all runs.
    """

    model: str
    findings: tuple[Finding, ...]
    ranking: tuple[Trial, ...] = ()
    best: Trial | None = None
    no_change: Trial | None = None
    placebo: Trial | None = None
    seeds: tuple[int, ...] = ()
    steps: int = 0
    seconds: float = 0.0

    @property
    def healthy(self) -> bool:
        """True if there were no findings, so that nothing was tried."""
        return not self.findings

    def trials(self) -> tuple[Trial, ...]:
        """Return the ranked cures, then no change and the placebo."""
        return (*self.ranking, *(trial for trial in (self.no_change, self.placebo) if trial is not None))

    def table(self) -> Table:
        """Return one line per trial: cure, arm, applicable, gain, low, high, first, final, cleared, remaining."""
        rows = self.trials()

        def median(values: Sequence[float]) -> float:
            return float(np.median(values)) if values else float("nan")

        return Table(
            {
                "cure": np.array([t.cure.name for t in rows], dtype=object),
                "arm": np.array([t.arm for t in rows], dtype=object),
                "applicable": np.array([t.applicable for t in rows], dtype=np.bool_),
                "gain": np.array([t.gain for t in rows], dtype=np.float64),
                "low": np.array([t.interval[0] for t in rows], dtype=np.float64),
                "high": np.array([t.interval[1] for t in rows], dtype=np.float64),
                "first": np.array([median(t.first) for t in rows], dtype=np.float64),
                "final": np.array([median(t.final) for t in rows], dtype=np.float64),
                "cleared": np.array(["" if t.cleared is None else str(t.cleared) for t in rows], dtype=object),
                "remaining": np.array([", ".join(f.rule for f in t.remaining) for t in rows], dtype=object),
            }
        )

    def to_json(self) -> str:
        """Return the prescription as strict JSON."""
        content: dict[str, Any] = {
            "model": self.model,
            "healthy": self.healthy,
            "best": None if self.best is None else self.best.cure.name,
            "steps": self.steps,
            "seeds": list(self.seeds),
            "seconds": self.seconds,
            "findings": [finding.to_dict() for finding in self.findings],
            "trials": [trial.to_dict() for trial in self.trials()],
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def __repr__(self) -> str:
        from thruway.diagnosing.prescribing.text import prescription_text

        return prescription_text(self)

    def _repr_html_(self) -> str:
        from thruway.diagnosing.prescribing.notebook import prescription_html

        return prescription_html(self)
