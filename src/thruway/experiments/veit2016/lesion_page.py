"""Report of the lesion study: figs. 3 and 5, errors and damage of every network, and the paper's numbers."""

from statistics import median

from thruway.experiments.machinery import Rows, StudyPage, mean_by, mean_of, measured_study, only, over_seeds
from thruway.experiments.veit2016.deletions import (
    DAMAGE,
    damage,
    damage_by_k,
    from_to,
    interval_in_words,
    several_deleted,
)
from thruway.experiments.veit2016.lesion import SCALES, Config, claims, measurements
from thruway.experiments.veit2016.nets import ALWAYS_DIFFERENT, NAMES, boundaries, dissected_net, net_in_words
from thruway.figures import deletion_bars, order_scatter
from thruway.report import Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["STUDY", "page"]

_DIFFERENT = (
    "VGG is trained with and without batch norm: the paper does not say which it used",
    "a layer of VGG is deleted with its norm and its ReLU; layers that change the size or the number of "
    "channels cannot be deleted",
    "the VGG without batch norm is initialized by LSUV and has its own learning rate: with He's initialization it "
    "does not learn on images this small",
)


def page(reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the page of the report."""
    table = net_table(rows)
    sections = [
        *(_one_deleted(rows, net, config) for net in ("resnet", *config.plain) if only(rows, net=net)),
        *several_deleted(rows),
        *_reordered(rows),
        Section("All networks", None, f"{DAMAGE} Means over seeds.", table),
        Section("Comparison with the paper", None, _READING, beside_the_paper(rows, config)),
    ]
    return StudyPage(
        title="Can a network do without one of its layers?",
        subtitle="Figs. 3 to 5 of Residual Networks Behave Like Ensembles of Relatively Shallow Networks, Veit, Wilber "
        "& Belongie 2016",
        lead=_lead(rows, config),
        sections=tuple(sections) if rows else (),
        table=table,
        facts={"nets": f"{net_in_words(config)}; VGG of 15 layers, {config.vgg_width} channels in the first stage"},
        differs=(*ALWAYS_DIFFERENT, *_DIFFERENT),
    )


def net_table(rows: Rows) -> TableData:
    """Return a table with one line per network: its error and the damage of single deletions."""
    lines = []
    for net in NAMES:
        mine = only(rows, net=net, what="delete_one")
        if not mine:
            continue
        damages = [damage(row) for row in mine]
        intact, guessing = (mean_of(row[key] for row in mine) for key in ("intact", "guessing"))
        lines.append((NAMES[net], intact, guessing, len({row["index"] for row in mine}), median(damages), max(damages)))
    columns = ("network", "test error", "error of guessing", "deleted one by one", "median damage", "largest damage")
    return TableData(columns, tuple(lines), "Test errors are shares.")


def beside_the_paper(rows: Rows, config: Config) -> TableData:
    """Return a table of the paper's errors and ours."""
    errors = mean_by(only(rows, what="delete_k"), "k", "error")
    ten, twenty = config.as_many_as(10), config.as_many_as(20)
    spared = only(rows, what="delete_one", net="resnet", resizes=False)
    resizing = only(rows, what="delete_one", net="resnet", resizes=True)
    plain = [(f"one layer of {NAMES[net]} deleted", only(rows, what="delete_one", net=net)) for net in config.plain]
    paper = "sec. 4.1, fig. 3"
    entries = [
        ("one module that keeps its size deleted", "hardly changed", _error(spared), paper),
        ("one module that changes the size deleted", "a modest increase", _error(resizing), paper),
        *((what, "that of guessing, 0.9", _error(mine), paper) for what, mine in plain),
        (f"10 of 54 modules deleted (here {ten} of {config.depth})", "about 0.2", errors.get(ten), "fig. 5a"),
        (f"20 of 54 deleted (here {twenty} of {config.depth})", "far worse", errors.get(twenty), "fig. 5a"),
    ]
    return paper_comparison(entries, caption="Mean test errors, shares.")


_READING = "The paper's errors are second-hand, from descriptions of its text and figures: compare the trend."


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
        x_name=f"deleted {what}, in order of depth",
    )
    worst = max(errors, key=lambda index: errors[index][0])
    reading = (
        f"The test error without each {what} in turn, averaged over seeds. Thin lines: {interval_in_words(config)}. "
        f"The median is {median(mean):.1%}, the maximum {errors[worst][0]:.1%}, without {what} {worst + 1}. Intact: "
        f"{mean_of(row['intact'] for row in mine):.1%}, guessing: {mean_of(row['guessing'] for row in mine):.0%}."
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
        "Random pairs of modules of equal shape are swapped; every draw of every seed is shown. Further right, less "
        f"of the order is left. {from_to(mean_by(drawn, 'k', 'error'), 'swapped')} In the paper the error grows "
        "smoothly."
    )
    return [Section("Modules in another order (fig. 5b)", figure, reading)]


def _lead(rows: Rows, config: Config) -> str:
    """Return the lead of the report: the main result in words."""
    sentences = []
    for net in ("resnet", *config.plain):
        mine = only(rows, net=net, what="delete_one")
        if mine:
            what = "module" if net == "resnet" else "layer"
            intact, worst = mean_of(row["intact"] for row in mine), max(mine, key=lambda row: float(row["error"]))
            sentences.append(
                f"{_capital(NAMES[net])}: test error {intact:.1%} when intact; without one {what}, "
                f"{median(row['error'] for row in mine):.1%} in the median and {worst['error']:.1%} "
                f"at worst ({worst['branch']})."
            )
    damages, ten = damage_by_k(rows), config.as_many_as(10)
    if ten in damages:
        sentences.append(
            f"Without {ten} of its {config.depth} modules, the residual network loses {damages[ten]:.0%} of its "
            "advantage over guessing."
        )
    return " ".join(sentences)


STUDY = measured_study(
    name="veit2016.lesion",
    title="a residual network tolerates the deletion and the reordering of modules; a plain one needs every layer",
    source="Veit, Wilber & Belongie 2016, figs. 3 to 5",
    config=Config,
    scales=SCALES,
    measurements=measurements,
    claims=claims,
    page=page,
    open_net=dissected_net,
)
