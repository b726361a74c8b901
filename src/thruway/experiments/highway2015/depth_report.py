"""The report of a depth search: answer, verdicts, curves, search, table, provenance."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from thruway.experiments.claims import judge
from thruway.experiments.highway2015.depth import SCALES, Config
from thruway.experiments.highway2015.depth_claims import CLAIMS, best_loss
from thruway.experiments.highway2015.depth_rows import read_curves, read_rows, top_curves
from thruway.experiments.in_words import provenance_in_words
from thruway.report import (
    ClaimVerdict,
    Page,
    Section,
    TableData,
    final_loss_by_depth,
    final_loss_table,
    loss_curves,
    paper_comparison,
    search_scatter,
    write_page,
    write_summary,
)
from thruway.runs import RunReader

__all__ = ["write_report"]

Rows = Sequence[Mapping[str, Any]]

# The paper's means are over the best 10 of 100 trials; a tenth of ours, but at least two.
_TOP_SHARE = 0.1

# Fields of the config that are no part of the protocol.
_NOT_PROTOCOL = {"scale", "data_root", "download", "device", "seed", "searches"}
_ALWAYS_DIFFERENT = (
    "the ranges of learning rate, momentum and decay are ours: the papers do not print them",
    "all searches of a run share the order of the training examples, and a trial draws the same values for every "
    "block and depth",
    "initial weights are Glorot's normalised ones times the activation's gain (He's variance for relu)",
    "residual nets, y = x + act(Wx + b)/sqrt(depth), stand beside the papers' plain and highway nets",
)


def write_report(reader: RunReader, folder: Path) -> tuple[TableData, tuple[ClaimVerdict, ...]]:
    """Write report.html and summary.json into the run folder; hand back the table and the verdicts."""
    config = Config.model_validate(reader.config)
    rows, curves = read_rows(reader, config), read_curves(reader, config)
    verdicts = tuple(judge(claim, rows) for claim in CLAIMS) if rows else ()
    top = max(2, round(_TOP_SHARE * config.trials * config.searches))
    table = final_loss_table(rows, top=top)
    provenance = _provenance(reader, config, rows)
    best, mean = top_curves(curves, rows, config, top)
    page = Page(
        title="Do nets still train when they get deeper?",
        subtitle="Fig. 1 of Highway Networks and of Training Very Deep Networks, Srivastava, Greff & Schmidhuber 2015",
        lead=_lead(rows, config, reader.status),
        claims=verdicts,
        sections=(
            Section(
                "Final loss against depth",
                final_loss_by_depth(rows),
                "A line that rises to the right is a kind of net that stops training as it gets deeper; "
                "a level one does not care.",
            ),
            Section(
                "Training curves",
                loss_curves(best, means=mean),
                f"Solid: the best trial of the search. Dashed: the mean of the best {top}. "
                "The lower and the earlier, the better.",
                table,
            ),
            Section(
                "The search",
                search_scatter(rows),
                "Each mark is one trial. A kind of net that is easy to train shows low losses over wide ranges.",
            ),
            Section("Beside the paper", None, _PAPER_READING, _beside_the_paper(rows)),
        ),
        provenance=provenance,
    )
    write_page(page, folder / "report.html")
    write_summary(folder / "summary.json", experiment=reader.name, rows=rows, claims=verdicts, meta=provenance)
    return table, verdicts


def _lead(rows: Rows, config: Config, status: str) -> str:
    """The answer in plain words, from the numbers."""
    expected = len(config.blocks) * len(set(config.depths)) * config.searches * config.trials
    unfinished = (
        "" if len(rows) == expected else f"{len(rows)} of {expected} trials have finished (the run is {status}). "
    )
    sentences = []
    for block in config.blocks:
        depths = sorted({row["depth"] for row in rows if row["block"] == block})
        if len(depths) < 2:
            continue
        shallow, deep = best_loss(rows, block, depths[0]), best_loss(rows, block, depths[-1])
        sentences.append(
            f"The best {block} net ends at a training loss of {_loss(shallow)} with {depths[0]} layers "
            f"and at {_loss(deep)} with {depths[-1]}."
        )
    return unfinished + " ".join(sentences)


def _loss(value: float) -> str:
    if not math.isfinite(value):
        return "nothing finite"
    return "1e-5 or less" if value <= 1e-5 else f"{value:.2g}"


_PAPER_READING = (
    "The paper's losses are orders of magnitude from its figure and text, at second hand; its data and budget are "
    "larger, so compare the pattern over depth, not the digits."
)

# As reported of fig. 1 (MNIST, best of 40 and of 100) in words and orders of magnitude; the axes could not be read.
_PAPER = {
    ("plain", 10): "< 1e-4",
    ("plain", 20): "< 1e-4",
    ("plain", 100): "about 1e-1, stalled",
    ("highway", 10): "an order above highway-100",
    ("highway", 20): "about 1e-5",
    ("highway", 50): "about 1e-5",
    ("highway", 100): "about 1e-5, on a par with plain-10",
}


def _beside_the_paper(rows: Rows) -> TableData:
    keys = sorted({(row["block"], row["depth"]) for row in rows} & set(_PAPER))
    source = "Highway Networks, fig. 1; Training Very Deep Networks, sec. 3.1"
    entries = [
        (f"{block}, {depth} layers", _PAPER[block, depth], best_loss(rows, block, depth), source)
        for block, depth in keys
    ]
    return paper_comparison(entries, caption="Best final training cross-entropy, nats; ours not below 1e-5.")


def _provenance(reader: RunReader, config: Config, rows: Rows) -> dict[str, str | Sequence[str]]:
    paper, meta = SCALES["paper"], reader.meta
    differs = [
        f"{field.replace('_', ' ')}: {_shown(here)}; as published: {_shown(there)}"
        for field in Config.model_fields
        if field not in _NOT_PROTOCOL and (here := getattr(config, field)) != (there := getattr(paper, field))
    ]
    seconds = sum(row["seconds"] for row in rows)
    return {
        "scale": config.scale,
        "data": config.data + ("" if config.examples is None else f", {config.examples} training examples"),
        "seeds": f"{config.searches} independent searches, seeds {config.seed} to {config.seed + config.searches - 1}",
        "search": f"{config.trials} trials per search, block and depth; {config.epochs} epochs; batch {config.batch}",
        "hardware": provenance_in_words(meta.get("hardware")),
        "versions": provenance_in_words(meta.get("versions")),
        "commit": provenance_in_words(meta.get("git")),
        "command": " ".join(meta.get("command", ())),
        "cost": f"{seconds / 60:.1f} minutes of training in all",
        "status": reader.status,
        "differs from the paper": [*differs, *_ALWAYS_DIFFERENT],
    }


def _shown(value: Any) -> str:
    """A config value in words."""
    if isinstance(value, BaseModel):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.model_dump().items())
    return ", ".join(map(str, value)) if isinstance(value, tuple) else "all" if value is None else str(value)
