"""HTML view of a prescription for notebooks, without scripts, readable on light and dark backgrounds."""

import html

from thruway.diagnosing.prescribing.readable import ReadablePrescription
from thruway.diagnosing.prescribing.text import conclusion, loss_text, note_text

__all__ = ["prescription_html"]

_STYLE = "font: 13px/1.5 system-ui, sans-serif; max-width: 860px"
_CELL = "font-size: 13px; text-align: left; padding: 2px 14px 2px 0; border: 0; background: none"
_GREY = "color: #767b85"  # readable on white and black
_PRE = "font: 12px/1.4 ui-monospace, monospace; white-space: pre-wrap; margin: 4px 0; background: none"


def prescription_html(prescription: ReadablePrescription) -> str:
    """Return the conclusion, the ranking as a table, the code to paste and the diff of the module tree."""
    parts = [
        f"<b>Prescription for {html.escape(prescription.model)}</b>: {html.escape(conclusion(prescription))}",
        _table(prescription),
    ]
    if prescription.best is not None:
        parts += [
            f"<pre style='{_PRE}'>{html.escape(text)}</pre>"
            for text in (prescription.best.code, prescription.best.diff)
            if text
        ]
    return f'<div style="{_STYLE}">{"".join(f"<div>{part}</div>" for part in parts if part)}</div>'


def _table(prescription: ReadablePrescription) -> str:
    trials = prescription.trials()
    if not trials:
        return ""
    names = ("cure", "loss gained", "interval", "final loss", "afterwards")
    head = "".join(f'<th style="{_CELL}; {_GREY}">{name}</th>' for name in names)
    body = ""
    for trial in trials:
        label = trial.cure.name if trial.arm == "cure" else f"{trial.arm} ({trial.cure.name})"
        low, high = trial.interval
        is_compared = trial.applicable and trial.arm != "no change"
        cells = (
            "no change" if trial.arm == "no change" else label,
            f"{trial.gain:+.0%}" if is_compared else "",
            f"{low:+.0%} to {high:+.0%}" if is_compared else "",
            loss_text(trial.final) if trial.applicable else "",
            note_text(trial),
        )
        row = "".join(f'<td style="{_CELL}">{html.escape(cell)}</td>' for cell in cells)
        body += f'<tr style="background: none">{row}</tr>'
    return f'<table style="border: 0; border-collapse: collapse"><tr style="background: none">{head}</tr>{body}</table>'
