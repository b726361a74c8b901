"""The report of the study: answer, verdicts, training curves, errors, provenance."""

from pathlib import Path

from thruway.experiments.measured_report import Told, write_measured_report
from thruway.experiments.measuring import read_rows
from thruway.experiments.veit2016.effective_paths import SCALES, Config
from thruway.experiments.veit2016.effective_paths_claims import CLAIMS, difference, standard_errors
from thruway.experiments.veit2016.effective_paths_run import measurements
from thruway.experiments.veit2016.harm import Rows, mean_of, only
from thruway.experiments.veit2016.told import ALWAYS_DIFFERENT, net_in_words
from thruway.experiments.veit2016.training_curves import training_curves
from thruway.report import ClaimVerdict, Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["write_report"]

_DIFFERENT = (
    "in the test each module counts k/n times, its share of the training batches; the paper does not say what it did. "
    "The table has the other way too; no verdict rests on it",
    "both nets of a seed start from the same weights and see the same examples in the same order",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    rows = read_rows(reader, measurements(config))
    table = error_table(rows)
    sections = [
        *training_curves(reader, ("resnet", "subset")),
        Section("Seed by seed", None, "Test errors; the paper's claim is that the two columns hardly differ.", table),
        Section("Beside the paper", None, "The paper's nets saw CIFAR-10.", beside_the_paper(rows, config)),
    ]
    told = Told(
        title="Are short paths enough to learn with?",
        subtitle="Sec. 5 of Residual Networks Behave Like Ensembles of Relatively Shallow Networks, Veit, Wilber & "
        "Belongie 2016",
        lead=_lead(rows, config),
        sections=tuple(sections) if rows else (),
        table=table,
        nets=f"{net_in_words(config)}; the same with {config.used} of them in each batch",
        differs=(*ALWAYS_DIFFERENT[:2], *ALWAYS_DIFFERENT[3:], *_DIFFERENT),
    )
    return write_measured_report(reader, folder, config, SCALES["paper"], rows, CLAIMS, told)


def error_table(rows: Rows) -> TableData:
    """A line per seed."""
    lines = []
    for seed in sorted({row["seed"] for row in rows}):
        mine = only(rows, seed=seed)
        full, subset = only(mine, net="resnet"), only(mine, net="subset")
        lines.append(
            (
                seed,
                full[0]["error"] if full else None,
                subset[0]["error"] if subset else None,
                difference(mine) if full and subset else None,
                standard_errors(mine) if full and subset else None,
                subset[0]["error_in_full"] if subset else None,
            )
        )
    columns = ("seed", "all modules", "subsets", "difference", "in standard errors", "subsets, counted in full")
    return TableData(
        columns, tuple(lines), "Test errors, shares. The last column counts every module once in the test."
    )


def beside_the_paper(rows: Rows, config: Config) -> TableData:
    """The paper's errors beside ours."""
    ours = [100 * mean_of(row["error"] for row in only(rows, net=net)) for net in ("resnet", "subset")]
    entries = [
        ("test error, all modules (%)", 6.10, ours[0], "sec. 5"),
        (f"test error, 23 of 54 in a batch, here {config.used} of {config.depth} (%)", 5.96, ours[1], "sec. 5"),
    ]
    return paper_comparison(entries, caption="Means over seeds.")


def _lead(rows: Rows, config: Config) -> str:
    """The answer in plain words, from the numbers."""
    if not all(only(rows, net=net) for net in ("resnet", "subset")):
        return ""
    full, subset = (mean_of(row["error"] for row in only(rows, net=net)) for net in ("resnet", "subset"))
    return (
        f"Trained with all {config.depth} modules the net gets {full:.1%} of the test examples wrong; trained with a "
        f"random {config.used} of them in each batch, {subset:.1%}."
    )
