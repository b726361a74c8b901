"""Stochastic depth makes a residual network only a little more robust to the loss of modules.

Paper     Veit, Wilber & Belongie 2016, fig. 8; Huang, Sun, Liu, Sedra & Weinberger 2016 for the training
Protocol  train two residual networks with the same initial weights, on the same examples in the same order: one as
          usual, one with stochastic depth (p_L = 0.5, linear rule); measure the error of both without k random modules
Claims    the network trained with stochastic depth is more robust, but only slightly
Measured  results/veit2016.stochastic_depth-laptop
Cost      demo: half a minute on one core; laptop: about 33 minutes, 17 with networks of veit2016.lesion; paper:
          requires a GPU
Differs   data, size and training at demo and laptop scale; the contents of fig. 8 are known only from descriptions by
          others; the report lists all differences
"""

import math
from functools import partial
from statistics import median

from pydantic import Field

from thruway.experiments.machinery import (
    Claim,
    Measurement,
    Rows,
    StudyPage,
    mean_by,
    mean_of,
    measured_study,
    only,
    over_seeds,
)
from thruway.experiments.machinery.curves import loss_curves
from thruway.experiments.veit2016.deletions import (
    DAMAGE,
    DeletionConfig,
    damage,
    damage_by_k,
    delete_one,
    delete_some,
    drawn_cost,
    single_cost,
)
from thruway.experiments.veit2016.nets import (
    ALWAYS_DIFFERENT,
    LAPTOP,
    NAMES,
    PAPER,
    boundaries,
    dissected_net,
    net_in_words,
    residual_net,
    stochastic_net,
)
from thruway.figures import deletion_comparison, run_curves
from thruway.report import Section, TableData
from thruway.runs import RunReader

__all__ = ["CLAIMS", "SCALES", "STUDY", "Config", "advantage", "measurements"]


class Config(DeletionConfig):
    """Settings that determine the results of a run."""

    survival: float = Field(default=0.5, gt=0, lt=1)
    """Probability that the last module is kept in a batch; it decreases linearly from 1 over the modules."""


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(**LAPTOP, draws=5, drawn_examples=1000),
    "paper": Config(**PAPER, deleted=tuple(range(1, 21)), draws=20),
}


def measurements(config: Config) -> list[Measurement]:
    """Return the measurements on both networks: single deletions and random deletions."""
    found = []
    for seed in config.all_seeds:
        for net in (residual_net(config, seed), stochastic_net(config, seed, config.survival)):
            found += [
                Measurement("delete_one", net, delete_one, partial(single_cost, config.depth)),
                # The same modules are deleted from both networks.
                Measurement(
                    "delete_k", net, partial(delete_some, config, seed), partial(drawn_cost, config, len(config.ks))
                ),
            ]
    return found


# --- claims: thresholds were set before any run

_SOURCE = "Veit, Wilber & Belongie 2016, fig. 8"


def advantage(rows: Rows) -> float:
    """Return the mean damage over all numbers of deleted modules, with minus without stochastic depth."""
    usual, stochastic = damage_by_k(rows, "resnet"), damage_by_k(rows, "stochastic")
    ks = sorted(usual.keys() & stochastic.keys() - {0})
    return mean_of(stochastic[k] - usual[k] for k in ks) if ks else math.nan


_STATISTIC = "mean damage over all numbers of deleted modules, with minus without stochastic depth"

CLAIMS = (
    Claim(
        id="stochastic-depth-is-more-robust",
        text="A network trained with stochastic depth is damaged less by the deletion of modules.",
        source=_SOURCE,
        statistic=_STATISTIC,
        measure=advantage,
        holds_if="<=",
        threshold=0.0,
    ),
    Claim(
        id="only-slightly",
        text="The difference due to stochastic depth is small.",
        source=_SOURCE,
        statistic=_STATISTIC,
        measure=advantage,
        holds_if=">=",
        threshold=-0.2,
    ),
)


# --- the report

_NETS = ("resnet", "stochastic")
_LABELS = {"resnet": "usual training", "stochastic": "stochastic depth"}
_DIFFERENT = (
    "the contents of fig. 8 are known only from descriptions by others; we take 'slightly' to mean a "
    "difference in damage of less than 0.2",
    "both networks of a seed start from the same weights, see the same examples in the same order, and lose the same "
    "modules",
    "at test time each module of the network trained with stochastic depth is weighted by its probability, as in Huang "
    "et al.",
)


def page(reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the page of the report."""
    table = damage_table(rows)
    sections = [
        *_several(rows, table),
        *_single(rows, config),
        *loss_curves(reader, {net: NAMES[net] for net in _NETS}),
    ]
    return StudyPage(
        title="Does stochastic depth make a network robust to the loss of modules?",
        subtitle="Fig. 8 of Residual Networks Behave Like Ensembles of Relatively Shallow Networks, Veit, Wilber & "
        "Belongie 2016",
        lead=_lead(rows, config),
        sections=tuple(sections),
        table=table,
        facts={"nets": f"{net_in_words(config)}; the same network with stochastic depth, p_L = {config.survival:g}"},
        differs=(*ALWAYS_DIFFERENT, *_DIFFERENT),
    )


def damage_table(rows: Rows) -> TableData:
    """Return a table with one line per number of deletions: error and damage of both networks."""
    errors = {net: mean_by(only(rows, net=net, what="delete_k"), "k", "error") for net in _NETS}
    damages = {net: _damages(rows, net) for net in _NETS}
    intact = {net: mean_of(row["intact"] for row in only(rows, net=net, what="delete_k")) for net in _NETS}
    ks = sorted(set().union(*damages.values()))
    lines: list[tuple[float | int | None, ...]] = []
    if ks:
        lines.append((0, intact["resnet"], intact["stochastic"], 0.0, 0.0))
    lines += [(k, *(each[net].get(k) for each in (errors, damages) for net in _NETS)) for k in ks]
    columns = ("deleted", "error, usual", "error, stochastic depth", "damage, usual", "damage, stochastic depth")
    return TableData(columns, tuple(lines), f"Means over seeds and draws; errors are shares. {DAMAGE}")


def _damages(rows: Rows, net: str) -> dict[int, float]:
    drawn = only(rows, net=net, what="delete_k")
    return mean_by([{"k": row["k"], "damage": damage(row)} for row in drawn], "k", "damage")


def _several(rows: Rows, table: TableData) -> list[Section]:
    drawn = only(rows, what="delete_k")
    if not drawn:
        return []
    curves, bands = {}, {}
    for net in _NETS:
        mine = [{**row, "damage": damage(row)} for row in only(drawn, net=net)]
        found = over_seeds([{"k": row["k"], "damage": row["damage"]} for row in mine], "k", "damage")
        if found:
            curves[_LABELS[net]] = (list(found), [mean for mean, _, _ in found.values()])
            bands[_LABELS[net]] = (
                list(found),
                [low for _, low, _ in found.values()],
                [high for _, _, high in found.values()],
            )
    figure = run_curves(curves, bands=bands, x_name="deleted modules", y_name="damage (0 none, 1 as bad as guessing)")
    damages = {net: _damages(rows, net) for net in _NETS}
    shared = [k for k in damages["resnet"] if k in damages["stochastic"]]
    fewer = sum(damages["stochastic"][k] < damages["resnet"][k] for k in shared)
    reading = (
        "Random modules are deleted together: mean and range over draws and seeds. Lower is more robust. The "
        f"network trained with stochastic depth is lower for {fewer} of {len(shared)} numbers of modules."
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
    reading = f"The test error without each module in turn, averaged over seeds. The median increase is {rises}."
    return [Section("One module deleted", figure, reading)]


def _lead(rows: Rows, config: Config) -> str:
    """Return the lead of the report: the main result in words."""
    ten = config.as_many_as(10)
    damages = {net: _damages(rows, net).get(ten) for net in _NETS}
    intact = {net: mean_of(row["intact"] for row in only(rows, net=net, what="delete_k")) for net in _NETS}
    sentences = [
        f"{_LABELS[net].capitalize()}: test error {intact[net]:.1%}; without {ten} of {config.depth} modules, "
        f"{damages[net]:.0%} of its advantage over guessing is lost."
        for net in _NETS
        if damages[net] is not None
    ]
    return " ".join(sentences)


STUDY = measured_study(
    name="veit2016.stochastic_depth",
    title="stochastic depth makes a network only a little more robust to the loss of modules",
    source="Veit, Wilber & Belongie 2016, fig. 8",
    config=Config,
    scales=SCALES,
    measurements=measurements,
    claims=CLAIMS,
    page=page,
    open_net=dissected_net,
)
