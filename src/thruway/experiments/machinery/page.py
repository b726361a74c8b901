"""Writer of a study's report: verdicts, figures, tables, and where the numbers come from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from thruway.experiments.machinery.claims import Rows
from thruway.report import ClaimVerdict, Page, Section, TableData, write_page, write_summary
from thruway.runs import RunReader

__all__ = ["NOT_PROTOCOL", "StudyPage", "differences", "setting_in_words", "write_report"]

NOT_PROTOCOL = frozenset(
    ("scale", "data_root", "download", "device", "seed", "seeds", "searches", "trained_seeds", "looks", "nets_of")
)
"""Config fields that say where and how often a study is run, not what is done in it."""


@dataclass(frozen=True)
class StudyPage:
    """Contents of a study's report, apart from the verdicts.

    Attributes:
        title: the question that the study answers.
        subtitle: paper and figures.
        lead: the answer, computed from the numbers.
        sections: figures and tables.
        table: the main table, which the command line prints too.
        facts: name -> value: scale, data, networks, seeds, ...
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


def write_report(
    reader: RunReader, folder: Path, rows: Rows, verdicts: tuple[ClaimVerdict, ...], page: StudyPage
) -> None:
    """Write report.html and summary.json into the run folder."""
    provenance = {**page.facts, **_origin(reader, page)}
    whole = Page(
        title=page.title,
        subtitle=page.subtitle,
        lead=page.lead,
        claims=verdicts,
        sections=tuple(page.sections),
        provenance=provenance,
    )
    write_page(whole, folder / "report.html")
    write_summary(folder / "summary.json", experiment=reader.name, rows=rows, claims=verdicts, meta=provenance)


def _origin(reader: RunReader, page: StudyPage) -> dict[str, str | Sequence[str]]:
    """Machine, versions, command and state of the run: the end of every report's provenance."""
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


# Meaning of an unset field, where it is not "all".
_UNSET = {"reach": "an eighth of the side", "clip": "any"}


def differences(config: BaseModel, paper: BaseModel | None) -> list[str]:
    """Return the settings that differ from those of the paper's scale, one sentence each; none without such a scale."""
    if paper is None:
        return []
    # How far images are shifted does not matter if they are not augmented.
    ignored = NOT_PROTOCOL if getattr(config, "augment", True) else NOT_PROTOCOL | {"reach", "fill"}
    return [
        f"{name.replace('_', ' ')}: {_setting(name, here)}; at paper scale: {_setting(name, there)}"
        for name in type(config).model_fields
        if name not in ignored and (here := getattr(config, name)) != (there := getattr(paper, name))
    ]


def _setting(name: str, value: Any) -> str:
    return _UNSET.get(name, "all") if value is None else setting_in_words(value)


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
    """Format one entry of a run's record."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    return "unknown" if value is None else value if isinstance(value, str) else json.dumps(value)
