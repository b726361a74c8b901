"""Content of a report: frozen data classes filled in by an experiment, and the machine-readable `summary.json`.

Page ── claims:     ClaimVerdict ...
     ── sections:   Section ── figure, reading, TableData
     ── provenance: command, data, hardware, and differences from the paper

summary.json
    schema      1; increases when the meaning of a key changes
    experiment  name of the experiment
    rows        one object per trial, see `ROW_KEYS`
    claims      one object per claim: id, text, statistic, value, threshold, verdict, source, note
    meta        facts about the run: scale, data, hardware, seeds, versions, command, cost ...
    keys        descriptions of the columns of `rows`

The file is strict JSON: NaN and infinity, which JSON does not have, are null. If the `final_loss` of a row is null,
`diverged` shows the reason.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from thruway.errors import ConfigError, unknown_name
from thruway.runs.files import write_atomically

__all__ = [
    "ROW_KEYS",
    "VERDICTS",
    "Cell",
    "ClaimVerdict",
    "Page",
    "Section",
    "TableData",
    "paper_comparison",
    "plain_data",
    "write_summary",
]

Mark = Literal["", "best", "diverged"]


@dataclass(frozen=True)
class Cell:
    """A highlighted table entry: the best of its group, or a diverged run."""

    value: Any
    mark: Mark = ""


@dataclass(frozen=True)
class TableData:
    """A table: column names, and rows of numbers, text, None or `Cell`.

    Integers are formatted with thousands separators, other numbers with four significant digits; None is shown as a
    dash.

    Raises:
        ConfigError: if the number of entries of a row is not the number of columns.

    >>> TableData(("depth", "loss"), ((10, 0.02), (50, Cell(1.9, "diverged")))).columns
    ('depth', 'loss')
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ConfigError(
                    f"row {number} of the table has {len(row)} entries, its {len(self.columns)} columns are "
                    f"{', '.join(self.columns)}. Pass one entry per column, None if it is missing."
                )


# Text of a verdict on the page: a sign and a word, so that it does not depend on colour.
VERDICTS = {"holds": "✓ holds", "fails": "✗ fails", "unclear": "? unclear"}


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim of a paper, the measured statistic, and the verdict.

    Args:
        id: short permanent name, for programs.
        text: text of the claim.
        statistic: measured quantity, with its unit.
        value: value of the statistic, one number or one per seed.
        threshold: condition for the claim to hold, such as "<= 0.1".
        verdict: a key of `VERDICTS`.
        source: paper, section, figure or table.
        note: remarks on the number.
    Raises:
        ConfigError: if the verdict is not one of `VERDICTS`.

    >>> ClaimVerdict("degrades", "plain nets degrade", "loss ratio", 40.0, ">= 10", "holds", "fig. 1").verdict
    'holds'
    """

    id: str
    text: str
    statistic: str
    value: float | Sequence[float]
    threshold: str
    verdict: Literal["holds", "fails", "unclear"]
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ConfigError(f"claim {self.id!r}: {unknown_name('verdict', self.verdict, VERDICTS)}")


@dataclass(frozen=True)
class Section:
    """One finding: a heading, a caption, a figure and, optionally, a table."""

    title: str
    figure: go.Figure | None
    reading: str
    table: TableData | None = None


@dataclass(frozen=True)
class Page:
    """A whole report.

    Args:
        title: title of the experiment.
        subtitle: paper and figure that it reproduces.
        lead: main result, in one paragraph.
        claims: claims of the paper with their verdicts.
        sections: figures and tables, or cards, in order.
        provenance: facts needed to reproduce and judge the run: scale, data, hardware, seeds, versions, command,
            cost, differences from the paper. A sequence is shown as a list.
    """

    title: str
    subtitle: str
    lead: str
    claims: tuple[ClaimVerdict, ...] = ()
    sections: tuple[Any, ...] = ()  # each a Section, or a Card of `report.card`, which imports this module
    provenance: Mapping[str, str | Sequence[str]] = field(default_factory=dict)


def paper_comparison(entries: Sequence[tuple[str, Any, Any, str]], *, caption: str = "") -> TableData:
    """Return a table of the paper's numbers and ours.

    Args:
        entries: (quantity with its unit, the paper's number, our number, place in the paper). None for an unknown
            number.
        caption: caption of the table, such as the limits of the comparison.

    >>> paper_comparison([("final loss, depth 10 (nats)", "< 1e-4", 0.002, "fig. 1")]).rows
    (('final loss, depth 10 (nats)', '< 1e-4', 0.002, 'fig. 1'),)
    """
    return TableData(("quantity", "paper", "this run", "where in the paper"), tuple(map(tuple, entries)), caption)


# Columns with the same meaning in every experiment. A row may have more.
ROW_KEYS = {
    "block": "kind of block: plain, highway or residual",
    "depth": "hidden layers, the first of which is always a plain one",
    "width": "units per block",
    "trial": "number of the trial in the search of its block and depth, from 0",
    "seed": "seed of the search; with the trial's number it fixes the drawn values and the initial weights",
    "final_loss": "training cross-entropy at the end, in nats; null if the trial diverged",
    "best_loss": "lowest training cross-entropy of all epochs, in nats; null if there was none",
    "test_error": "share of the test examples classified wrongly at the end, 0 to 1",
    "epochs_to_tenth": "epochs until the loss fell to a tenth of its value at chance level; null if it never did",
    "diverged": "true if the loss stopped being a finite number",
    "seconds": "training time of the trial; its share of the time if several trials are trained together",
    "epochs": "passes over the training set",
    "learning_rate": "initial learning rate of SGD",
    "momentum": "momentum of SGD",
    "decay": "factor by which the learning rate is multiplied after every epoch",
    "activation": "activation of the transform H",
    "gate_bias": "initial bias of the transform gate, before the sigmoid",
}


def write_summary(
    path: Path | str,
    *,
    experiment: str,
    rows: Sequence[Mapping[str, Any]],
    claims: Sequence[ClaimVerdict],
    meta: Mapping[str, Any],
) -> Path:
    """Write the results of a run as one strict JSON file; its keys are listed in the docstring of this module.

    Args:
        path: file to write, usually `summary.json` in the run folder. It is written atomically.
        experiment: name of the experiment.
        rows: one mapping per trial. NumPy numbers and arrays, paths and dataclasses are converted.
        claims: claims with their verdicts.
        meta: further facts about the run.
    Returns:
        The path.
    Raises:
        ConfigError: if a value cannot be converted to JSON; the message names its place.
        RunError: if the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_summary(Path(folder) / "summary.json", experiment="mine",
    ...                          rows=[{"depth": 10, "final_loss": float("nan")}], claims=[], meta={})
    ...     json.loads(path.read_text())["rows"]
    [{'depth': 10, 'final_loss': None}]
    """
    used = {key for row in rows for key in row}
    summary = {
        "schema": 1,
        "experiment": experiment,
        "rows": [plain_data(row, f"rows[{number}]") for number, row in enumerate(rows)],
        "claims": [plain_data(claim, f"claims[{number}]") for number, claim in enumerate(claims)],
        "meta": plain_data(meta, "meta"),
        "keys": {key: text for key, text in ROW_KEYS.items() if key in used},
    }
    return write_atomically(Path(path), (json.dumps(summary, indent=1, allow_nan=False) + "\n").encode())


def plain_data(value: Any, where: str) -> Any:
    """Convert `value` to JSON types. Non-finite numbers become None.

    Raises:
        ConfigError: if it cannot be converted; the message names the place, starting with `where`.

    >>> plain_data({"loss": np.float32("nan"), "depths": (10, 20)}, "rows")
    {'loss': None, 'depths': [10, 20]}
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: plain_data(getattr(value, each.name), f"{where}.{each.name}")
            for each in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain_data(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain_data(value.tolist(), where)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain_data(each, f"{where}[{number}]") for number, each in enumerate(value)]
    raise ConfigError(
        f"{where} is a {type(value).__name__}, which JSON cannot represent. "
        "Pass numbers, text, None, and lists or mappings of these."
    )
