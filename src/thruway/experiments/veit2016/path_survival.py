"""Deleting modules destroys the long paths of a residual network and leaves many of the short ones that matter.

Paper     Veit, Wilber & Belongie 2016, sec. 5, fig. 7
Protocol  compute, for each path length, the share of the paths that remain when d modules are deleted at random, and
          the same share weighted by the contribution of the paths to the gradient of a trained network; measure the
          error of the network without d modules
Claims    a much larger share of the contribution remains than of the paths; the error increases as the contribution
          decreases
Measured  results/veit2016.path_survival-laptop
Cost      demo: 15 seconds on one core; laptop: about 20 minutes, 4 with networks of veit2016.lesion; paper: requires a
          GPU
Differs   data, size and training at demo and laptop scale; contributions and errors are ours, since the paper's figure
          shows neither; the report lists all differences
"""

import math
from functools import partial

from pydantic import Field
from torch import nn

from thruway.dissecting import shortest_range
from thruway.dissecting.ranking.rank_correlation import spearman
from thruway.experiments.machinery import (
    Claim,
    ImageParts,
    Measurement,
    Rows,
    StudyPage,
    mean_by,
    mean_of,
    measured_study,
    only,
)
from thruway.experiments.machinery.measuring import Row
from thruway.experiments.veit2016.deletions import (
    DAMAGE,
    DeletionConfig,
    damage,
    damage_by_k,
    delete_some,
    drawn_cost,
    several_deleted,
)
from thruway.experiments.veit2016.nets import ALWAYS_DIFFERENT, LAPTOP, PAPER, dissected_net, net_in_words, residual_net
from thruway.experiments.veit2016.paths import sampled_lengths
from thruway.figures import path_survival, run_curves
from thruway.report import Section, TableData
from thruway.runs import RunReader

__all__ = ["SCALES", "STUDY", "Config", "claims", "left_by_k", "measurements"]


class Config(DeletionConfig):
    """Settings that determine the results of a run."""

    probe: int = Field(default=64, ge=1)
    """Number of test examples, from the first one on, whose gradients are used to weight the paths."""
    paths: int = Field(default=20, ge=2)
    """Number of random paths of each length."""


SCALES: dict[str, Config] = {
    "demo": Config(),
    "laptop": Config(**LAPTOP, drawn_examples=1000),
    "paper": Config(**PAPER, deleted=tuple(range(1, 21)), draws=20, probe=128, paths=100),
}


def measurements(config: Config) -> list[Measurement]:
    """Return the measurements: the error without k random modules, and the shares of the remaining paths."""
    found = []
    for seed in config.all_seeds:
        net = residual_net(config, seed)
        found += [
            Measurement(
                "delete_k", net, partial(delete_some, config, seed), partial(drawn_cost, config, len(config.ks))
            ),
            Measurement("left", net, partial(_left, config, seed), partial(_path_cost, config)),
        ]
    return found


def _path_cost(config: Config, _parts: ImageParts) -> float:
    return config.probe * config.depth * config.paths / 3


def _left(config: Config, seed: int, model: nn.Module, parts: ImageParts) -> list[Row]:
    """Return the remaining shares of the paths of each length, of all paths, and of their contribution."""
    lengths, _ = sampled_lengths(model, parts, config.probe, config.paths, seed)
    d = dissected_net(model, parts)
    rows: list[Row] = [{**row, "what": "length"} for row in lengths]
    for k in config.ks:
        left = d.path_survival(k)
        rows.append(
            {
                "what": "left",
                "k": k,
                "left": list(left),
                "of_paths": sum(share * row["paths"] for share, row in zip(left, lengths, strict=True)),
                "of_contribution": sum(share * row["contribution"] for share, row in zip(left, lengths, strict=True)),
            }
        )
    return rows


# --- claims: thresholds were set before any run

_PAPER = "Veit, Wilber & Belongie 2016"


def left_by_k(rows: Rows, key: str) -> dict[int, float]:
    """Return the remaining share for each number of deleted modules; `key` is "of_paths" or "of_contribution"."""
    return {row["k"]: float(row[key]) for row in only(rows, what="left")}


def _advantage(rows: Rows, k: int) -> float:
    """Return the remaining share of the contribution, divided by the remaining share of the paths."""
    carried, paths = (left_by_k(rows, key).get(k, math.nan) for key in ("of_contribution", "of_paths"))
    return carried / paths


def _follows(rows: Rows) -> float:
    """Return the rank correlation of the damage and the remaining contribution."""
    left, damages = left_by_k(rows, "of_contribution"), damage_by_k(rows)
    ks = sorted(left.keys() & damages.keys())
    return spearman([left[k] for k in ks], [damages[k] for k in ks]) if len(ks) > 2 else math.nan


def claims(config: Config) -> tuple[Claim, ...]:
    """Return the claims, with the paper's numbers of modules scaled to this network."""
    ten = config.as_many_as(10)
    return (
        Claim(
            id="long-paths-die-first",
            text="Deleting modules destroys fewer of the paths that contribute most of the gradient.",
            source=f"{_PAPER}, sec. 5, fig. 7",
            statistic=f"remaining share of the contribution / remaining share of the paths, without {ten} of "
            f"{config.depth}",
            measure=lambda rows: _advantage(rows, ten),
            holds_if=">=",
            threshold=2.0,
        ),
        Claim(
            id="effective-paths-survive",
            text="Without 10 of 54 modules, much of the contribution of the paths remains.",
            source=f"{_PAPER}, sec. 5, fig. 7",
            statistic=f"remaining share of the contribution, without {ten} of {config.depth}",
            measure=lambda rows: left_by_k(rows, "of_contribution").get(ten, math.nan),
            holds_if=">=",
            threshold=0.1,
        ),
        Claim(
            id="error-follows-paths",
            text="The smaller the remaining contribution, the larger the error.",
            source="Ours; the paper shows figs. 5a and 7 without this comparison",
            statistic="rank correlation of the remaining share of the contribution and the mean damage, over the "
            "numbers of deleted modules",
            measure=_follows,
            holds_if="<=",
            threshold=-0.9,
        ),
    )


# --- the report

_DIFFERENT = (
    "the contribution of paths is the published estimate, computed as in `veit2016.paths`",
    "the paper's figure counts paths; their contribution and the error are ours",
)


def page(reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the page of the report."""
    table = left_table(rows)
    return StudyPage(
        title="Which paths remain after a deletion?",
        subtitle="Fig. 7 of Residual Networks Behave Like Ensembles of Relatively Shallow Networks, Veit, Wilber & "
        "Belongie 2016",
        lead=_lead(rows, config),
        sections=(*_figure_7(rows), *_remaining(rows, table), *several_deleted(rows)),
        table=table,
        facts={"nets": net_in_words(config)},
        differs=(*ALWAYS_DIFFERENT, *_DIFFERENT),
    )


def left_table(rows: Rows) -> TableData:
    """Return a table with one line per number of deletions, with means over seeds."""
    paths, carried = (mean_by(only(rows, what="left"), "k", key) for key in ("of_paths", "of_contribution"))
    errors, damages = mean_by(only(rows, what="delete_k"), "k", "error"), _damages(rows)
    lines = [(k, paths[k], carried[k], errors.get(k), damages.get(k)) for k in paths]
    columns = ("deleted", "paths left", "contribution left", "test error", "damage")
    return TableData(columns, tuple(lines), f"Shares, averaged over seeds and draws. {DAMAGE}")


def _damages(rows: Rows) -> dict[int, float]:
    return mean_by([{"k": row["k"], "damage": damage(row)} for row in only(rows, what="delete_k")], "k", "damage")


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
        "Each line: mean share of the paths of each length that remain. The longer a path, the more likely it "
        f"contains a deleted module: without {most} modules, {of_one[most][shortest]:.1%} of the paths of length "
        f"{shortest} remain, and {of_one[most][longest]:.1%} of those of length {longest}. Shaded: the smallest "
        "range of lengths that carries 95 % of the gradient."
    )
    return [Section("Remaining paths by length (fig. 7)", figure, reading)]


def _remaining(rows: Rows, table: TableData) -> list[Section]:
    paths, carried = (mean_by(only(rows, what="left"), "k", key) for key in ("of_paths", "of_contribution"))
    if not paths:
        return []
    skill = {k: 1 - each for k, each in _damages(rows).items()}
    curves = {"paths": paths, "contribution": carried} | ({"skill": skill} if skill else {})
    figure = run_curves(
        {name: ([0, *each], [1.0, *each.values()]) for name, each in curves.items()},
        x_name="deleted modules",
        y_name="remaining share",
    )
    reading = (
        "Each deleted module destroys half of the remaining paths, but a smaller share of the contribution. "
        "Skill: position of the error between that of guessing (0) and that of the intact network (1)."
    )
    return [Section("Remaining paths and contribution", figure, reading, table)]


def _lead(rows: Rows, config: Config) -> str:
    """Return the lead of the report: the main result in words."""
    ten = config.as_many_as(10)
    paths, carried = (mean_by(only(rows, what="left"), "k", key).get(ten) for key in ("of_paths", "of_contribution"))
    if paths is None or carried is None:
        return ""
    damages = _damages(rows)
    skill = f" The network retains {1 - damages[ten]:.0%} of its advantage over guessing." if ten in damages else ""
    mean = mean_of(row["contribution"] * row["length"] for row in only(rows, what="length"))
    lengths = len({row["length"] for row in only(rows, what="length")})
    return (
        f"Without {ten} of {config.depth} modules, {paths:.2%} of the paths and {carried:.0%} of their contribution "
        f"remain. Weighted by contribution, the mean path length is {mean * lengths:.1f} of {config.depth}.{skill}"
    )


STUDY = measured_study(
    name="veit2016.path_survival",
    title="deleting modules destroys the long paths and leaves many of the short ones that matter",
    source="Veit, Wilber & Belongie 2016, fig. 7",
    config=Config,
    scales=SCALES,
    measurements=measurements,
    claims=claims,
    page=page,
    open_net=dissected_net,
)
