"""Report of the depth search: final losses, training curves, the search, and the paper's numbers."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from thruway.experiments.highway2015.depth import CLAIMS, SCALES, Config, best_loss, member_of
from thruway.experiments.highway2015.depth_search import (
    Curves,
    load_images,
    read_curves,
    read_rows,
    run_search,
    stored_nets,
)
from thruway.experiments.machinery.study import Rows, Study, StudyPage, differences
from thruway.report import (
    Section,
    TableData,
    final_loss_by_depth,
    final_loss_table,
    loss_curves,
    paper_comparison,
    search_scatter,
)
from thruway.runs import RunReader

__all__ = ["STUDY", "best_curves", "page"]

# The paper's means are over the best 10 of 100 trials. Ours are over a tenth too, but at least two trials.
_TOP_SHARE = 0.1

_DIFFERS = (
    "the ranges of learning rate, momentum and decay are ours: the papers do not state them",
    "all searches of a run use the same order of the training examples, and a trial draws the same values for every "
    "block and depth",
    "weights are initialized with Glorot's normalized scheme times the gain of the activation (He's variance for relu)",
    "residual networks, y = x + act(Wx + b)/sqrt(depth), are compared with the papers' plain and highway networks",
)

_PAPER_DATA = (
    "The paper's losses are orders of magnitude, from second-hand descriptions of its figure and text. Its data and "
    "training budget are larger, so compare the trend over depth, not the values."
)

# Fig. 1 (MNIST, best of 40 and of 100 trials) as others describe it; its axes could not be read.
_PAPER = {
    ("plain", 10): "< 1e-4",
    ("plain", 20): "< 1e-4",
    ("plain", 100): "about 1e-1, stalled",
    ("highway", 10): "an order above highway-100",
    ("highway", 20): "about 1e-5",
    ("highway", 50): "about 1e-5",
    ("highway", 100): "about 1e-5, on a par with plain-10",
}


def page(reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the page of the report."""
    top = max(2, round(_TOP_SHARE * config.trials * config.searches))
    table = final_loss_table(rows, top=top)
    best, mean = best_curves(read_curves(reader, config), rows, config, top)
    seconds = sum(row["seconds"] for row in rows)
    return StudyPage(
        title="Do networks still train when they get deeper?",
        subtitle="Fig. 1 of Highway Networks and of Training Very Deep Networks, Srivastava, Greff & Schmidhuber 2015",
        lead=_lead(rows, config, reader.status),
        sections=(
            Section(
                "Final loss against depth",
                final_loss_by_depth(rows),
                "If a line rises to the right, networks of that kind stop training as they get deeper; if it is "
                "level, depth makes no difference.",
            ),
            Section(
                "Training curves",
                loss_curves(best, means=mean),
                f"Solid: the best trial of the search. Dashed: the mean of the best {top}. "
                "Lower and earlier is better.",
                table,
            ),
            Section(
                "The search",
                search_scatter(rows),
                "Each mark is one trial. A kind of network that is easy to train has low losses over wide ranges.",
            ),
            Section("Comparison with the paper", None, _PAPER_DATA, _beside_the_paper(rows)),
        ),
        table=table,
        facts={
            "scale": config.scale,
            "data": config.data + ("" if config.examples is None else f", {config.examples} training examples"),
            "seeds": f"{config.searches} independent searches, seeds {config.seed} to "
            f"{config.seed + config.searches - 1}",
            "search": f"{config.trials} trials per search, block and depth; {config.epochs} epochs; "
            f"batch {config.batch}",
        },
        cost=f"{seconds / 60:.1f} minutes of training in total",
        differs=(*differences(config, SCALES["paper"]), *_DIFFERS),
    )


def best_curves(
    curves: Curves, rows: Rows, config: Config, top: int
) -> tuple[dict[tuple[str, int], Any], dict[tuple[str, int], Any]]:
    """Return the best training curve of each block and depth, and the mean of the `top` best ones.

    The best trials are those with the lowest final loss over all searches. A curve is a pair (epochs, losses).
    """
    epochs = np.arange(1, config.epochs + 1)
    best, mean = {}, {}
    for block, depth in sorted({(row["block"], row["depth"]) for row in rows}):
        mine = [r for r in rows if (r["block"], r["depth"]) == (block, depth) and math.isfinite(r["final_loss"])]
        ranked = sorted(mine, key=lambda row: float(row["final_loss"]))[:top]
        chosen = [curves[block, depth, _member(config, row)] for row in ranked]
        if chosen:
            best[block, depth] = (epochs, chosen[0])
            mean[block, depth] = (epochs, np.mean(chosen, axis=0))
    return best, mean


def _member(config: Config, row: Mapping[str, Any]) -> int:
    return member_of(config, row["seed"] - config.seed, row["trial"])


def _lead(rows: Rows, config: Config, status: str) -> str:
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
            f"The best {block} network ends at a training loss of {_loss(shallow)} with {depths[0]} layers "
            f"and at {_loss(deep)} with {depths[-1]}."
        )
    return unfinished + " ".join(sentences)


def _loss(value: float) -> str:
    if not math.isfinite(value):
        return "no finite value"
    return "1e-5 or less" if value <= 1e-5 else f"{value:.2g}"


def _beside_the_paper(rows: Rows) -> TableData:
    keys = sorted({(row["block"], row["depth"]) for row in rows} & set(_PAPER))
    source = "Highway Networks, fig. 1; Training Very Deep Networks, sec. 3.1"
    entries = [
        (f"{block}, {depth} layers", _PAPER[block, depth], best_loss(rows, block, depth), source)
        for block, depth in keys
    ]
    return paper_comparison(entries, caption="Best final training cross-entropy in nats; ours is at least 1e-5.")


STUDY = Study(
    name="highway2015.depth",
    title="plain networks stop training as they get deeper; highway and residual networks do not",
    source="Srivastava, Greff & Schmidhuber 2015, fig. 1 of both papers",
    config=Config,
    scales=SCALES,
    prepare=load_images,
    run=run_search,
    rows=read_rows,
    claims=CLAIMS,
    page=page,
    stored_nets=stored_nets,
    example="--scale demo --data digits --trials 4 --learning-rate.high 0.1",
)
