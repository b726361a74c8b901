"""Studies: config, claims with verdicts, run and report."""

import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from thruway.errors import CheckpointError, ConfigError, RunError
from thruway.experiments.machinery.resumable import Progress
from thruway.experiments.machinery.stored_nets import StoredNet
from thruway.report import ClaimVerdict, Page, Section, TableData, write_page, write_summary
from thruway.runs import Run, RunReader
from thruway.runs.files import safe_name

__all__ = ["NOT_PROTOCOL", "Claim", "Rows", "Study", "StudyPage", "differences", "judge", "setting_in_words"]

Rows = Sequence[Mapping[str, Any]]
"""Results of a run: one mapping of plain numbers and strings per result, including its `seed`."""


@dataclass(frozen=True)
class Claim:
    """One claim. It holds for a seed if `measure(rows of that seed)` meets the threshold.

    Attributes:
        id: short name, unique within the study.
        text: the claim in one sentence.
        source: paper, section or figure.
        statistic: description of the number that `measure` returns, with its unit.
        measure: function that returns the statistic for the rows of one seed; NaN if the rows do not determine it.
        holds_if: comparison of the statistic with the threshold.
        threshold: number that the statistic is compared with, set before the run.
    """

    id: str
    text: str
    source: str
    statistic: str
    measure: Callable[[Rows], float]
    holds_if: Literal["<=", ">=", "<"]
    threshold: float

    def __post_init__(self) -> None:
        if self.holds_if not in _COMPARE:
            raise ConfigError(
                f"claim {self.id!r}: holds_if must be one of {', '.join(_COMPARE)}, got {self.holds_if!r}."
            )


@dataclass(frozen=True)
class StudyPage:
    """Contents of the report of a study, apart from the verdicts.

    Attributes:
        title: question that the study answers.
        subtitle: paper and figures.
        lead: the main result in words, computed from the rows.
        sections: figures and tables.
        table: the main table, which is also printed on the command line.
        facts: names and values, such as scale, data, networks and seeds.
        cost: time spent.
        differs: differences from the paper, one sentence each.
    """

    title: str
    subtitle: str
    lead: str
    sections: Sequence[Section]
    table: TableData
    facts: Mapping[str, str] = field(default_factory=dict)
    cost: str = ""
    differs: Sequence[str] = ()


@dataclass(frozen=True)
class Study:
    """A study of a paper, or a study of your own.

    Most studies are made by `compared_study` (trains several networks and compares their errors) or `measured_study`
    (trains networks and measures them), which set `prepare`, `run`, `rows` and `stored_nets`.

    Attributes:
        name: unique name, such as "highway2015.depth". It is stored in run folders.
        title: finding of the study, in one line.
        source: paper, sections and figures.
        config: pydantic model of all settings that determine the results of a run.
        scales: config for each name of a scale. The first one is the default on the command line.
        prepare: function of the config that returns the data of a run. It raises an error for a config that cannot be
            run, before a run folder is created.
        run: function (config, prepared data, run folder, progress) that computes what the run folder does not contain
            yet, so that it can be called again for an interrupted run.
        rows: function (run folder, config) that returns the results as rows of plain numbers and strings, one seed per
            row.
        claims: the claims to judge, or a function of the config that returns them.
        page: function (run folder, config, rows) that returns the page of the report.
        verdicts: function (run folder, config, rows) that returns the verdicts, for claims about some of the rows or
            about more than the rows. If None, every claim is judged on all rows.
        stored_nets: function (run folder, config) that returns the trained networks in a run folder. None if the study
            does not store any.
        example: command-line arguments of the example in the help.
    """

    name: str
    title: str
    source: str
    config: type[BaseModel]
    scales: Mapping[str, BaseModel]
    prepare: Callable[[Any], Any]
    run: Callable[[Any, Any, Run, Progress], None]
    rows: Callable[[RunReader, Any], Rows]
    claims: Sequence[Claim] | Callable[[Any], Sequence[Claim]]
    page: Callable[[RunReader, Any, Rows], StudyPage]
    verdicts: Callable[[RunReader, Any, Rows], Sequence[ClaimVerdict]] | None = None
    stored_nets: Callable[[RunReader, Any], Sequence[StoredNet]] | None = None
    example: str = "--scale demo"

    def __post_init__(self) -> None:
        try:
            safe_name(self.name, "study")  # it names run folders
        except RunError as error:
            raise ConfigError(str(error)) from None
        scales = self.scales if isinstance(self.scales, Mapping) else {}
        wrong = [scale for scale, config in scales.items() if not isinstance(config, self.config)]
        if wrong or not scales:
            named = f", but {', '.join(wrong)} is not." if wrong else "."
            raise ConfigError(
                f"the scales of {self.name} must be a non-empty mapping of scale name to {self.config.__name__}{named}"
            )

    def report(self, reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
        """Write report.html and summary.json into the run folder.

        If the run is still in progress, the report shows the results so far.

        Returns:
            The main table and the verdicts, for the console.
        """
        config = self.config.model_validate(reader.config)
        rows = self.rows(reader, config)
        if self.verdicts is not None:
            verdicts = tuple(self.verdicts(reader, config, rows))
        else:
            claims = self.claims(config) if callable(self.claims) else self.claims
            verdicts = tuple(judge(claim, rows) for claim in claims) if rows else ()
        page = self.page(reader, config, rows)
        _write_report(reader, folder, rows, verdicts, page)
        return page.table, verdicts

    def nets(self, reader: RunReader) -> dict[str, StoredNet]:
        """Return the trained networks of a run folder, by name.

        Raises:
            ConfigError: if runs of this study do not store networks.
            CheckpointError: if no network is fully trained yet.
        """
        if self.stored_nets is None:
            raise ConfigError(
                f"{reader.folder} is a run of {self.name}, which does not store networks. For a network "
                "of your own give the function that builds it, and its weights: thruway dissect "
                "package.module:function --weights FILE."
            )
        found = {net.name: net for net in self.stored_nets(reader, self.config.model_validate(reader.config))}
        if not found:
            raise CheckpointError(
                f"{reader.folder} has no trained network yet. Let the run finish: thruway run --resume {reader.folder}."
            )
        return found


# --- verdicts

# A verdict needs this many independent seeds; with fewer, a note says so.
_SEEDS_NEEDED = 3

_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}


def _measured(claim: Claim, rows: Rows) -> float:
    try:
        value = claim.measure(rows)
        math.isnan(value)
    except Exception as error:  # in a function of the user's
        raise ConfigError(
            f"claim {claim.id!r}: its measure failed on rows with the keys {', '.join(rows[0])}. "
            f"{type(error).__name__}: {error}. The results are saved: correct the claim, then write the report again."
        ) from error
    return value


def judge(claim: Claim, rows: Rows) -> ClaimVerdict:
    """Judge a claim by these rows.

    The claim holds if it holds for every seed and fails if it holds for none. It is unclear otherwise, or if the
    statistic of any seed is NaN. With fewer than three seeds the verdict carries a note.
    """
    seeds = sorted({row["seed"] for row in rows})
    values = [_measured(claim, [row for row in rows if row["seed"] == seed]) for seed in seeds]
    meets = [not math.isnan(v) and _COMPARE[claim.holds_if](v, claim.threshold) for v in values]
    verdict: Literal["holds", "fails", "unclear"] = "unclear"
    notes = []
    if not values or any(map(math.isnan, values)):
        notes.append("no value: results are missing, or the networks have hardly learned")
    elif all(meets):
        verdict = "holds"
    elif not any(meets):
        verdict = "fails"
    else:
        notes.append(f"{sum(meets)} of {len(meets)} seeds meet it")
    if len(seeds) < _SEEDS_NEEDED:
        notes.append(f"only {len(seeds)} seed{'s' * (len(seeds) != 1)}; a definite verdict requires {_SEEDS_NEEDED}")
    return ClaimVerdict(
        id=claim.id,
        text=claim.text,
        statistic=claim.statistic,
        value=values,
        threshold=f"{claim.holds_if} {claim.threshold:g}",
        verdict=verdict,
        source=claim.source,
        note="; ".join(notes),
    )


# --- the report


def _write_report(
    reader: RunReader, folder: Path, rows: Rows, verdicts: tuple[ClaimVerdict, ...], page: StudyPage
) -> None:
    """Write report.html and summary.json into the run folder."""
    provenance = {**page.facts, **_origin(reader, page)}
    whole = Page(page.title, page.subtitle, page.lead, verdicts, tuple(page.sections), provenance)
    write_page(whole, folder / "report.html")
    write_summary(folder / "summary.json", experiment=reader.name, rows=rows, claims=verdicts, meta=provenance)


def _origin(reader: RunReader, page: StudyPage) -> dict[str, str | Sequence[str]]:
    """Return the machine, versions, command and state of the run: the end of the provenance in every report."""
    meta = reader.meta
    return {
        "hardware": _record_in_words(meta.get("hardware")),
        "versions": _record_in_words(meta.get("versions")),
        "commit": _record_in_words(meta.get("git")),
        "command": " ".join(meta.get("command", ())),
        "cost": page.cost,
        "status": reader.status,
        "differs from the paper": list(page.differs),
    }


# --- settings in words

NOT_PROTOCOL = frozenset(
    ("scale", "data_root", "download", "device", "seed", "seeds", "searches", "trained_seeds", "looks", "nets_of")
)
"""Config fields that determine where and how often a study is run, but not its protocol."""

# Meaning of an unset field, where it is not "all".
_UNSET = {"reach": "an eighth of the side", "clip": "any"}


def differences(config: BaseModel, paper: BaseModel | None) -> list[str]:
    """Return the settings that differ from the paper scale, one sentence each; empty if there is no such scale."""
    if paper is None:
        return []
    # How far images are shifted does not matter if they are not augmented.
    ignored = NOT_PROTOCOL if getattr(config, "augment", True) else NOT_PROTOCOL | {"reach", "fill"}
    found = []
    for name in type(config).model_fields:
        values = getattr(config, name), getattr(paper, name)
        if name not in ignored and values[0] != values[1]:
            here, there = (_UNSET.get(name, "all") if value is None else setting_in_words(value) for value in values)
            found.append(f"{name.replace('_', ' ')}: {here}; at paper scale: {there}")
    return found


def setting_in_words(value: Any) -> str:
    """Format a config value; None means no limit.

    >>> setting_in_words((1000, None, 0.5)), setting_in_words(True)
    ('1,000, all, 0.5', 'yes')
    """
    if isinstance(value, BaseModel):
        return ", ".join(f"{name} {setting_in_words(item)}" for name, item in value.model_dump().items())
    if isinstance(value, tuple):
        return ", ".join(map(setting_in_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "all" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _record_in_words(value: Any) -> str:
    """Format one entry of the record of a run."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    return "unknown" if value is None else value if isinstance(value, str) else json.dumps(value)
