"""The report of the study: answer, verdicts, fig. 7, what is left beside the error, provenance."""

from pathlib import Path

from thruway.dissecting import shortest_range
from thruway.experiments.measured_report import Told, write_measured_report
from thruway.experiments.measuring import read_rows
from thruway.experiments.veit2016.harm import Rows, harm, mean_by, mean_of, only
from thruway.experiments.veit2016.lesion_report import several_deleted
from thruway.experiments.veit2016.path_survival import SCALES, Config
from thruway.experiments.veit2016.path_survival_claims import claims_for
from thruway.experiments.veit2016.path_survival_run import measurements
from thruway.experiments.veit2016.told import ALWAYS_DIFFERENT, HARM, net_in_words
from thruway.figures import path_survival, run_curves
from thruway.report import ClaimVerdict, Section, TableData
from thruway.runs import RunReader

__all__ = ["write_report"]

_DIFFERENT = (
    "what paths carry is the published estimate of `veit2016.paths`, of the same nets",
    "the paper's figure counts paths; what they carry, and the error beside it, is ours",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    rows = read_rows(reader, measurements(config))
    table = left_table(rows)
    told = Told(
        title="Which paths does a deletion leave?",
        subtitle="Fig. 7 of Residual Networks Behave Like Ensembles of Relatively Shallow Networks, Veit, Wilber & "
        "Belongie 2016",
        lead=_lead(rows, config),
        sections=(*_figure_7(rows), *_left(rows, table), *several_deleted(rows)),
        table=table,
        nets=net_in_words(config),
        differs=(*ALWAYS_DIFFERENT, *_DIFFERENT),
    )
    return write_measured_report(reader, folder, config, SCALES["paper"], rows, claims_for(config), told)


def left_table(rows: Rows) -> TableData:
    """A line per number of deletions, means over seeds."""
    paths, carried = (mean_by(only(rows, what="left"), "k", key) for key in ("of_paths", "of_contribution"))
    errors, harms = mean_by(only(rows, what="delete_k"), "k", "error"), _harms(rows)
    lines = [(k, paths[k], carried[k], errors.get(k), harms.get(k)) for k in paths]
    columns = ("deleted", "paths left", "of what they carry", "test error", "harm")
    return TableData(columns, tuple(lines), f"Shares; means over seeds and draws. {HARM}")


def _harms(rows: Rows) -> dict[int, float]:
    return mean_by([{"k": row["k"], "harm": harm(row)} for row in only(rows, what="delete_k")], "k", "harm")


def _figure_7(rows: Rows) -> list[Section]:
    left = only(rows, what="left")
    if not left:
        return []
    of_one = {row["k"]: row["left"] for row in left}  # the same for every seed
    contribution = mean_by(only(rows, what="length"), "length", "contribution")
    effective = shortest_range(list(contribution.values()), [1] * len(contribution), 0.95)
    shortest, longest = effective.shortest, effective.longest
    figure = path_survival(list(contribution), of_one, effective=(shortest, longest))
    most = max(of_one)
    reading = (
        "Each line: of the paths of a length, the share that is left on average. The longer a path, the likelier it "
        f"met a deleted module: without {most}, {of_one[most][shortest]:.1%} of those of length {shortest} are left, "
        f"and {of_one[most][longest]:.1%} of those of length {longest}. Shaded: the fewest lengths in a row that "
        "carry 95 % of the gradient."
    )
    return [Section("Paths left, by length (fig. 7)", figure, reading)]


def _left(rows: Rows, table: TableData) -> list[Section]:
    paths, carried = (mean_by(only(rows, what="left"), "k", key) for key in ("of_paths", "of_contribution"))
    if not paths:
        return []
    skill = {k: 1 - each for k, each in _harms(rows).items()}
    curves = {"paths": paths, "what they carry": carried} | ({"skill of the net": skill} if skill else {})
    figure = run_curves(
        {name: ([0, *each], [1.0, *each.values()]) for name, each in curves.items()},
        x_name="deleted modules",
        y_name="share left",
    )
    reading = (
        "Of all paths, half go with every module. Of what they carry, less does. Skill: what is left between the error "
        "of guessing and that of the intact net."
    )
    return [Section("What is left", figure, reading, table)]


def _lead(rows: Rows, config: Config) -> str:
    """The answer in plain words, from the numbers."""
    ten = config.as_many_as(10)
    paths, carried = (mean_by(only(rows, what="left"), "k", key).get(ten) for key in ("of_paths", "of_contribution"))
    if paths is None or carried is None:
        return ""
    harms = _harms(rows)
    told = f" The net keeps {1 - harms[ten]:.0%} of its skill." if ten in harms else ""
    mean = mean_of(row["contribution"] * row["length"] for row in only(rows, what="length"))
    lengths = len({row["length"] for row in only(rows, what="length")})
    return (
        f"Without {ten} of {config.depth} modules {paths:.2%} of the paths are left, and {carried:.0%} of what they "
        f"carry: those that matter are {mean * lengths:.1f} modules long on average, of {config.depth}.{told}"
    )
