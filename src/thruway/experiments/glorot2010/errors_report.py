"""The report of the study: answer, verdicts, Table 1 beside the paper's, curves, search, provenance."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thruway.experiments.claims import judge
from thruway.experiments.glorot2010.errors import PAIRS, SCALES, Config
from thruway.experiments.glorot2010.errors_claims import claims_for
from thruway.experiments.glorot2010.errors_figures import error_curves, search_figure, table_figure
from thruway.experiments.glorot2010.errors_rows import (
    final_curves,
    read_majority_error,
    read_rivals,
    read_rows,
    read_search,
)
from thruway.experiments.glorot2010.errors_tables import PAPER, choice_table, error_table, errors_of, svm_table
from thruway.experiments.glorot2010.provenance import differences, image_data, origin
from thruway.report import ClaimVerdict, Page, Section, TableData, write_page, write_summary
from thruway.runs import RunReader

__all__ = ["write_report"]

Rows = Sequence[Mapping[str, Any]]

_ALWAYS_DIFFERENT = (
    "the grid of learning rates and the number of seeds are ours: the paper prints neither",
    "the rate and the depth are chosen once, by nets of one seed, and the tested nets are fresh ones of other weights "
    "and examples; the paper does not say whether its tested nets are those of the choice",
    "all pairs of a seed start from the same random numbers, scaled by their initialiser, and see the same examples, "
    "so that their differences are paired",
    "the learning rate multiplies the gradient of a batch's mean loss",
    "pre-training: masking noise, transposed weights, a linear decoder, squared error, one rate for all layers; the "
    "paper prints none of it",
    "the SVM's grid of C and gamma is ours, and so is stopping the net beside it at its lowest validation error",
    "Shapeset counts hidden pixels where the authors' generator estimates them",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    rows, search, majority_error = read_rows(reader, config), read_search(reader, config), read_majority_error(reader)
    is_judged = any(row["stage"] == "final" for row in rows)
    claims = claims_for(config.data, majority_error, bool(config.fixed_examples))
    verdicts = tuple(judge(claim, rows) for claim in claims) if is_judged else ()
    table = error_table(rows, read_rivals(reader), config)
    errors = {pair: errors_of(rows, pair, config.deepest) for pair in config.pairs}
    provenance = _provenance(reader, config, rows, search)
    page = Page(
        title="How far does a deep net get from where it starts?",
        subtitle="Table 1 and figs. 11 and 12 of Understanding the difficulty of training deep feedforward neural "
        "networks, Glorot & Bengio 2010",
        lead=_lead(rows, config, reader.status),
        claims=verdicts,
        sections=(
            Section(
                "Test errors, beside the paper's",
                table_figure({p: e for p, e in errors.items() if e}, PAPER.get(config.data, {}), majority_error),
                _reading(config),
                table,
            ),
            Section(
                "Test error while training",
                error_curves(final_curves(reader, config), config.batch),
                f"Nets of {config.deepest} hidden layers, the mean over seeds. Dashed: the standard start. Solid: the "
                "normalized one. Grey: pre-trained. A curve that stays at the top has not begun to learn.",
            ),
            *_svm_section(rows, config),
            Section(
                "The choice of learning rate and depth",
                search_figure(search),
                "Validation error at the end of the search. A pair that is easy to train is low over a wide range.",
                choice_table(rows, config),
            ),
        ),
        provenance=provenance,
    )
    write_page(page, folder / "report.html")
    all_rows = [*rows, *search]
    write_summary(folder / "summary.json", experiment=reader.name, rows=all_rows, claims=verdicts, meta=provenance)
    return table, verdicts


def _svm_section(rows: Rows, config: Config) -> tuple[Section, ...]:
    if not config.fixed_examples:
        return ()
    reading = (
        f"Both learn from the same {config.fixed_examples:,} examples and choose their settings on the same validation "
        "examples."
    )
    return (Section("Beside a shallow machine", None, reading, svm_table(rows, config)),)


def _lead(rows: Rows, config: Config, status: str) -> str:
    """The answer in plain words, from the numbers."""
    sentences = []
    for pair in config.pairs:
        errors = [error for error in errors_of(rows, pair, config.deepest) if not math.isnan(error)]
        if errors:
            sentences.append(f"{PAIRS[pair].title} {100 * statistics.fmean(errors):.1f} %")
    if not sentences:
        return f"No net has been trained to the end yet (the run is {status})."
    told = f"With {config.deepest} hidden layers the test errors are: {', '.join(sentences)}."
    return told if status == "done" else f"The run is {status}. {told}"


def _reading(config: Config) -> str:
    if config.data not in PAPER:
        return "The paper has no numbers for this data set; compare the order of the pairs with its Table 1."
    if config.scale == "paper":
        return "A mark per seed; the bar is the paper's number."
    return (
        "A mark per seed; the bar is the paper's number. Its nets are wider and saw many times the examples, so "
        "compare the order of the pairs, not the digits."
    )


def _provenance(reader: RunReader, config: Config, rows: Rows, search: Rows) -> dict[str, str | Sequence[str]]:
    seconds = sum(row["seconds"] or 0.0 for row in (*rows, *search))
    return {
        "scale": config.scale,
        "data": image_data(config.data, config.size),
        "seeds": f"{config.seeds}, from {config.seed} to {config.seed + config.seeds - 1}",
        "search": f"{len(config.learning_rates)} learning rates at {len(config.depths)} depths, "
        f"{config.search_updates:,} updates of {config.batch} examples",
        "tested nets": f"{config.width} units per layer, {config.updates:,} updates of {config.batch} examples",
        "significance": "exact McNemar test on the test examples of each seed, the largest p of the seeds; and "
        "Student's paired t over seeds; the paper's level is 0.005, and it does not say which test it used",
    } | origin(
        reader,
        cost=f"{seconds / 60:.1f} minutes of training in all",
        differs=[*differences(config, SCALES["paper"]), *_ALWAYS_DIFFERENT],
    )
