"""The report of the study: answer, verdicts, the paper's four figures, tables, provenance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thruway.experiments.claims import judge
from thruway.experiments.glorot2010.saturation import NETS, SCALES, Config
from thruway.experiments.glorot2010.saturation_claims import CLAIMS
from thruway.experiments.glorot2010.saturation_courses import Course, read_courses
from thruway.experiments.glorot2010.saturation_figures import end_histograms, over_time
from thruway.experiments.glorot2010.saturation_rows import read_rows
from thruway.experiments.glorot2010.saturation_tables import beside_the_paper, layer_table, mean_of
from thruway.experiments.in_words import provenance_in_words, setting_in_words
from thruway.report import ClaimVerdict, Page, Section, TableData, write_page, write_summary
from thruway.runs import RunReader

__all__ = ["write_report"]

Rows = Sequence[Mapping[str, Any]]

# Fields of the config that are no part of the protocol.
_NOT_PROTOCOL = {"scale", "data_root", "download", "device", "seed", "seeds", "looks"}
_ALWAYS_DIFFERENT = (
    "learning rates, numbers of updates and of seeds are ours: the paper prints none of them for these figures, and "
    "chooses each net's rate on validation examples",
    "rates, widths and numbers of updates of the demo and laptop scales were chosen in pilot runs, so that the escape "
    "of the sigmoid net of 4 hidden layers falls into the run",
    "all nets of a seed start from the same random numbers, scaled by their initialiser, and see the same examples",
    "the figures show the first seed; the verdicts and the tables take all",
    "what counts as saturated is ours: |z| from 0.9 on for tanh and softsign, within 0.05 of an end for sigmoid",
    "Shapeset counts hidden pixels where the authors' generator estimates them",
)

_READING = {
    "sigmoid-4": "Line: mean output of a layer; band: one standard deviation to either side. In the paper the top "
    "layer drops to 0 as soon as training begins, and leaves it when layer 1 begins to saturate: when its band opens.",
    "sigmoid-5": "One layer more. In the paper the top layer stays at 0 for good.",
    "tanh": "Filled marks: 98th percentile; open marks: 2nd; solid: median; dashed: standard deviation, which nears 1 "
    "as the values go to both ends. In the paper layer 1 goes there first, then layer 2, then layer 3.",
    "softsign": "In the paper all layers rise together, fast at first and then slowly, and stay below the ends.",
    "tanh-n": "The same activation as above from another start. In the paper it looks like softsign.",
}


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    rows, courses = read_rows(reader, config), read_courses(reader, config)
    verdicts = tuple(judge(claim, rows) for claim in CLAIMS) if rows else ()
    first = {course.case.name: course for course in courses if course.case.member == 0}
    table = layer_table(rows)
    provenance = _provenance(reader, config, rows)
    page = Page(
        title="Which layers saturate, and when?",
        subtitle="Figs. 2, 3, 4 and 10 of Understanding the difficulty of training deep feedforward neural networks, "
        "Glorot & Bengio 2010",
        lead=_lead(rows, reader.status),
        claims=verdicts,
        sections=(
            *(_over_time(first[name]) for name in NETS if name in first),
            *_at_the_end(reader, first),
            Section("Layer by layer", None, "Means over the seeds.", table),
            Section("Beside the paper", None, _reading(config), beside_the_paper(rows)),
        ),
        provenance=provenance,
    )
    write_page(page, folder / "report.html")
    write_summary(folder / "summary.json", experiment=reader.name, rows=rows, claims=verdicts, meta=provenance)
    return table, verdicts


def _over_time(course: Course) -> Section:
    net = course.case.net
    return Section(f"{net.title} ({net.figure})", over_time(course), _READING[course.case.name])


def _at_the_end(reader: RunReader, first: Mapping[str, Course]) -> tuple[Section, ...]:
    figure = end_histograms(reader, [first[name].case for name in ("tanh", "softsign", "tanh-n") if name in first])
    if figure is None:
        return ()
    reading = (
        "How the values of each layer are spread at the end of training. In the paper tanh's crowd at -1, 0 and 1, and "
        "softsign's on two hills short of the ends, at 0.6 to 0.8 to either side."
    )
    return (Section("Values at the end of training (fig. 4)", figure, reading),)


def _lead(rows: Rows, status: str) -> str:
    """The answer in plain words, from the numbers."""
    sentences = [f"The run is {status}."] if status != "done" else []
    four, five = ([row for row in rows if row["net"] == name] for name in ("sigmoid-4", "sigmoid-5"))
    if four:
        left = [row["escapes_at"] for row in four if row["escapes_at"] is not None]
        sentences.append(
            f"The top layer of a sigmoid net of 4 hidden layers falls to a mean output of "
            f"{mean_of(row['early_top_mean'] for row in four):.2f} in the first tenth of training, and leaves its "
            f"saturation in {len(left)} of {len(four)} nets"
            + (f", after {mean_of(left):,.0f} of {four[0]['updates']:,} updates." if left else ".")
        )
    if five:
        left = [row["escapes_at"] for row in five if row["escapes_at"] is not None]
        sentences.append(f"With 5 hidden layers {len(left)} of {len(five)} do.")
    parts = []
    for name in ("tanh", "softsign", "tanh-n"):
        mine = [row["saturated"] for row in rows if row["net"] == name]
        if mine:
            first, last = (mean_of(saturated[layer] for saturated in mine) for layer in (0, -1))
            parts.append(f"{NETS[name].title.lower()} {100 * first:.0f} and {100 * last:.0f} %")
    if parts:
        sentences.append(f"Saturated in the first and in the last layer at the end: {'; '.join(parts)}.")
    return " ".join(sentences) if rows else f"No net has been trained to the end yet (the run is {status})."


def _reading(config: Config) -> str:
    told = "The paper shows curves and prints few numbers; compare what happens, and in which order."
    return told if config.data == "shapeset" else f"{told} Its nets saw Shapeset, ours {config.data}."


def _provenance(reader: RunReader, config: Config, rows: Rows) -> dict[str, str | Sequence[str]]:
    paper, meta = SCALES["paper"], reader.meta
    differs = [
        f"{field.replace('_', ' ')}: {setting_in_words(here)}; at paper scale: {setting_in_words(there)}"
        for field in Config.model_fields
        if field not in _NOT_PROTOCOL and (here := getattr(config, field)) != (there := getattr(paper, field))
    ]
    seconds = sum(row["seconds"] for row in rows)
    shapeset = f"shapeset, {config.size}x{config.size} pixels, drawn without end"
    return {
        "scale": config.scale,
        "data": shapeset if config.data == "shapeset" else config.data,
        "watched": f"every hidden layer on {config.probe} fixed test examples, {config.looks} times, by thruway.watch",
        "seeds": f"{config.seeds}, from {config.seed} to {config.seed + config.seeds - 1}",
        "nets": f"{config.width} units per layer, batches of {config.batch}; sigmoid: {config.sigmoid_updates:,} "
        f"updates at rate {config.sigmoid_rate:g}; others: {config.updates:,} at {config.rate:g}",
        "hardware": provenance_in_words(meta.get("hardware")),
        "versions": provenance_in_words(meta.get("versions")),
        "commit": provenance_in_words(meta.get("git")),
        "command": " ".join(meta.get("command", ())),
        "cost": f"{seconds / 60:.1f} minutes of training in all",
        "status": reader.status,
        "differs from the paper": [*differs, *_ALWAYS_DIFFERENT],
    }
