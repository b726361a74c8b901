"""The report of a study that compares nets: errors seed by seed, training curves, and the paper's table beside."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from thruway.experiments.claims import Claim
from thruway.experiments.compared_nets import Contender, error_of, errors_of, measurements_of, parameters_of
from thruway.experiments.image_study import ImageStudy
from thruway.experiments.loss_curves import loss_curves
from thruway.experiments.measured_report import Told, write_measured_report
from thruway.experiments.measuring import read_rows
from thruway.report import Cell, ClaimVerdict, Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["Account", "Published", "accuracy_in_words", "beside_the_paper", "error_table", "write_compared_report"]

Rows = Sequence[Mapping[str, Any]]

_NET_BY_NET = (
    "Errors are shares of the examples; the lowest mean is marked. Nets of a seed saw the same examples in one order."
)
_CAPTION = "Test errors, mean over seeds and seed by seed; the training error is that of up to 2,000 training examples."

_THRESHOLDS = (
    "thresholds are ours, set before any run; two nets are not compared where both get more than half as many wrong as "
    "guessing does"
)


@dataclass(frozen=True)
class Published:
    """A net of the paper's table.

    Attributes:
        label: what the paper calls it.
        accuracy: as the paper prints it, in percent.
        where: in the paper.
        net: our name for it; "" for a net that is not trained here.
        parameters: as the paper prints them.
    """

    label: str
    accuracy: str
    where: str
    net: str = ""
    parameters: str = ""


@dataclass(frozen=True)
class Account:
    """What a study says of itself, beside its numbers.

    Attributes:
        title: its question.
        subtitle: paper and tables.
        lead: rows -> the answer in plain words; it is asked only once every contender has been tested with some seed.
        sections: rows -> what only this study shows.
        published: the paper's numbers.
        paper_saw: a sentence on what the paper's nets learnt from.
        nets: what was trained, in words.
        differs: what is never as published, a sentence each.
        chosen: rows -> those that stand for the nets of `lead` and `published`, where one was trained in several ways.
    """

    title: str
    subtitle: str
    lead: Callable[[Rows], str]
    published: Sequence[Published]
    paper_saw: str
    nets: str
    differs: tuple[str, ...]
    sections: Callable[[Rows], list[Section]] = lambda rows: []
    chosen: Callable[[Rows], Rows] = lambda rows: rows


def write_compared_report(
    reader: RunReader,
    folder: Path,
    config: ImageStudy,
    paper: ImageStudy,
    contenders: Sequence[Contender],
    claims: Sequence[Claim],
    account: Account,
) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    rows = read_rows(reader, measurements_of(config, contenders))
    labels = {each.name: each.label for each in contenders}
    table = error_table(rows, contenders)
    sections = [
        *account.sections(rows),
        *loss_curves(reader, labels),
        Section("Net by net", None, _NET_BY_NET, table),
        Section("Beside the paper", None, account.paper_saw, beside_the_paper(account.chosen(rows), account.published)),
    ]
    told = Told(
        title=account.title,
        subtitle=account.subtitle,
        lead=account.lead(account.chosen(rows))
        if all(errors_of(rows, name) for name in labels)
        else _so_far(rows, labels),
        sections=tuple(sections) if rows else (),
        table=table,
        nets=account.nets,
        differs=(*account.differs, _THRESHOLDS),
    )
    return write_measured_report(reader, folder, config, paper, rows, claims, told)


def error_table(rows: Rows, contenders: Sequence[Contender]) -> TableData:
    """A line per net that has been tested: its size, its test error with every seed, and its training error."""
    seeds = sorted({row["seed"] for row in rows})
    means = {each.name: error_of(rows, each.name) for each in contenders if errors_of(rows, each.name)}
    lines = []
    for each in contenders:
        if each.name not in means:
            continue
        errors = errors_of(rows, each.name)
        by_seed = (error_of([row for row in rows if row["seed"] == seed], each.name) for seed in seeds)
        is_best = len(means) > 1 and means[each.name] == min(means.values())
        lines.append(
            (
                each.label,
                each.layers,
                parameters_of(rows, each.name),
                Cell(means[each.name], "best") if is_best else means[each.name],
                stdev(errors) if len(errors) > 1 else None,
                *(None if math.isnan(error) else error for error in by_seed),
                error_of(rows, each.name, "train_error"),
            )
        )
    columns = ("net", "layers", "parameters", "test error", "± over seeds", *(f"seed {seed}" for seed in seeds))
    return TableData((*columns, "training error"), tuple(lines), _CAPTION)


def beside_the_paper(rows: Rows, published: Sequence[Published]) -> TableData:
    """The paper's accuracies beside ours."""
    entries = [
        (f"{each.label} (%)", each.accuracy, accuracy_in_words(errors_of(rows, each.net)), each.where)
        for each in published
    ]
    return paper_comparison(
        entries, caption="Test accuracy after the last epoch: the best seed (mean ± deviation over the seeds)."
    )


def accuracy_in_words(errors: Sequence[float]) -> str | None:
    """Errors as the papers print accuracies: the best, and if there are several, their mean and deviation.

    >>> accuracy_in_words([0.10, 0.12]), accuracy_in_words([0.10]), accuracy_in_words([])
    ('90.00 (89.00 ± 1.41)', '90.00', None)
    """
    if not errors:
        return None
    accuracies = [100 * (1 - error) for error in errors]
    best = f"{max(accuracies):.2f}"
    return f"{best} ({fmean(accuracies):.2f} ± {stdev(accuracies):.2f})" if len(errors) > 1 else best


def _so_far(rows: Rows, labels: Mapping[str, str]) -> str:
    """What there is before every net has been tested."""
    told = [f"{label} {error_of(rows, name):.1%}" for name, label in labels.items() if errors_of(rows, name)]
    return f"Test errors so far: {', '.join(told)}." if told else ""
