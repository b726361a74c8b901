"""The report of the study: answer, verdicts, mean curves of the top settings, who got where how soon, provenance."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import plotly.graph_objects as go

from thruway.experiments.claims import judge
from thruway.experiments.glorot2010.provenance import differences, origin
from thruway.experiments.highway2015.convergence import SCALES, top_of
from thruway.experiments.highway2015.convergence_claims import CLAIMS, epochs_to_tenth, lowest_mean, mean_over_epochs
from thruway.experiments.highway2015.convergence_rows import Rows, kinds, mean_curve, read_top
from thruway.experiments.highway2015.depth import Config
from thruway.report import (
    Cell,
    ClaimVerdict,
    Page,
    Section,
    TableData,
    loss_curves,
    paper_comparison,
    search_scatter,
    write_page,
    write_summary,
)
from thruway.runs import RunReader

__all__ = ["write_report"]

_ALWAYS_DIFFERENT = (
    "the ranges of learning rate, momentum and decay are ours: the papers do not print them",
    "all searches of a run share the order of the training examples, and a trial draws the same values for both blocks "
    "and every depth",
    "initial weights are Glorot's normalised ones times the activation's gain (He's variance for relu)",
    "the settings of lowest loss after the last epoch count as the top; the paper does not say how it ranks them",
    "a setting that diverges is not among the top; where fewer survive, the mean is over those",
    "'faster' is read as a lower loss in the mean over the epochs; a first reading, to be where plain nets end in "
    "fewer epochs, was given up after a demo on digits: at 10 layers the paper's own highway nets do not get there",
    "'about where' is read as within a factor of 3",
    "thresholds are ours, set before any run",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    rows = read_top(reader, config)
    verdicts = tuple(judge(claim, rows) for claim in CLAIMS) if rows else ()
    table, provenance = kind_table(rows, config), _provenance(reader, config, rows)
    page = Page(
        title="Do highway nets converge faster than plain ones?",
        subtitle="Fig. 1, right, of Training Very Deep Networks, Srivastava, Greff & Schmidhuber 2015",
        lead=_lead(rows, config, reader.status),
        claims=verdicts,
        sections=(
            Section("The mean of the top settings (fig. 1, right)", _curves(rows), _curves_reading(config), table),
            Section(
                "The search",
                search_scatter(rows),
                "Each mark is one setting. A kind of net that is easy to train shows low losses over wide ranges.",
            ),
            Section(
                "Beside the paper",
                None,
                "The paper's losses are orders of magnitude from its text, at second hand; its data and budget are "
                "larger, so compare the pattern over depth, not the digits.",
                _paper(rows),
            ),
        ),
        provenance=provenance,
    )
    write_page(page, folder / "report.html")
    write_summary(folder / "summary.json", experiment=reader.name, rows=rows, claims=verdicts, meta=provenance)
    return table, verdicts


def kind_table(rows: Rows, config: Config) -> TableData:
    """A line per depth and block, means over the searches; the lower end of each depth is marked."""
    lines = []
    ends = {kind: _over_searches(rows, partial(lowest_mean, block=kind[0], depth=kind[1])) for kind in kinds(rows)}
    for block, depth in sorted(ends, key=lambda kind: (kind[1], kind[0] != "plain")):
        mine = [row for row in rows if (row["block"], row["depth"]) == (block, depth)]
        end = ends[block, depth]
        rivals = [each for (_, at), each in ends.items() if at == depth]
        is_best = len(rivals) > 1 and end == min(rivals)
        whole, tenth = (
            _over_searches(rows, partial(measure, block=block, depth=depth))
            for measure in (mean_over_epochs, epochs_to_tenth)
        )
        lines.append(
            (
                depth,
                block,
                whole if math.isfinite(whole) else None,
                tenth if math.isfinite(tenth) else "never",
                Cell(None, "diverged") if math.isinf(end) else Cell(end, "best") if is_best else end,
                f"{sum(bool(row['diverged']) for row in mine)} of {len(mine)}",
            )
        )
    columns = ("depth", "block", "loss, mean over epochs", "epochs to a tenth of guessing", "lowest loss", "diverged")
    return TableData(
        columns,
        tuple(lines),
        f"Training loss in nats, the mean over the best {top_of(config)} of a search, then over searches. The lower of "
        "each depth is marked; never: not in every search.",
    )


def _over_searches(rows: Rows, measure: Callable[[Rows], float]) -> float:
    values = [measure([row for row in rows if row["seed"] == seed]) for seed in sorted({row["seed"] for row in rows})]
    return fmean(values) if values else math.nan


def _curves(rows: Rows) -> go.Figure:
    means, bands = {}, {}
    seeds = sorted({row["seed"] for row in rows})
    for kind in kinds(rows):
        found = [mean_curve([row for row in rows if row["seed"] == seed], kind) for seed in seeds]
        curves = [curve for curve in found if curve is not None]
        if curves:
            epochs = list(range(1, len(curves[0]) + 1))
            by_epoch = list(zip(*(curve.tolist() for curve in curves), strict=True))
            means[kind] = (epochs, [fmean(each) for each in by_epoch])
            if len(curves) > 1:
                bands[kind] = (epochs, [min(each) for each in by_epoch], [max(each) for each in by_epoch])
    return loss_curves({}, means=means, bands=bands)


def _curves_reading(config: Config) -> str:
    shown = "then mean and range over searches" if config.searches > 1 else "of one search"
    return (
        f"The training loss, the mean over the best {top_of(config)} of {config.trials} settings, {shown}. "
        "The lower and the earlier, the better."
    )


# As reported of fig. 1 (MNIST) in words and orders of magnitude; the axes could not be read.
_PAPER = {
    ("plain", 10): "< 1e-4",
    ("plain", 20): "< 1e-4",
    ("plain", 100): "more than two orders above highway-100",
    ("highway", 50): "like 10 and 20",
    ("highway", 100): "like 10 and 20",
}


def _paper(rows: Rows) -> TableData:
    entries = [
        (
            f"{block}, {depth} layers",
            _PAPER[block, depth],
            _over_searches(rows, partial(lowest_mean, block=block, depth=depth)),
            "Training Very Deep Networks, sec. 3.1",
        )
        for block, depth in sorted(set(kinds(rows)) & set(_PAPER), key=lambda kind: (kind[0] != "plain", kind[1]))
    ]
    return paper_comparison(entries, caption="Paper: of the best setting. Ours: lowest mean of the top settings, nats.")


def _lead(rows: Rows, config: Config, status: str) -> str:
    """The answer in plain words, from the numbers."""
    expected = len(config.blocks) * len(set(config.depths)) * config.searches * config.trials
    sentences = [] if len(rows) == expected else [f"{len(rows)} of {expected} settings have finished, {status}."]
    for depth in sorted({depth for _, depth in kinds(rows)}):
        plain, highway = (
            _over_searches(rows, partial(lowest_mean, block=block, depth=depth)) for block in ("plain", "highway")
        )
        if math.isnan(plain) or math.isnan(highway):
            continue
        sentences.append(f"With {depth} layers plain nets get to {_loss(plain)}, highway nets to {_loss(highway)}.")
    if len(sentences) and rows:
        sentences.append(f"All are mean losses over the best {top_of(config)} of {config.trials} settings, in nats.")
    return " ".join(sentences)


def _loss(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "nothing finite"


def _provenance(reader: RunReader, config: Config, rows: Rows) -> Mapping[str, str | Sequence[str]]:
    minutes = sum(row["seconds"] for row in rows) / 60
    differs = differences(config, SCALES["paper"], ("searches",))
    return {
        "scale": config.scale,
        "data": config.data + ("" if config.examples is None else f", {config.examples:,} training examples"),
        "seeds": f"{config.searches} independent searches, from seed {config.seed} on",
        "search": f"{config.trials} settings per search, block and depth; the mean is over the best {top_of(config)}; "
        f"{config.epochs} epochs; batches of {config.batch}",
    } | origin(reader, cost=f"{minutes:.1f} minutes of training in all", differs=[*differs, *_ALWAYS_DIFFERENT])
