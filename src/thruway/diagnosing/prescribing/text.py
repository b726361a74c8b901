"""Text of a prescription: one screen with the best cure, the ranking and the code to paste."""

import math
import textwrap
from collections.abc import Sequence

from thruway.diagnosing.prescribing.intervals import CONFIDENCE
from thruway.diagnosing.prescribing.readable import ReadablePrescription
from thruway.diagnosing.prescribing.trial import Trial

__all__ = ["conclusion", "loss_text", "note_text", "prescription_text"]

_WIDTH = 100
_DIFF_LINES = 12


def prescription_text(prescription: ReadablePrescription) -> str:
    """Return the prescription as one screen of text."""
    lines = [f"Prescription for {prescription.model}: {conclusion(prescription)}"]
    if prescription.no_change is not None:
        lines += ["", *_table(prescription), "", *textwrap.wrap(_legend(prescription), _WIDTH)]
    if prescription.best is not None:
        lines += ["", "Code:", textwrap.indent(prescription.best.code, "    ")]
        diff = prescription.best.diff.splitlines()
        if diff:
            more = [f"... {len(diff) - _DIFF_LINES} more lines in best.diff"] if len(diff) > _DIFF_LINES else []
            lines += ["Change of the module tree:", *(f"    {line}" for line in (*diff[:_DIFF_LINES], *more))]
    return "\n".join(lines)


def conclusion(prescription: ReadablePrescription) -> str:
    """Return the result in one sentence."""
    if prescription.healthy:
        return "nothing to cure: there are no findings, so nothing was tried."
    if not any(trial.applicable for trial in prescription.ranking):
        return "none of the suggested cures can be applied to this model."
    best = prescription.best
    if best is None:
        first = prescription.ranking[0]
        why = "no gain is distinguishable from 0" if not first.helps else "a placebo gains as much"
        return f"none helps: {why} over {prescription.steps} steps."
    return (
        f"{best.cure.name} ({best.cure.text}): loss {loss_text(best.final)} instead of "
        f"{loss_text(prescription.no_change.final if prescription.no_change else ())} after {prescription.steps} steps."
    )


def loss_text(values: Sequence[float]) -> str:
    """Return the median loss; diverged runs count as infinite."""
    finite = sorted(value if math.isfinite(value) else math.inf for value in values)
    if not finite:
        return "-"
    middle = finite[len(finite) // 2]
    return f"{middle:.3g}" if math.isfinite(middle) else "diverged"


def note_text(trial: Trial) -> str:
    """Return what is still found after the cure, or why it was not tried."""
    if not trial.applicable:
        return f"not applicable: {trial.reason}"
    found = ", ".join(finding.rule for finding in trial.remaining)
    return f"still {found}" if found else "no findings" if trial.cleared else ""


def _table(prescription: ReadablePrescription) -> list[str]:
    rows = [("cure", "loss gained", "final loss", "afterwards")]
    for trial in prescription.trials():
        label = {"cure": trial.cure.name, "no change": "no change", "placebo": f"placebo ({trial.cure.name})"}[
            trial.arm
        ]
        gained = "" if not trial.gains or trial.arm == "no change" else _gain(trial)
        rows.append((label, gained, loss_text(trial.final) if trial.applicable else "", note_text(trial)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        _cut("  " + "  ".join((*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3])).rstrip())
        for row in rows
    ]


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."


def _gain(trial: Trial) -> str:
    low, high = trial.interval
    return f"{trial.gain:+.0%} ({low:+.0%} to {high:+.0%})"


def _legend(prescription: ReadablePrescription) -> str:
    trials = [trial for trial in prescription.trials() if trial.applicable]
    alone = [trial.cure.name for trial in trials if trial.note]
    text = (
        f"Loss gained relative to no change, in percent of the first loss: median over {len(prescription.seeds)} "
        f"seeds, and the {CONFIDENCE:.0%} interval of the mean of the paired differences by Student's t."
    )
    if alone and len(alone) < len(trials):
        text += f" Trained one after another: {', '.join(alone)}."
    elif alone:
        text += f" All runs were trained one after another: {trials[0].note}."
    return f"{text} {prescription.seconds:.1f} s in all."
