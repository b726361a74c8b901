"""The report of the study: answer, verdicts, fig. 8, tables, provenance."""

from pathlib import Path
from statistics import median

from thruway.experiments.measured_report import Told, write_measured_report
from thruway.experiments.measuring import read_rows
from thruway.experiments.veit2016.harm import Rows, harm, mean_by, mean_of, only
from thruway.experiments.veit2016.stochastic_depth import SCALES, Config
from thruway.experiments.veit2016.stochastic_depth_claims import CLAIMS
from thruway.experiments.veit2016.stochastic_depth_run import measurements
from thruway.experiments.veit2016.told import ALWAYS_DIFFERENT, HARM, boundaries, net_in_words, over_seeds
from thruway.experiments.veit2016.training_curves import training_curves
from thruway.figures import deletion_comparison, run_curves
from thruway.report import ClaimVerdict, Section, TableData
from thruway.runs import RunReader

__all__ = ["write_report"]

_NETS = ("resnet", "stochastic")
_LABELS = {"resnet": "usual training", "stochastic": "stochastic depth"}
_DIFFERENT = (
    "what fig. 8 shows is known to us at second hand only; that the gain is below 0.2 of the skill is our reading of "
    "'slightly'",
    "both nets of a seed start from the same weights, see the same examples in one order, and lose the same modules",
    "in the test each module of the net trained with stochastic depth counts with its probability, after Huang et al.",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    rows = read_rows(reader, measurements(config))
    table = harm_table(rows)
    sections = [
        *_several(rows, table),
        *_single(rows, config),
        *training_curves(reader, _NETS),
    ]
    told = Told(
        title="Does stochastic depth make a net robust to the loss of modules?",
        subtitle="Fig. 8 of Residual Networks Behave Like Ensembles of Relatively Shallow Networks, Veit, Wilber & "
        "Belongie 2016",
        lead=_lead(rows, config),
        sections=tuple(sections),
        table=table,
        nets=f"{net_in_words(config)}; the same with stochastic depth, p_L = {config.survival:g}",
        differs=(*ALWAYS_DIFFERENT, *_DIFFERENT),
    )
    return write_measured_report(reader, folder, config, SCALES["paper"], rows, CLAIMS, told)


def harm_table(rows: Rows) -> TableData:
    """A line per number of deletions: errors and harms of both nets."""
    errors = {net: mean_by(only(rows, net=net, what="delete_k"), "k", "error") for net in _NETS}
    harms = {net: _harms(rows, net) for net in _NETS}
    intact = {net: mean_of(row["intact"] for row in only(rows, net=net, what="delete_k")) for net in _NETS}
    ks = sorted(set().union(*harms.values()))
    lines: list[tuple[float | int | None, ...]] = []
    if ks:
        lines.append((0, intact["resnet"], intact["stochastic"], 0.0, 0.0))
    lines += [(k, *(each[net].get(k) for each in (errors, harms) for net in _NETS)) for k in ks]
    columns = ("deleted", "error, usual", "error, stochastic depth", "harm, usual", "harm, stochastic depth")
    return TableData(columns, tuple(lines), f"Means over seeds and draws; errors are shares. {HARM}")


def _harms(rows: Rows, net: str) -> dict[int, float]:
    drawn = only(rows, net=net, what="delete_k")
    return mean_by([{"k": row["k"], "harm": harm(row)} for row in drawn], "k", "harm")


def _several(rows: Rows, table: TableData) -> list[Section]:
    drawn = only(rows, what="delete_k")
    if not drawn:
        return []
    curves, bands = {}, {}
    for net in _NETS:
        mine = [{**row, "harm": harm(row)} for row in only(drawn, net=net)]
        found = over_seeds([{"k": row["k"], "harm": row["harm"]} for row in mine], "k", "harm")
        if found:
            curves[_LABELS[net]] = (list(found), [mean for mean, _, _ in found.values()])
            bands[_LABELS[net]] = (
                list(found),
                [low for _, low, _ in found.values()],
                [high for _, _, high in found.values()],
            )
    figure = run_curves(curves, bands=bands, x_name="deleted modules", y_name="harm (0 none, 1 as bad as guessing)")
    harms = {net: _harms(rows, net) for net in _NETS}
    shared = [k for k in harms["resnet"] if k in harms["stochastic"]]
    fewer = sum(harms["stochastic"][k] < harms["resnet"][k] for k in shared)
    reading = (
        "Random modules deleted together: mean over draws and seeds, and their range. The lower, the more robust: at "
        f"{fewer} of {len(shared)} numbers it is the net trained with stochastic depth."
    )
    return [Section("Several modules deleted (fig. 8)", figure, reading, table)]


def _single(rows: Rows, config: Config) -> list[Section]:
    mine = {net: only(rows, net=net, what="delete_one") for net in _NETS}
    if not all(mine.values()):
        return []
    figure = deletion_comparison(
        {_LABELS[net]: list(mean_by(found, "index", "error").values()) for net, found in mine.items()},
        intact={_LABELS[net]: mean_of(row["intact"] for row in found) for net, found in mine.items()},
        boundaries=boundaries(config),
        quantity="test error",
        unit="share",
    )
    spared = {_LABELS[net]: median(row["error"] - row["intact"] for row in found) for net, found in mine.items()}
    rises = " and ".join(f"{rise:.2%} ({label})" for label, rise in spared.items())
    reading = f"The test error without each module in turn, mean over seeds. In the median it rises by {rises}."
    return [Section("One module deleted", figure, reading)]


def _lead(rows: Rows, config: Config) -> str:
    """The answer in plain words, from the numbers."""
    ten = config.as_many_as(10)
    harms = {net: _harms(rows, net).get(ten) for net in _NETS}
    intact = {net: mean_of(row["intact"] for row in only(rows, net=net, what="delete_k")) for net in _NETS}
    sentences = [
        f"{_LABELS[net].capitalize()}: {intact[net]:.1%} wrong; without {ten} of {config.depth} modules "
        f"{harms[net]:.0%} of its skill is gone."
        for net in _NETS
        if harms[net] is not None
    ]
    return " ".join(sentences)
