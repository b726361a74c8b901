"""The report of a study that trains nets and measures them: verdicts, sections, provenance; and its summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thruway.experiments.claims import Claim, judge
from thruway.experiments.glorot2010.provenance import origin
from thruway.experiments.image_study import NOT_PROTOCOL, ImageStudy
from thruway.experiments.in_words import setting_in_words
from thruway.experiments.measuring import minutes_spent
from thruway.report import ClaimVerdict, Page, Section, TableData, write_page, write_summary
from thruway.runs import RunReader

__all__ = ["Told", "write_measured_report"]


@dataclass(frozen=True)
class Told:
    """What a study says of itself.

    Attributes:
        title: its question.
        subtitle: paper and figures.
        lead: the answer, from the numbers; "" while there are none.
        sections: figures and tables.
        table: for the console.
        nets: what was trained, in words.
        differs: what is never as published, a sentence each.
    """

    title: str
    subtitle: str
    lead: str
    sections: tuple[Section, ...]
    table: TableData
    nets: str
    differs: tuple[str, ...]


def write_measured_report(
    reader: RunReader,
    folder: Path,
    config: ImageStudy,
    paper: ImageStudy,
    rows: Sequence[Mapping[str, Any]],
    claims: Sequence[Claim],
    told: Told,
) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts.

    Args:
        paper: the config of the study's paper scale, from which differences are counted.
    """
    verdicts = tuple(judge(claim, rows) for claim in claims) if rows else ()
    provenance = _provenance(reader, config, paper, told)
    status = reader.status
    unfinished = "" if status == "done" else f"The run is {status}. "
    page = Page(
        title=told.title,
        subtitle=told.subtitle,
        lead=unfinished + (told.lead or "No net has been measured yet."),
        claims=verdicts,
        sections=told.sections,
        provenance=provenance,
    )
    write_page(page, folder / "report.html")
    write_summary(folder / "summary.json", experiment=reader.name, rows=rows, claims=verdicts, meta=provenance)
    return told.table, verdicts


def _provenance(reader: RunReader, config: ImageStudy, paper: ImageStudy, told: Told) -> dict[str, str | Sequence[str]]:
    training, measuring = minutes_spent(reader)
    taken_over = "" if config.nets_of is None else f", nets of {config.nets_of} taken over where they are the same"
    pooled = "" if config.pool == 1 else f", {config.pool} x {config.pool} pixels averaged into one"
    return {
        "scale": config.scale,
        "data": f"{config.data}{pooled}; {setting_in_words(config.examples)} training and "
        f"{setting_in_words(config.test_examples)} test examples",
        "nets": told.nets,
        "training": f"{config.epochs} epochs of SGD, batches of {config.batch}, rate {config.learning_rate:g}, "
        f"momentum {config.momentum:g}, weight decay {config.weight_decay:g}",
        "seeds": f"{config.seeds}, from seed {config.seed} on",
    } | origin(
        reader,
        cost=f"{training:.1f} minutes of training, {measuring:.1f} of measuring{taken_over}",
        differs=[*_differences(config, paper), *told.differs],
    )


# What an unset field means, where it is not "all".
_UNSET = {"reach": "an eighth of the side", "clip": "any"}


def _differences(config: ImageStudy, paper: ImageStudy) -> list[str]:
    """The settings that are not those of the paper's scale, a sentence each."""
    # How far images move says nothing where they stay.
    left_out = NOT_PROTOCOL if config.augment else NOT_PROTOCOL | {"reach", "fill"}
    return [
        f"{field.replace('_', ' ')}: {_setting(field, here)}; at paper scale: {_setting(field, there)}"
        for field in type(config).model_fields
        if field not in left_out and (here := getattr(config, field)) != (there := getattr(paper, field))
    ]


def _setting(field: str, value: Any) -> str:
    return _UNSET.get(field, "all") if value is None else setting_in_words(value)
