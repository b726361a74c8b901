"""Report of the saturation study: the paper's four figures, and tables that compare its text with our results."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from thruway.experiments.glorot2010.saturation import NETS, SCALES, Case, Config, load_parts
from thruway.experiments.glorot2010.saturation_claims import CLAIMS, read_rows
from thruway.experiments.glorot2010.saturation_training import Course, histograms, read_courses, run_study
from thruway.experiments.glorot2010.streams import data_in_words
from thruway.experiments.machinery import Rows, Study, StudyPage
from thruway.experiments.machinery.study import differences
from thruway.figures import layer_histograms, mean_and_spread, percentile_bands
from thruway.report import Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["STUDY", "Shown", "beside_the_paper", "end_histograms", "over_time", "page", "shown_seed"]

_DIFFERS = (
    "the learning rates and the numbers of updates and seeds are ours: the paper states none of them for these "
    "figures, and chooses the learning rate of each network on validation examples",
    "the rates, widths and numbers of updates of the demo and laptop scales were chosen in pilot runs so that the "
    "sigmoid network with 4 hidden layers leaves saturation during the run",
    "all networks of a seed start from the same random numbers, scaled by their initializer, and see the same examples",
    "the figures show one seed, named in their captions; the verdicts and the tables use all seeds",
    "the definition of saturation is ours: |z| >= 0.9 for tanh and softsign, within 0.05 of an end for sigmoid",
    "our Shapeset counts hidden pixels exactly; the authors' generator estimates their number",
)

_READING = {
    "sigmoid-4": "Line: mean output of a layer; band: one standard deviation to either side. In the paper the top "
    "layer drops to 0 as soon as training begins, and recovers when layer 1 begins to saturate, that is, when its "
    "band widens.",
    "sigmoid-5": "One layer more. In the paper the top layer never leaves 0.",
    "tanh": "Filled marks: 98th percentile; open marks: 2nd; solid: median; dashed: standard deviation, which "
    "approaches 1 as the values move to both ends. In the paper layer 1 saturates first, then layer 2, then layer 3.",
    "softsign": "In the paper the curves of all layers rise together, fast at first and then slowly, and stay below "
    "the ends.",
    "tanh-n": "Tanh with normalized initialization. In the paper its curves look like those of softsign.",
}


def page(reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the contents of the report."""
    courses = read_courses(reader, config)
    seed, why = shown_seed(rows, [config.seed + member for member in range(config.seeds)])
    # During a run the seed may have networks without records yet: another seed's are shown then.
    shown = {course.case.name: course for course in reversed(courses)}
    shown |= {course.case.name: course for course in courses if course.case.seed == seed}
    table = _layer_table(rows)
    beside = "The paper shows curves and few numbers; compare the events and their order."
    other_data = "" if config.data == "shapeset" else f" Its networks were trained on Shapeset, ours on {config.data}."
    return StudyPage(
        title="Which layers saturate, and when?",
        subtitle="Figs. 2, 3, 4 and 10 of Understanding the difficulty of training deep feedforward neural networks, "
        "Glorot & Bengio 2010",
        lead=_lead(rows, reader.status),
        sections=(
            *(_over_time(shown[name], seed, why) for name in NETS if name in shown),
            *_at_the_end(reader, shown),
            Section("Layer by layer", None, "Means over the seeds.", table),
            Section("Comparison with the paper", None, beside + other_data, beside_the_paper(rows)),
        ),
        table=table,
        facts={
            "scale": config.scale,
            "data": data_in_words(config),
            "watched": f"every hidden layer on {config.probe} fixed test examples, {config.looks} times, by "
            "thruway.watch",
            "seeds": f"{config.seeds}, from {config.seed} to {config.seed + config.seeds - 1}",
            "nets": f"{config.width} units per layer, batches of {config.batch}; sigmoid: {config.sigmoid_updates:,} "
            f"updates at rate {config.sigmoid_rate:g}; others: {config.updates:,} at {config.rate:g}",
        },
        cost=f"{sum(row['seconds'] for row in rows) / 60:.1f} minutes of training",
        differs=[*differences(config, SCALES["paper"]), *_DIFFERS],
    )


def _lead(rows: Rows, status: str) -> str:
    sentences = [f"The run is {status}."] if status != "done" else []
    four, five = ([row for row in rows if row["net"] == name] for name in ("sigmoid-4", "sigmoid-5"))
    if four:
        left = [row["escapes_at"] for row in four if row["escapes_at"] is not None]
        sentences.append(
            f"The top layer of a sigmoid network with 4 hidden layers falls to a mean output of "
            f"{_mean_of(row['early_top_mean'] for row in four):.2f} in the first tenth of training, and leaves "
            f"saturation in {len(left)} of {len(four)} networks"
            + (f", after {_mean_of(left):,.0f} of {four[0]['updates']:,} updates." if left else ".")
        )
    if five:
        left = [row["escapes_at"] for row in five if row["escapes_at"] is not None]
        sentences.append(f"With 5 hidden layers, {len(left)} of {len(five)} networks leave it.")
    parts = []
    for name in ("tanh", "softsign", "tanh-n"):
        mine = [row["saturated"] for row in rows if row["net"] == name]
        if mine:
            first, last = (_mean_of(saturated[layer] for saturated in mine) for layer in (0, -1))
            parts.append(f"{NETS[name].title.lower()} {100 * first:.0f} and {100 * last:.0f} %")
    if parts:
        sentences.append(
            f"Share of saturated values in the first and in the last layer at the end: {'; '.join(parts)}."
        )
    return " ".join(sentences) if rows else f"No network has been trained to the end yet (the run is {status})."


# --- figures


class Shown(NamedTuple):
    """A seed, and a sentence for figure captions with the reason why it is shown."""

    seed: int
    why: str


def shown_seed(rows: Rows, seeds: Sequence[int]) -> Shown:
    """Choose the seed whose sigmoid network of 4 layers leaves saturation nearest to the median, or the first.

    A network that stays saturated counts as later than all others. If most do, the last one to leave is chosen.

    Args:
        rows: the result of read_rows, without networks that are still in training.
        seeds: all seeds of the run.

    >>> rows = [{"net": "sigmoid-4", "seed": seed, "escapes_at": at} for seed, at in ((0, None), (1, 90), (2, 40))]
    >>> shown_seed(rows, [0, 1, 2]).why
    'Seed 1: its sigmoid network of 4 layers leaves saturation at update 90, nearest to the median; 2 of 3 leave it.'
    """
    if len(seeds) == 1:
        return Shown(seeds[0], f"Seed {seeds[0]}, the only one.")
    found = {row["seed"]: row["escapes_at"] for row in rows if row["net"] == "sigmoid-4"}
    escapes = {seed: at for seed, at in found.items() if at is not None}
    if not found:
        return Shown(seeds[0], f"Seed {seeds[0]}, the first of {len(seeds)}.")
    if not escapes:
        none = f"the first, as the sigmoid network of 4 layers leaves saturation in none of {len(found)}"
        return Shown(seeds[0], f"Seed {seeds[0]}: {none}.")
    median = statistics.median(math.inf if at is None else at for at in found.values())
    if math.isinf(median):
        seed = max(escapes, key=lambda each: (escapes[each], -each))
    else:
        seed = min(escapes, key=lambda each: (abs(escapes[each] - median), each))
    which = "nearest to the median" if math.isfinite(median) else "the last to do so, as most do not"
    leaves = f"its sigmoid network of 4 layers leaves saturation at update {escapes[seed]:,}"
    return Shown(seed, f"Seed {seed}: {leaves}, {which}; {len(escapes)} of {len(found)} leave it.")


def _over_time(course: Course, seed: int, why: str) -> Section:
    net = course.case.net
    instead = f"Seed {course.case.seed}: no records of seed {seed} yet."
    which = why if course.case.seed == seed else instead
    return Section(f"{net.title} ({net.figure})", over_time(course), f"{_READING[course.case.name]} {which}")


def over_time(course: Course) -> go.Figure:
    """Draw fig. 2 for a sigmoid network, and fig. 3 or 10 for others, adding the median and the 2nd percentile."""
    x_name = "training time (updates)"
    mean, spread = course["mean"], course["std"]
    if course.case.net.activation == "sigmoid":
        return mean_and_spread(mean, spread, course.steps, quantity="mean output", x_name=x_name)
    low, middle, high = course["p2"], course["p50"], course["p98"]
    return percentile_bands(low, middle, high, course.steps, spread=spread, quantity="activation", x_name=x_name)


def _at_the_end(reader: RunReader, shown: Mapping[str, Course]) -> tuple[Section, ...]:
    cases = [shown[name].case for name in ("tanh", "softsign", "tanh-n") if name in shown]
    figure = end_histograms(reader, cases)
    if figure is None:
        return ()
    reading = (
        "Distribution of the values of each layer at the end of training. In the paper those of tanh concentrate at "
        "-1, 0 and 1, and those of softsign between 0.6 and 0.8 on either side, short of the ends. Seed "
        f"{' and '.join(str(seed) for seed in sorted({case.seed for case in cases}))}."
    )
    return (Section("Values at the end of training (fig. 4)", figure, reading),)


def end_histograms(reader: RunReader, cases: Sequence[Case]) -> go.Figure | None:
    """Draw fig. 4: histograms of the layers, with one panel per network; None if no network is fully trained."""
    found = {case.net.title: histograms(reader, case) for case in cases}
    panels = {title: each for title, each in found.items() if each is not None}
    if not panels:
        return None
    edges = {title: each[0] for title, each in panels.items()}
    shares = {title: each[1] for title, each in panels.items()}
    # Tanh's peaks are ten times as high as softsign's hills: only a logarithmic axis shows both.
    return layer_histograms(edges, shares, quantity="activation", log=True)


# --- tables


def _mean_of(values: Iterable[float | None]) -> float:
    """Return the mean of the known values; NaN if there are none."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else math.nan


def _layer_table(rows: Rows) -> TableData:
    """Return a table of the layers of the tanh and softsign networks: update of saturation, and final values."""
    lines: list[tuple[Any, ...]] = []
    for name, net in NETS.items():
        mine = [row for row in rows if row["net"] == name and "saturated" in row]
        for layer in range(net.depth if mine else 0):
            at = [row["saturates_at"][layer] for row in mine]
            means = [_mean_of(row[column][layer] for row in mine) for column in ("saturated", "std", "knees", "middle")]
            reached = None if None in at else round(_mean_of(at))
            lines.append((net.title, layer + 1, reached, 100 * means[0], *means[1:]))
    columns = ("network", "layer", "saturates at update", "saturated at the end, %", "std", "at the knees", "at 0")
    caption = (
        "Saturated: a tenth of the values have |z| >= 0.9; a dash if not in every network. The last two columns: "
        "final values with |z| from 0.6 to 0.8, and up to 0.1, relative to a uniform distribution over [-1, 1]."
    )
    return TableData(columns, tuple(lines), caption)


def beside_the_paper(rows: Rows) -> TableData:
    """Return a table of the paper's statements on each figure and the results of this run."""
    of = {name: [row for row in rows if row["net"] == name and not row["diverged"]] for name in NETS}
    entries: list[tuple[str, Any, Any, str]] = []
    if four := of["sigmoid-4"]:
        top, others = (_mean_of(row[name] for row in four) for name in ("early_top_mean", "lowest_below"))
        low = None if math.isnan(others) else others
        entries += [
            ("sigmoid, 4 layers: top layer's mean output, early", "falls to 0 at once", top, "fig. 2"),
            ("sigmoid, 4 layers: lowest other mean meanwhile", "above 0.5", low, "fig. 2"),
            ("sigmoid, 4 layers: leaves at", "about epoch 100", _escape(four), "fig. 2"),
        ]
    if five := of["sigmoid-5"]:
        entries.append(("sigmoid, 5 layers: leaves at", "never", _escape(five), "sec. 3.1"))
    if tanh := of["tanh"]:
        orders = {_order(row["saturates_at"]) for row in tanh}
        ends, zero = _mean_of(row["ends"][0] for row in tanh), _mean_of(row["middle"][-1] for row in tanh)
        peaks = f"{ends:.1f}x, {zero:.1f}x"
        entries += [
            ("tanh: order in which layers saturate", "1, 2, 3, ...", " | ".join(sorted(orders)), "fig. 3"),
            ("tanh: values near -1 and 1 in layer 1, near 0 in layer 5", "peaks", peaks, "fig. 4"),
        ]
    if softsign := of["softsign"]:
        knees = _mean_of(max(row["knees"]) for row in softsign)
        entries.append(("softsign: values with |z| from 0.6 to 0.8", "peaks", f"{knees:.1f}x", "fig. 4"))
    for name, figure in (("tanh", "fig. 3"), ("softsign", "fig. 3"), ("tanh-n", "fig. 10")):
        if of[name]:
            paper = "layers part" if name == "tanh" else "layers together"
            unevenness = _mean_of(row["unevenness"] for row in of[name])
            entries.append((f"{NETS[name].title.lower()}: unevenness of the layers' std", paper, unevenness, figure))
    return paper_comparison(
        entries, caption="Means over the seeds. 2x: twice as many values as in a uniform distribution."
    )


def _escape(rows: Rows) -> str:
    """Describe the mean update at which the top layer leaves saturation, and in how many networks it does."""
    known = [row["escapes_at"] for row in rows if row["escapes_at"] is not None]
    if not known:
        return f"not in {rows[0]['updates']:,} updates"
    share = "" if len(known) == len(rows) else f" ({len(known)} of {len(rows)} networks)"
    return f"update {_mean_of(known):,.0f}{share}"


def _order(saturates_at: Sequence[int | None]) -> str:
    """Return the layers in the order in which they saturate. Layers that never saturate are omitted.

    >>> _order([300, 100, None])
    '2, 1'
    """
    known = sorted((at, layer) for layer, at in enumerate(saturates_at, start=1) if at is not None)
    return ", ".join(str(layer) for _, layer in known) or "none"


STUDY = Study(
    name="glorot2010.saturation",
    title="which layers of a deep network saturate, and when: sigmoid, tanh, softsign, normalized tanh",
    source="Glorot & Bengio 2010, figs. 2, 3, 4 and 10",
    config=Config,
    scales=SCALES,
    prepare=load_parts,
    run=run_study,
    rows=read_rows,
    claims=CLAIMS,
    page=page,
    example="--scale demo --data digits --nets tanh softsign --updates 3000",
)
