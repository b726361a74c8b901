"""Report of the path length study: fig. 6 sampled and exact, statistics of every seed, and the paper's numbers."""

from thruway.experiments.machinery import Rows, StudyPage, mean_of, measured_study, only, over_seeds
from thruway.experiments.veit2016.nets import ALWAYS_DIFFERENT, dissected_net, net_in_words
from thruway.experiments.veit2016.paths import SCALES, Config, claims, decay, measurements
from thruway.figures import path_lengths
from thruway.report import Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["STUDY", "page"]

_DIFFERENT = (
    "gradients are those of the losses of single test examples, averaged over examples; the paper uses the loss of a "
    "batch",
    "the number of paths of each length drawn in the paper is not known",
    "the exact sum over all paths of a length is shown in addition to the paper's estimate: it is a vector sum, in "
    "which paths cancel, while the estimate, a mean norm times the number of paths, ignores cancellation",
)


def page(reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the page of the report."""
    table = seed_table(rows)
    sections = [
        *_figure_6(rows, "sampled", "Path by path, as published (fig. 6)", _SAMPLED),
        *_figure_6(rows, "exact", "All paths of a length, summed exactly", _EXACT),
        Section("Every seed", None, _TABLE, table),
        Section(
            "Comparison with the paper", None, "The paper's numbers are for 54 modules.", beside_the_paper(rows, config)
        ),
    ]
    return StudyPage(
        title="How long are the paths that carry the gradient?",
        subtitle="Fig. 6 of Residual Networks Behave Like Ensembles of Relatively Shallow Networks, Veit, Wilber & "
        "Belongie 2016",
        lead=_lead(rows, config),
        sections=tuple(sections) if rows else (),
        table=table,
        facts={"nets": net_in_words(config)},
        differs=(*ALWAYS_DIFFERENT[:2], *ALWAYS_DIFFERENT[3:], *_DIFFERENT),
    )


_SAMPLED = (
    "Left: share of all paths with each length. Middle: norm of the gradient along a single path, averaged over "
    "random paths; a straight line on this scale is exponential decay. Right: the product of both, as shares. Means "
    "over seeds."
)
_EXACT = (
    "Like the figure above, with the gradients of all paths of a length summed. Middle: norm of that sum, in which "
    "gradients of opposite direction cancel. Means over seeds."
)
_TABLE = (
    "Depth: mean path length, weighted by contribution to the gradient. Effective: the smallest range of lengths that "
    "carries 95 % of the gradient, and its share of all paths."
)


_TITLES = {
    "sampled": ("share of paths", "gradient along a path", "gradient in all paths"),
    "exact": ("share of paths", "gradient of all paths", "share of the norms"),
}


def seed_table(rows: Rows) -> TableData:
    """Return a table with one line per seed and method."""
    lines = []
    for row in rows:
        if row["what"] in ("sampled_whole", "exact_whole"):
            method = "sampled" if row["what"] == "sampled_whole" else "exact"
            factor, _ = decay(only(rows, seed=row["seed"])) if method == "sampled" else (None, None)
            effective = f"{row['shortest']} to {row['longest']}"
            lines.append((row["seed"], method, row["depth"], effective, row["effective_paths"], factor))
    columns = ("seed", "gradients", "depth", "effective lengths", "share of paths", "factor per module")
    return TableData(columns, tuple(lines), "Factor: change of the gradient along a path per additional module.")


def beside_the_paper(rows: Rows, config: Config) -> TableData:
    """Return a table of the paper's numbers and ours."""
    whole = only(rows, what="sampled_whole")
    ours = [f"{mean_of(row[key] for row in whole):.1f}" if whole else None for key in ("shortest", "longest", "depth")]
    n = config.depth
    shortest, longest, depth = ours
    entries = [
        ("modules", 54, n, "sec. 3"),
        ("shortest effective length", 5, shortest, "fig. 6c"),
        ("longest effective length", 17, longest, "fig. 6c"),
        ("mean length, weighted by contribution", "about 11", depth, "fig. 6c"),
        (
            "share of all paths that are effective (%)",
            0.45,
            100 * mean_of(row["effective_paths"] for row in whole) if whole else None,
            "sec. 5",
        ),
    ]
    return paper_comparison(entries, caption=f"Sampled estimate, means over seeds; our networks have {n} modules.")


def _figure_6(rows: Rows, what: str, title: str, reading: str) -> list[Section]:
    mine = only(rows, what=what)
    if not mine:
        return []
    columns = {key: over_seeds(mine, "length", key) for key in ("paths", "gradient", "contribution")}
    whole = only(rows, what=f"{what}_whole")
    effective = mean_of(row["shortest"] for row in whole), mean_of(row["longest"] for row in whole)
    gradient = columns["gradient"].values()
    has_range = len({row["seed"] for row in mine}) > 1
    figure = path_lengths(
        list(columns["paths"]),
        *([mean for mean, _, _ in columns[key].values()] for key in columns),
        effective=(round(effective[0]), round(effective[1])),
        gradient_low=[low for _, low, _ in gradient] if has_range else None,
        gradient_high=[high for _, _, high in gradient] if has_range else None,
        unit="nats per input",
        titles=_TITLES[what],
    )
    return [Section(title, figure, reading)]


def _lead(rows: Rows, config: Config) -> str:
    """Return the lead of the report: the main result in words."""
    sentences = []
    for what, how in (("sampled_whole", "By the published estimate"), ("exact_whole", "Summed exactly")):
        whole = only(rows, what=what)
        if whole:
            shortest, longest, depth = (mean_of(row[key] for row in whole) for key in ("shortest", "longest", "depth"))
            sentences.append(
                f"{how}, paths through {shortest:.0f} to {longest:.0f} of {config.depth} modules carry 95 % of the "
                f"gradient; weighted by contribution, the mean length is {depth:.1f}."
            )
    if sentences:
        sentences.append(f"The mean length of all paths is {config.depth / 2:g}.")
    return " ".join(sentences)


STUDY = measured_study(
    name="veit2016.paths",
    title="short paths carry the gradient of a deep residual network, although most paths are long",
    source="Veit, Wilber & Belongie 2016, fig. 6",
    config=Config,
    scales=SCALES,
    measurements=measurements,
    claims=claims,
    page=page,
    open_net=dissected_net,
)
