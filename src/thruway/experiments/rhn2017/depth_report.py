"""The report of the study: answer, verdicts, bits against depth, how the nets learnt, beside the paper, provenance."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from thruway.experiments.claims import judge
from thruway.experiments.glorot2010.provenance import differences, origin
from thruway.experiments.rhn2017.depth import SCALES, Config
from thruway.experiments.rhn2017.depth_claims import CLAIMS, PAPER, ratio_to_shallowest
from thruway.experiments.rhn2017.depth_rows import Rows, by_depth, read_courses, read_rows, read_text
from thruway.experiments.rhn2017.depth_training import nets
from thruway.figures import run_curves
from thruway.report import ClaimVerdict, Page, Section, TableData, paper_comparison, write_page, write_summary
from thruway.runs import RunReader

__all__ = ["write_report"]

_DIFFERENT = (
    "the text is Python's documentation, character by character; the paper's numbers for each depth are of the words "
    "of the Penn Treebank",
    "the paper's nets are regularised by dropout, without which they over-fit; where the dropouts above are 0, small "
    "nets are compared after a few epochs instead",
    "initial weights are Glorot's normalised ones, embeddings standard normal; the authors draw all from one narrow "
    "uniform distribution",
    "no word types are dropped from the input, and input and output weights are not tied",
    "the best epoch is that of the lowest validation loss, read as many pieces at a time as in training; the authors "
    "read the text once more, in one piece",
    "thresholds are ours, set before any run",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    rows = read_rows(reader, config)
    verdicts = tuple(judge(claim, rows) for claim in CLAIMS) if rows else ()
    table = depth_table(rows)
    provenance = _provenance(reader, config, rows)
    page = Page(
        title="Does a recurrent net read better when its step is deeper?",
        subtitle="Recurrence depth at one number of parameters: Recurrent Highway Networks, Zilly, Srivastava, Koutník "
        "& Schmidhuber 2017",
        lead=_lead(rows, config, reader.status),
        claims=verdicts,
        sections=(*_against_depth(rows, config, table), *_courses(reader, config), *_beside_the_paper(rows)),
        provenance=provenance,
    )
    write_page(page, folder / "report.html")
    write_summary(folder / "summary.json", experiment=reader.name, rows=rows, claims=verdicts, meta=provenance)
    return table, verdicts


def depth_table(rows: Rows) -> TableData:
    """A line per depth, means over seeds."""
    lines = []
    for depth in by_depth(rows, "seed"):
        mine = [row for row in rows if row["depth"] == depth]
        means = [
            sum(row[key] for row in mine) / len(mine) for key in ("train_bits", "valid_bits", "test_bits", "seconds")
        ]
        lines.append((depth, mine[0]["width"], mine[0]["parameters"], len(mine), *means))
    columns = ("depth", "width", "parameters", "seeds", "training", "validation", "test", "seconds")
    caption = (
        "Bits per character, means over seeds: training in the last epoch, while learning; validation and test after "
        "the epoch with the best validation."
    )
    return TableData(columns, tuple(lines), caption)


def _lead(rows: Rows, config: Config, status: str) -> str:
    """The answer in plain words, from the numbers."""
    expected = len(nets(config))
    unfinished = (
        "" if len(rows) == expected else f"{len(rows)} of {expected} nets have finished (the run is {status}). "
    )
    ratios = ratio_to_shallowest(rows)
    if len(ratios) < 2:
        return unfinished
    bits = {depth: sum(values) / len(values) for depth, values in by_depth(rows, "test_bits").items()}
    shallowest, deepest = min(bits), max(bits)
    best = min(bits, key=lambda depth: bits[depth])
    change = ratios[deepest] - 1
    return unfinished + (
        f"With {config.parameters:,} parameters a net of recurrence depth {shallowest} needs {bits[shallowest]:.3f} "
        f"bits for a character it has not seen, one of depth {deepest} {bits[deepest]:.3f}: {abs(change):.1%} "
        f"{'less' if change < 0 else 'more'}. The best depth is {best}, with {bits[best]:.3f}."
    )


def _band(found: dict[int, list[float]]) -> tuple[list[int], list[float], list[float]]:
    return list(found), [min(each) for each in found.values()], [max(each) for each in found.values()]


def _against_depth(rows: Rows, config: Config, table: TableData) -> list[Section]:
    if not rows:
        return []
    found = {name: by_depth(rows, key) for name, key in (("test", "test_bits"), ("training", "train_bits"))}
    curves = {name: (list(each), [sum(v) / len(v) for v in each.values()]) for name, each in found.items()}
    bands = {name: _band(each) for name, each in found.items()} if config.seeds > 1 else {}
    figure = run_curves(curves, bands=bands, x_name="recurrence depth", y_name="bits per character")
    figure.update_xaxes(tickvals=list(found["test"]))
    reading = (
        "A line that falls to the right: deeper is better, with narrower layers and no more parameters. Mean over seeds"
        f"{', with their range' if config.seeds > 1 else ''}."
    )
    return [Section("Bits against depth", figure, reading, table)]


def _courses(reader: RunReader, config: Config) -> list[Section]:
    found: dict[int, dict[int, list[float]]] = {}
    for net, course in read_courses(reader, config).items():
        for epoch, bits in course.get("valid_bits", {}).items():
            found.setdefault(net.depth, {}).setdefault(epoch, []).append(bits)
    if not found:
        return []
    curves = {
        f"depth {depth}": (sorted(epochs), [sum(epochs[e]) / len(epochs[e]) for e in sorted(epochs)])
        for depth, epochs in sorted(found.items())
    }
    figure: go.Figure = run_curves(curves, x_name="epochs", y_name="validation bits per character")
    reading = (
        "What each depth has learnt after every pass over the text; the mean over seeds. A curve that still falls at "
        "the end is that of a net that has not learnt all it can."
    )
    return [Section("How they learnt", figure, reading)]


def _beside_the_paper(rows: Rows) -> list[Section]:
    ratios = ratio_to_shallowest(rows)
    if 1 not in ratios or len(ratios) < 2:
        return []
    entries: list[tuple[str, Any, Any, str]] = [
        (f"bits at depth {depth} / at depth 1", math.log2(PAPER[depth]) / math.log2(PAPER[1]), ratio, _where(depth))
        for depth, ratio in ratios.items()
        if depth in PAPER and depth > 1
    ]
    caption = "Bits per word there, per character here: what compares is how they change with depth."
    reading = (
        "The paper's perplexities on the Penn Treebank fall from 90.6 to 65.4 from depth 1 to 10, with 1,275 to 830 "
        "units; as bits per word they are set beside ours, each as a share of that of depth 1."
    )
    return [Section("Beside the paper", None, reading, paper_comparison(entries, caption=caption))]


def _where(depth: int) -> str:
    return "abstract" if depth in (1, 10) else "the authors' repository, README"


def _provenance(reader: RunReader, config: Config, rows: Rows) -> dict[str, str | Sequence[str]]:
    text = read_text(reader)
    about = (
        f"the documentation of Python {text['python']}, each paragraph once: {text['characters']:,} characters of "
        f"{text['symbols']} kinds, SHA-256 {text['sha256']}; the last tenth for validation and test, half each"
        if text
        else "the documentation of this Python"
    )
    drops = ", ".join(f"{getattr(config, f'drop_{what}'):g} of the {what}" for what in ("input", "state", "output"))
    return {
        "scale": config.scale,
        "text": about,
        "nets": f"an embedding of {config.embedding} features, one recurrent highway layer, a linear layer; about "
        f"{config.parameters:,} parameters; gate bias {config.gate_bias:g}; dropout {drops}",
        "training": f"{config.epochs} epochs of {config.optimizer}, rate {config.learning_rate:g}, from "
        f"{config.steady:.0%} of the epochs on times {config.decay:.3g} each; {config.batch} pieces of {config.window} "
        f"characters per update; gradient norm at most {config.clip:g}",
        "seeds": f"{config.seeds}, from seed {config.seed} on",
    } | origin(
        reader,
        cost=f"{sum(row['seconds'] for row in rows) / 60:.1f} minutes of training, one net after the other",
        differs=[*differences(config, SCALES["paper"]), *_DIFFERENT],
    )
