"""The report of the study: answer, verdicts, the paper's four figures, tables, provenance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thruway.experiments.claims import judge
from thruway.experiments.glorot2010.provenance import differences, image_data, origin
from thruway.experiments.glorot2010.saturation import NETS, SCALES, Case, Config
from thruway.experiments.glorot2010.saturation_claims import CLAIMS
from thruway.experiments.glorot2010.saturation_courses import Course, read_courses
from thruway.experiments.glorot2010.saturation_figures import end_histograms, over_time
from thruway.experiments.glorot2010.saturation_rows import read_rows
from thruway.experiments.glorot2010.saturation_shown import shown_seed
from thruway.experiments.glorot2010.saturation_tables import beside_the_paper, layer_table, mean_of
from thruway.report import ClaimVerdict, Page, Section, TableData, write_page, write_summary
from thruway.runs import RunReader

__all__ = ["write_report"]

Rows = Sequence[Mapping[str, Any]]

_ALWAYS_DIFFERENT = (
    "learning rates, numbers of updates and of seeds are ours: the paper prints none of them for these figures, and "
    "chooses each net's rate on validation examples",
    "rates, widths and numbers of updates of the demo and laptop scales were chosen in pilot runs, so that the escape "
    "of the sigmoid net of 4 hidden layers falls into the run",
    "all nets of a seed start from the same random numbers, scaled by their initialiser, and see the same examples",
    "the figures show one seed, which their captions name; the verdicts and the tables take all",
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
    seed, why = shown_seed(rows, [config.seed + member for member in range(config.seeds)])
    # While a run goes on, the seed may have nets that nobody has looked at yet.
    shown = {course.case.name: course for course in reversed(courses)}
    shown |= {course.case.name: course for course in courses if course.case.seed == seed}
    table = layer_table(rows)
    provenance = _provenance(reader, config, rows)
    page = Page(
        title="Which layers saturate, and when?",
        subtitle="Figs. 2, 3, 4 and 10 of Understanding the difficulty of training deep feedforward neural networks, "
        "Glorot & Bengio 2010",
        lead=_lead(rows, reader.status),
        claims=verdicts,
        sections=(
            *(_over_time(shown[name], seed, why) for name in NETS if name in shown),
            *_at_the_end(reader, shown),
            Section("Layer by layer", None, "Means over the seeds.", table),
            Section("Beside the paper", None, _reading(config), beside_the_paper(rows)),
        ),
        provenance=provenance,
    )
    write_page(page, folder / "report.html")
    write_summary(folder / "summary.json", experiment=reader.name, rows=rows, claims=verdicts, meta=provenance)
    return table, verdicts


def _over_time(course: Course, seed: int, why: str) -> Section:
    net = course.case.net
    told = why if course.case.seed == seed else f"Seed {course.case.seed}: {seed} has not come to this net yet."
    return Section(f"{net.title} ({net.figure})", over_time(course), f"{_READING[course.case.name]} {told}")


def _at_the_end(reader: RunReader, shown: Mapping[str, Course]) -> tuple[Section, ...]:
    cases = [shown[name].case for name in ("tanh", "softsign", "tanh-n") if name in shown]
    figure = end_histograms(reader, cases)
    if figure is None:
        return ()
    reading = (
        "How the values of each layer are spread at the end of training. In the paper tanh's crowd at -1, 0 and 1, and "
        f"softsign's on two hills short of the ends, at 0.6 to 0.8 to either side. Seed {_either(cases)}."
    )
    return (Section("Values at the end of training (fig. 4)", figure, reading),)


def _either(cases: Sequence[Case]) -> str:
    return " and ".join(str(seed) for seed in sorted({case.seed for case in cases}))


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
    seconds = sum(row["seconds"] for row in rows)
    return {
        "scale": config.scale,
        "data": image_data(config.data, config.size),
        "watched": f"every hidden layer on {config.probe} fixed test examples, {config.looks} times, by thruway.watch",
        "seeds": f"{config.seeds}, from {config.seed} to {config.seed + config.seeds - 1}",
        "nets": f"{config.width} units per layer, batches of {config.batch}; sigmoid: {config.sigmoid_updates:,} "
        f"updates at rate {config.sigmoid_rate:g}; others: {config.updates:,} at {config.rate:g}",
    } | origin(
        reader,
        cost=f"{seconds / 60:.1f} minutes of training in all",
        differs=[*differences(config, SCALES["paper"], {"looks"}), *_ALWAYS_DIFFERENT],
    )
