"""The card of a prescription in the report: cures with their measured curves and intervals."""

import math
import statistics
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from thruway.diagnosing.finding import Cure, Finding
from thruway.diagnosing.wording import count, number, printable
from thruway.figures import run_curves
from thruway.figures.panels import fit_legend, label, small_multiples
from thruway.figures.theme import BLOCK_STYLES, GREY
from thruway.figures.ticks import shortened
from thruway.report import Card, CardCode, CardFigure, Cell, TableData
from thruway.report.card import Tone

__all__ = ["Tried", "TriedCure", "best_sentence", "prescription_card"]

MOST_CURVES = 6  # cures; more lines cannot be distinguished
LOG_FROM = 30.0  # ratio of the largest to the smallest loss
HELPS, OTHERS = BLOCK_STYLES["residual"].color, GREY


class TriedCure(Protocol):
    """Interface of a Trial."""

    @property
    def cure(self) -> Cure: ...
    @property
    def arm(self) -> str: ...
    @property
    def applicable(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def final(self) -> tuple[float, ...]: ...
    @property
    def gain(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...
    @property
    def helps(self) -> bool: ...
    @property
    def curves(self) -> NDArray[np.float64] | None: ...
    @property
    def points(self) -> tuple[int, ...]: ...
    @property
    def remaining(self) -> tuple[Finding, ...]: ...
    @property
    def cleared(self) -> bool | None: ...
    @property
    def diff(self) -> str: ...
    @property
    def code(self) -> str: ...


class Tried(Protocol):
    """Interface of a Prescription."""

    @property
    def best(self) -> TriedCure | None: ...
    @property
    def no_change(self) -> TriedCure | None: ...
    @property
    def seeds(self) -> tuple[int, ...]: ...
    @property
    def steps(self) -> int: ...

    def trials(self) -> Sequence[TriedCure]:
        """Return the ranked cures, then no change and the placebo."""


def best_sentence(prescription: Tried) -> str:
    """Return the result of the trial in one sentence."""
    best, unchanged = prescription.best, prescription.no_change
    if best is None:
        return "None of the cures that were tried helps." if prescription.trials() else "No cure was tried."
    loss, without = _median(best.final), _median(unchanged.final if unchanged else ())
    return (
        f"What worked when it was tried: {printable(best.cure.text)}. After {count(prescription.steps, 'step')} "
        f"the loss is {number(loss)}, {number(without)} without it."
    )


def prescription_card(prescription: Tried) -> Card | None:
    """Return the card of the cures, or None if nothing was tried."""
    trials = prescription.trials()
    tried = [trial for trial in trials if trial.applicable and trial.curves is not None]
    if not tried:
        return None
    with_gain = [trial for trial in tried if trial.arm != "no change" and math.isfinite(trial.gain)]
    parts: list[CardFigure | CardCode | tuple[str, TableData]] = [
        CardFigure(
            "Loss with each cure",
            "The mean over the seeds, in a band from the lowest to the highest. Dashed: no change and the placebo, a "
            "cure of another symptom.",
            _curves(tried),
            is_wide=True,
        )
    ]
    if with_gain:
        gains = CardFigure(
            "Loss gained by each cure",
            "Relative to the same seed without a change, in units of the first loss, with the interval of the mean. A "
            "cure helps if its interval lies to the right of 0.",
            _gains(with_gain),
            is_wide=True,
        )
        parts.append(gains)
    parts.append(("All cures", _table(trials)))
    best = prescription.best
    if best is not None and best.code:
        parts.append(CardCode("The change as code", printable_lines(best.code)))
    if best is not None and best.diff:
        parts.append(CardCode("The change of the module tree", printable_lines(best.diff)))
    runs = f"{count(len(prescription.seeds), 'seed')}, {count(prescription.steps, 'step')} each"
    chips: tuple[tuple[str, Tone], ...] = (
        ("helps", "holds") if best is not None else ("none helps", "unclear"),
        (runs, ""),
    )
    return Card("Cures that were tried", "prescription", best_sentence(prescription), chips, {}, tuple(parts))


def printable_lines(text: str) -> str:
    """Replace characters that control a terminal or a page, line by line."""
    return "\n".join(printable(line) for line in text.splitlines())


def _median(values: Sequence[float]) -> float:
    known = [value if math.isfinite(value) else math.inf for value in values]
    return statistics.median(known) if known else math.nan


def _name(trial: TriedCure) -> str:
    if trial.arm == "no change":
        return "no change"
    return f"placebo ({trial.cure.name})" if trial.arm == "placebo" else trial.cure.name


def _curves(tried: Sequence[TriedCure]) -> go.Figure:
    cures = [trial for trial in tried if trial.arm == "cure"][:MOST_CURVES]
    shown = [*cures, *(trial for trial in tried if trial.arm != "cure")]
    curves, bands = {}, {}
    for trial in shown:
        values = np.asarray(trial.curves, dtype=np.float64)
        # A run that diverged ends; the others go on.
        known = np.logical_or.reduce(np.isfinite(values))
        middle, low, high = (np.full(values.shape[1], np.nan) for _ in range(3))
        middle[known] = np.nanmean(values[:, known], axis=0)
        low[known], high[known] = np.nanmin(values[:, known], axis=0), np.nanmax(values[:, known], axis=0)
        curves[_name(trial)], bands[_name(trial)] = (trial.points, middle), (trial.points, low, high)
    drawn = np.concatenate([y[np.isfinite(y)] for _, y in curves.values()])
    log = bool(drawn.size and drawn.min() > 0 and drawn.max() > LOG_FROM * drawn.min())
    references = [_name(trial) for trial in shown if trial.arm != "cure"]
    return run_curves(curves, bands=bands, references=references, x_name="step", y_name="loss", log=log)


def _gains(tried: Sequence[TriedCure]) -> go.Figure:
    names = [_name(trial) for trial in tried]
    whole = [label(name, longest=len(name)) for name in names]
    y_axis = {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": whole[::-1],
        "tickvals": whole,
        "ticktext": shortened(names, 26),
        "automargin": True,
        "range": [-0.6, len(names) - 0.4],
    }
    x_axis = {"title": {"text": "loss gained (first loss = 1)"}, "zeroline": True, "zerolinecolor": GREY}
    figure = small_multiples([""], [x_axis], y_axis, height=38 * len(names) + 30)
    for is_helpful, color, name in ((True, HELPS, "helps"), (False, OTHERS, "no gain to be seen")):
        rows = [place for place, trial in enumerate(tried) if (trial.helps and trial.arm == "cure") == is_helpful]
        if not rows:
            continue
        # An interval without an end is drawn to the edge of what is possible: gains lie between -1 and 1.
        ends = [tuple(min(max(end, -1.0), 1.0) for end in tried[row].interval) for row in rows]
        x = [tried[row].gain for row in rows]
        figure.add_trace(
            go.Scatter(
                x=x,
                y=[whole[row] for row in rows],
                mode="markers",
                name=name,
                marker={"color": color, "size": 9},
                error_x={
                    "array": [max(0.0, high - at) for (_, high), at in zip(ends, x, strict=True)],
                    "arrayminus": [max(0.0, at - low) for (low, _), at in zip(ends, x, strict=True)],
                    "color": color,
                    "thickness": 2.2,
                    "width": 6,
                },
                hovertemplate="%{y}: %{x:.3g}<extra></extra>",
            )
        )
    figure.update_layout(showlegend=True)
    return fit_legend(figure)


def _table(trials: Sequence[TriedCure]) -> TableData:
    best = max((t.gain for t in trials if t.arm == "cure" and t.helps), default=None)
    rows = []
    for trial in trials:
        has_gain = trial.applicable and trial.arm != "no change"
        after = ", ".join(dict.fromkeys(printable(finding.rule) for finding in trial.remaining))
        note = f"still {after}" if after else "no findings" if trial.cleared else ""
        rows.append(
            (
                _name(trial),
                Cell(trial.gain, "best" if trial.gain == best else "") if has_gain else None,
                trial.interval[0] if has_gain else None,
                trial.interval[1] if has_gain else None,
                _median(trial.final) if trial.final else None,
                note if trial.applicable else f"not applicable: {printable(trial.reason)}",
            )
        )
    return TableData(("cure", "gain", "low", "high", "final loss", "afterwards"), tuple(rows))
