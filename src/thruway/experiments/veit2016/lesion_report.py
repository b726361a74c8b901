"""The report of the study: answer, verdicts, figs. 3 and 5, tables, provenance."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median

from thruway.experiments.measured_report import Told, write_measured_report
from thruway.experiments.measuring import read_rows
from thruway.experiments.veit2016.harm import Rows, harm, mean_by, mean_of, only
from thruway.experiments.veit2016.lesion import SCALES, Config
from thruway.experiments.veit2016.lesion_claims import claims_for, harm_by_k
from thruway.experiments.veit2016.lesion_run import measurements
from thruway.experiments.veit2016.told import (
    ALWAYS_DIFFERENT,
    HARM,
    NAMES,
    boundaries,
    interval_in_words,
    net_in_words,
    over_seeds,
)
from thruway.figures import deletion_bars, deletion_boxes, order_scatter
from thruway.report import ClaimVerdict, Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["several_deleted", "write_report"]

_DIFFERENT = (
    "VGG with and without batch norm: which the paper had is not known",
    "a deleted layer of VGG is gone with its norm and its rectifier; layers that change the size or the number of "
    "channels cannot be deleted",
    "the VGG without batch norm starts from LSUV and learns at a rate of its own: from He's start it learns nothing on "
    "images this small",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    rows = read_rows(reader, measurements(config))
    table = net_table(rows)
    sections = [
        *(_one_deleted(rows, net, config) for net in ("resnet", *config.plain) if only(rows, net=net)),
        *several_deleted(rows),
        *_reordered(rows),
        Section("Net by net", None, f"{HARM} Means over seeds.", table),
        Section("Beside the paper", None, _READING, beside_the_paper(rows, config)),
    ]
    told = Told(
        title="Can a net do without one of its layers?",
        subtitle="Figs. 3 to 5 of Residual Networks Behave Like Ensembles of Relatively Shallow Networks, Veit, Wilber "
        "& Belongie 2016",
        lead=_lead(rows, config),
        sections=tuple(sections) if rows else (),
        table=table,
        nets=f"{net_in_words(config)}; VGG of 15 layers, from {config.vgg_width} channels on",
        differs=(*ALWAYS_DIFFERENT, *_DIFFERENT),
    )
    return write_measured_report(reader, folder, config, SCALES["paper"], rows, claims_for(config), told)


def net_table(rows: Rows) -> TableData:
    """A line per net: its error, and what single deletions cost."""
    lines = []
    for net in NAMES:
        mine = only(rows, net=net, what="delete_one")
        if not mine:
            continue
        harms = [harm(row) for row in mine]
        intact, guessing = (mean_of(row[key] for row in mine) for key in ("intact", "guessing"))
        lines.append((NAMES[net], intact, guessing, len({row["index"] for row in mine}), median(harms), max(harms)))
    columns = ("net", "test error", "error of guessing", "deleted one by one", "median harm", "largest harm")
    return TableData(columns, tuple(lines), "Test errors are shares.")


def several_deleted(rows: Rows, net: str = "resnet") -> list[Section]:
    """Fig. 5a, if it is there yet."""
    drawn = only(rows, what="delete_k", net=net)
    if not drawn:
        return []
    draws = {k: [row["error"] for row in only(drawn, k=k)] for k in sorted({row["k"] for row in drawn})}
    figure = deletion_boxes(draws, intact=mean_of(row["intact"] for row in drawn), quantity="test error", unit="share")
    means = {k: mean_of(errors) for k, errors in draws.items()}
    reading = (
        f"Random modules deleted together; every draw of every seed. {_from_to(means, 'deleted')} In the paper the "
        "error grows smoothly."
    )
    return [Section("Several modules deleted (fig. 5a)", figure, reading)]


def _from_to(means: Mapping[int, float], done: str) -> str:
    """What the ends of a curve say, from number -> mean error."""
    few, many = min(means), max(means)
    return f"With {few} {done}, {means[few]:.1%} are wrong on average; with {many}, {means[many]:.1%}."


def beside_the_paper(rows: Rows, config: Config) -> TableData:
    """The paper's errors beside ours."""
    errors = mean_by(only(rows, what="delete_k"), "k", "error")
    ten, twenty = config.as_many_as(10), config.as_many_as(20)
    spared = only(rows, what="delete_one", net="resnet", resizes=False)
    resizing = only(rows, what="delete_one", net="resnet", resizes=True)
    plain = [(f"one layer of {NAMES[net]} deleted", only(rows, what="delete_one", net=net)) for net in config.plain]
    paper = "sec. 4.1, fig. 3"
    entries = [
        ("one module that keeps its size deleted", "hardly changed", _error(spared), paper),
        ("one module that changes the size deleted", "a modest rise", _error(resizing), paper),
        *((what, "that of guessing, 0.9", _error(mine), paper) for what, mine in plain),
        (f"10 of 54 modules deleted (here {ten} of {config.depth})", "about 0.2", errors.get(ten), "fig. 5a"),
        (f"20 of 54 deleted (here {twenty} of {config.depth})", "far worse", errors.get(twenty), "fig. 5a"),
    ]
    return paper_comparison(entries, caption="Mean test errors, shares.")


_READING = "The paper's errors are known at second hand, from its text and figures: compare the pattern."


def _error(rows: Rows) -> float | None:
    return mean_of(row["error"] for row in rows) if rows else None


def _one_deleted(rows: Rows, net: str, config: Config) -> Section:
    what = "module" if net == "resnet" else "layer"
    mine = only(rows, net=net, what="delete_one")
    errors = over_seeds(mine, "index")
    first = {row["index"]: row for row in reversed(mine)}
    mean, low, high = (list(column) for column in zip(*errors.values(), strict=True))
    figure = deletion_bars(
        mean,
        [first[index]["branch"] for index in errors],
        intact=mean_of(row["intact"] for row in mine),
        low=low,
        high=high,
        kinds=[_kind(net, bool(first[index]["resizes"])) for index in errors],
        boundaries=boundaries(config) if net == "resnet" else (),
        quantity="test error",
        unit="share",
        x_name=f"left-out {what}, in order of depth",
    )
    worst = max(errors, key=lambda index: errors[index][0])
    reading = (
        f"The test error without each {what} in turn, mean over seeds; thin lines: {interval_in_words(config)}. "
        f"{median(mean):.1%} are wrong without the median {what}, {errors[worst][0]:.1%} without number {worst + 1}; "
        f"intact {mean_of(row['intact'] for row in mine):.1%}, guessing {mean_of(row['guessing'] for row in mine):.0%}."
    )
    return Section(f"{_capital(NAMES[net])}: one {what} deleted (fig. 3)", figure, reading)


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _kind(net: str, resizes: bool) -> str:
    return "module" if net != "resnet" else "projection" if resizes else "identity"


def _reordered(rows: Rows) -> list[Section]:
    drawn = only(rows, what="reorder")
    if not drawn:
        return []
    figure = order_scatter(
        [row["tau"] for row in drawn],
        [row["error"] for row in drawn],
        swaps=[row["k"] for row in drawn],
        intact=mean_of(row["intact"] for row in drawn),
        quantity="test error",
        unit="share",
    )
    reading = (
        "Pairs of modules of one shape swapped at random, every draw of every seed. To the right, less of the order "
        f"is left. {_from_to(mean_by(drawn, 'k', 'error'), 'swapped')} In the paper the error grows smoothly."
    )
    return [Section("Modules in another order (fig. 5b)", figure, reading)]


def _lead(rows: Rows, config: Config) -> str:
    """The answer in plain words, from the numbers."""
    sentences = []
    for net in ("resnet", *config.plain):
        mine = only(rows, net=net, what="delete_one")
        if mine:
            what = "module" if net == "resnet" else "layer"
            intact, worst = mean_of(row["intact"] for row in mine), max(mine, key=lambda row: float(row["error"]))
            sentences.append(
                f"{_capital(NAMES[net])}: intact {intact:.1%} wrong, without one {what} "
                f"{median(row['error'] for row in mine):.1%} in the median and {worst['error']:.1%} "
                f"at worst ({worst['branch']})."
            )
    harms, ten = harm_by_k(rows), config.as_many_as(10)
    if ten in harms:
        sentences.append(
            f"Without {ten} of its {config.depth} modules the residual net loses {harms[ten]:.0%} of its skill."
        )
    return " ".join(sentences)
