"""A residual network trained on short paths only is as good as one trained on all of them.

Paper     Veit, Wilber & Belongie 2016, sec. 5
Protocol  train two residual networks with the same initial weights, on the same examples in the same order: one as
          usual, one with exactly k of n random modules in each batch (23 of 54), so that no path is longer than k
Claims    the test errors hardly differ
Measured  results/veit2016.effective_paths-laptop
Cost      demo: half a minute on one core; laptop: about 22 minutes, 6 with networks of veit2016.lesion; paper: requires
          a GPU
Differs   data, size and training at demo and laptop scale; at test time each module is weighted by k/n, which the paper
          does not specify (the table also shows the error with full weights); the report lists all differences
"""

import math

import torch
from pydantic import Field, model_validator
from torch import nn

from thruway.experiments.machinery import (
    Claim,
    ImageParts,
    Measurement,
    Rows,
    StudyPage,
    mean_of,
    measured_study,
    only,
)
from thruway.experiments.machinery.curves import loss_curves
from thruway.experiments.machinery.measuring import Row
from thruway.experiments.machinery.training import evaluation_batches, guessing_error
from thruway.experiments.veit2016.nets import (
    ALWAYS_DIFFERENT,
    LAPTOP,
    NAMES,
    PAPER,
    PaperConfig,
    dissected_net,
    net_in_words,
    residual_net,
    subset_net,
)
from thruway.networks import ResNet
from thruway.nn import RandomSubset
from thruway.report import Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["CLAIMS", "SCALES", "STUDY", "Config", "difference", "measurements", "standard_errors"]


class Config(PaperConfig):
    """Settings that determine the results of a run."""

    use: int | None = Field(default=None, ge=1)
    """Number of modules used in a training batch. If unset, 23/54 of them, as in the paper."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "Config":
        if self.used > self.depth:
            raise ValueError(f"use: got {self.use}, but the network has only {self.depth} modules")
        return self

    @property
    def used(self) -> int:
        """Number of modules used in a training batch.

        >>> SCALES["demo"].used, SCALES["paper"].used
        (6, 23)
        """
        return self.as_many_as(23) if self.use is None else self.use


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(**LAPTOP),
    "paper": Config(**PAPER),
}


def measurements(config: Config) -> list[Measurement]:
    """Return the measurements that test both networks of every seed."""
    return [
        Measurement("tested", net, _tested, lambda parts: len(parts.test) / 3)
        for seed in config.all_seeds
        for net in (residual_net(config, seed), subset_net(config, seed, config.used))
    ]


def _tested(model: nn.Module, parts: ImageParts) -> list[Row]:
    """Find the misclassified test examples and, for a network trained on subsets, the error with full weights."""
    count = len(parts.test)
    row: Row = {"what": "tested", "examples": count, "guessing": guessing_error(parts.test.labels)}
    row["wrong"] = _wrong(model, parts)
    row["error"] = len(row["wrong"]) / count
    if isinstance(model, ResNet) and isinstance(model.blocks, RandomSubset):
        model.blocks.rescale = False
        try:
            row["error_in_full"] = len(_wrong(model, parts)) / count
        finally:
            model.blocks.rescale = True
    return [row]


def _wrong(model: nn.Module, parts: ImageParts) -> list[int]:
    """Return the indices of the misclassified test examples."""
    with torch.no_grad():
        found = [model(x).argmax(dim=-1) != y for x, y in evaluation_batches(parts.test.images, parts.test.labels)]
    return [int(index) for index in torch.cat(found).nonzero().flatten()]


# --- claims: thresholds were set before any run

_PAPER = "Veit, Wilber & Belongie 2016"


def difference(rows: Rows) -> float:
    """Return the test error of the network trained on subsets, minus that of the other network."""
    both = [only(rows, what="tested", net=net) for net in ("subset", "resnet")]
    return float(both[0][0]["error"] - both[1][0]["error"]) if all(both) else math.nan


def standard_errors(rows: Rows) -> float:
    """Return `difference` in standard errors, computed from the examples that only one of the two misclassifies.

        (b - c) / sqrt(b + c)

    Source:
        McNemar 1947.

    >>> one, other = ({"what": "tested", "net": net, "wrong": w} for net, w in (("subset", [1, 2, 3]), ("resnet", [3])))
    >>> round(standard_errors([one, other]), 3)
    1.414
    """
    both = [only(rows, what="tested", net=net) for net in ("subset", "resnet")]
    if not all(both):
        return math.nan
    subset, full = (set(found[0]["wrong"]) for found in both)
    b, c = len(subset - full), len(full - subset)
    return (b - c) / math.sqrt(b + c) if b + c else 0.0


CLAIMS = (
    Claim(
        id="as-good-on-short-paths",
        text="A network trained with 23 random modules of 54 in each batch is as good as one trained with all.",
        source=f"{_PAPER}, sec. 5 (5.96 % against 6.10 %)",
        statistic="test error, trained on subsets minus trained on all modules",
        measure=difference,
        holds_if="<=",
        threshold=0.01,
    ),
    Claim(
        id="no-significant-difference",
        text="The network trained on subsets is not significantly worse.",
        source=f"{_PAPER}, sec. 5",
        statistic="difference of the test errors in standard errors, from examples on which the two differ (McNemar)",
        measure=standard_errors,
        holds_if="<=",
        threshold=2.0,
    ),
)


# --- the report

_DIFFERENT = (
    "at test time each module is weighted by k/n, its share of the training batches, which the paper does not "
    "specify; the table also shows the error with full weights, which no verdict uses",
    "both networks of a seed start from the same weights and see the same examples in the same order",
)


def page(reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the page of the report."""
    table = error_table(rows)
    sections = [
        *loss_curves(reader, {net: NAMES[net] for net in ("resnet", "subset")}),
        Section("Every seed", None, "Test errors. According to the paper, the first two hardly differ.", table),
        Section(
            "Comparison with the paper",
            None,
            "The paper's networks were trained on CIFAR-10.",
            beside_the_paper(rows, config),
        ),
    ]
    return StudyPage(
        title="Are short paths sufficient for training?",
        subtitle="Sec. 5 of Residual Networks Behave Like Ensembles of Relatively Shallow Networks, Veit, Wilber & "
        "Belongie 2016",
        lead=_lead(rows, config),
        sections=tuple(sections) if rows else (),
        table=table,
        facts={"nets": f"{net_in_words(config)}; the same network with {config.used} modules in each batch"},
        differs=(*ALWAYS_DIFFERENT[:2], *ALWAYS_DIFFERENT[3:], *_DIFFERENT),
    )


def error_table(rows: Rows) -> TableData:
    """Return a table with one line per seed."""
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
    columns = ("seed", "all modules", "subsets", "difference", "in standard errors", "subsets, full weights")
    return TableData(
        columns, tuple(lines), "Test errors, as shares. Last column: modules are not weighted by k/n at test time."
    )


def beside_the_paper(rows: Rows, config: Config) -> TableData:
    """Return a table of the paper's errors and ours."""
    ours = [100 * mean_of(row["error"] for row in only(rows, net=net)) for net in ("resnet", "subset")]
    entries = [
        ("test error, all modules (%)", 6.10, ours[0], "sec. 5"),
        (f"test error, 23 of 54 modules in a batch, here {config.used} of {config.depth} (%)", 5.96, ours[1], "sec. 5"),
    ]
    return paper_comparison(entries, caption="Means over seeds.")


def _lead(rows: Rows, config: Config) -> str:
    """Return the lead of the report: the main result in words."""
    if not all(only(rows, net=net) for net in ("resnet", "subset")):
        return ""
    full, subset = (mean_of(row["error"] for row in only(rows, net=net)) for net in ("resnet", "subset"))
    return (
        f"Trained with all {config.depth} modules, the network has a test error of {full:.1%}; trained with "
        f"{config.used} random modules in each batch, one of {subset:.1%}."
    )


STUDY = measured_study(
    name="veit2016.effective_paths",
    title="a network trained on short paths only (23 of 54 modules in a batch) is as good as one trained on all",
    source="Veit, Wilber & Belongie 2016, sec. 5",
    config=Config,
    scales=SCALES,
    measurements=measurements,
    claims=CLAIMS,
    page=page,
    open_net=dissected_net,
)
