"""The top settings of a search, from numbers written by hand and from a whole run; each claim held and failed."""

import html
import json
import math

import numpy as np
import pytest
import tiny_runs
from tiny_runs import as_json, strict

from thruway.experiments.highway2015 import CONVERGENCE
from thruway.experiments.highway2015.convergence import (
    CLAIMS,
    SCALES,
    epochs_to_tenth,
    lowest_mean,
    mean_curve,
    mean_over_epochs,
    read_top,
    top_of,
)
from thruway.experiments.highway2015.depth import Config
from thruway.experiments.highway2015.depth_search import read_rows
from thruway.experiments.machinery import judge
from thruway.runs import open_run
from thruway.sweep import Choice

NAN, INF = math.nan, math.inf
TINY = Config(
    blocks=("plain", "highway"),
    depths=(2, 3),
    searches=2,
    trials=3,
    epochs=2,
    examples=200,
    batch=50,
    highway_width=8,
)


def create(folder, config):
    return tiny_runs.create(folder, CONVERGENCE.name, config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_runs.complete(tmp_path_factory.mktemp("runs") / "convergence", CONVERGENCE.name, TINY)


@pytest.mark.parametrize(("trials", "top"), [(1, 1), (2, 2), (6, 2), (20, 2), (24, 2), (26, 3), (100, 10)])
def test_the_top_is_a_tenth_and_at_least_two(trials, top):
    assert top_of(Config(trials=trials)) == top


def test_the_top_of_each_search_are_its_lowest_final_losses(tmp_path):
    """Two searches of four trials; in the second one only one trial survives."""
    config = Config(
        blocks=("plain",), depths=(2,), seed=5, searches=2, trials=4, epochs=2, activation=Choice(values=("tanh",))
    )
    final = [0.5, 0.2, NAN, 0.3, NAN, NAN, 0.9, NAN]
    curves = [[2.0 + member, 1.0 + member] for member in range(8)]
    with create(tmp_path / "run", config) as run:
        run.log(0, {"chance_loss": 2.5}, site="data")
        for epoch in (1, 2):
            losses = [curve[epoch - 1] for curve in curves]
            run.log(epoch, {"train_loss": losses}, site="plain/2", member=list(range(8)))
        results = {"final_loss": final, "test_error": [0.5] * 8, "diverged_at": [-1.0] * 8, "seconds": [1.0] * 8}
        run.log(2, results, site="plain/2", member=list(range(8)))
    rows = read_top(open_run(tmp_path / "run"), config)
    kept = {(row["seed"], row["trial"]): row["losses"] for row in rows if row["losses"] is not None}
    assert kept == {(5, 1): [3.0, 2.0], (5, 3): [5.0, 4.0], (6, 2): [8.0, 7.0]}
    assert len(rows) == 8
    assert {row["chance_loss"] for row in rows} == {2.5}
    first = [row for row in rows if row["seed"] == 5]
    assert mean_curve(first, ("plain", 2)).tolist() == [4.0, 3.0]
    assert mean_curve(first, ("highway", 2)) is None


def test_a_run_has_the_rows_of_the_search_and_its_top(folder):
    reader = open_run(folder)
    rows = read_top(reader, TINY)
    added = ("losses", "chance_loss")
    bare = [{key: value for key, value in row.items() if key not in added} for row in rows]
    assert json.dumps(bare) == json.dumps(read_rows(reader, TINY))  # as text, where NaN equals NaN
    assert sum(row["losses"] is not None for row in rows) == 2 * 2 * 2 * 2
    for row in rows:
        same = [r["final_loss"] for r in rows if all(r[key] == row[key] for key in ("seed", "block", "depth"))]
        assert (row["losses"] is not None) == (row["final_loss"] in sorted(same)[:2])


def test_the_report_is_the_rows(folder):
    table, verdicts = CONVERGENCE.report(open_run(folder), folder)
    rows = read_top(open_run(folder), TINY)
    summary = strict((folder / "summary.json").read_text())
    assert summary["rows"] == [{key: as_json(value) for key, value in row.items()} for row in rows]
    assert [claim["verdict"] for claim in summary["claims"]] == [verdict.verdict for verdict in verdicts]
    assert [row[:2] for row in table.rows] == [(2, "plain"), (2, "highway"), (3, "plain"), (3, "highway")]
    losses = [row["losses"] for row in rows if (row["block"], row["depth"]) == ("highway", 3) and row["losses"]]
    # Both searches have a top of two: the mean of their means is the mean of all.
    assert table.rows[3][2] == pytest.approx(np.mean(losses), rel=1e-12)
    differs = " ".join(summary["meta"]["differs from the paper"])
    assert "data: digits; at paper scale: mnist" in differs
    assert "trials: 3; at paper scale: 100" in differs
    assert "searches" not in differs.replace("all searches", "")
    page = html.unescape((folder / "report.html").read_text())
    for said in (
        "Do highway networks converge faster",
        "losses of the best 2 of 3 settings, in nats",
        *(verdict.text for verdict in verdicts),
    ):
        assert said in page


def test_the_report_can_be_written_before_anything_has_finished(tmp_path):
    with create(tmp_path / "run", TINY):
        pass
    table, verdicts = CONVERGENCE.report(open_run(tmp_path / "run"), tmp_path / "run")
    assert (table.rows, verdicts) == ((), ())
    assert "0 of 24 settings have finished" in (tmp_path / "run" / "report.html").read_text()


def test_the_report_can_be_written_when_all_diverge(tmp_path):
    """At a rate of 1e30 every relu network diverges: there is no mean and no verdict."""
    rates = TINY.learning_rate.model_copy(update={"low": 1e30, "high": 1e31})
    config = TINY.model_copy(update={"learning_rate": rates, "activation": Choice(values=("relu",))})
    tiny_runs.complete(tmp_path / "run", CONVERGENCE.name, config)
    _, verdicts = CONVERGENCE.report(open_run(tmp_path / "run"), tmp_path / "run")
    assert {row["losses"] is None for row in read_top(open_run(tmp_path / "run"), config)} == {True}
    assert {verdict.verdict for verdict in verdicts} == {"unclear"}


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_compares_the_two_blocks(scale):
    assert SCALES[scale].blocks == ("plain", "highway")
    assert max(SCALES[scale].depths) >= 50
    assert SCALES[scale].searches >= (1 if scale == "demo" else 3)


# --- claims

BY_ID = {claim.id: claim for claim in CLAIMS}


def rows_of(curves):
    """From {(block, depth): [curve of a top trial, ...]}; an empty list means that all diverged."""
    rows = []
    for (block, depth), each in curves.items():
        trial = {"seed": 0, "block": block, "depth": depth, "chance_loss": 2.0}
        rows += [{**trial, "losses": curve} for curve in (*each, None)]
    return rows


# As in the paper: the loss of highway networks falls at once at any depth; that of the shallow plain network ends
# lower, that of the deep one far higher.
PAPER = {
    ("plain", 10): [[1.9, 0.5, 1e-4], [1.7, 0.5, 3e-4]],
    ("plain", 50): [[2.0, 1.0, 0.4]],
    ("highway", 10): [[0.4, 0.01, 2e-3], [0.2, 0.01, 6e-3]],
    ("highway", 20): [[0.2, 0.01, 5e-3]],
    ("highway", 50): [[0.3, 0.01, 2e-3], [0.3, 0.03, 4e-3]],
}
OTHERWISE = {
    **PAPER,
    ("highway", 10): [[1.9, 1.0, 1e-3]],
    ("highway", 50): [[2.0, 0.9, 0.3]],
}


@pytest.mark.parametrize(
    ("claim", "curves", "value", "verdict"),
    [
        ("highway-is-faster-everywhere", PAPER, (0.3 + 0.01 + 4e-3) / (1.8 + 0.5 + 2e-4), "holds"),
        ("highway-is-faster-everywhere", OTHERWISE, 2.901 / 2.3002, "fails"),  # at 10 layers; at 50 it is faster
        ("highway-is-faster-everywhere", {**PAPER, ("plain", 50): []}, 0.314 / 2.3002, "holds"),
        ("highway-is-faster-everywhere", {**PAPER, ("highway", 50): []}, INF, "fails"),
        ("highway-is-faster-everywhere", {**PAPER, ("plain", 50): [], ("highway", 50): []}, NAN, "unclear"),
        ("highway-ends-lower", PAPER, 3e-3 / 0.4, "holds"),
        ("highway-ends-lower", OTHERWISE, 0.3 / 0.4, "fails"),
        ("highway-ends-lower", {**PAPER, ("plain", 50): []}, 0.0, "holds"),
        ("deep-highway-like-shallow", PAPER, 3e-3 / 4e-3, "holds"),
        ("deep-highway-like-shallow", OTHERWISE, 0.3 / 1e-3, "fails"),
    ],
    ids=["faster", "slower", "plain lost", "highway lost", "both lost", "lower", "not lower", "lower than lost",
         "like shallow", "worse"],
)  # fmt: skip
def test_claims(claim, curves, value, verdict):
    judged = judge(BY_ID[claim], rows_of(curves))
    assert judged.value == pytest.approx([value], rel=1e-9, nan_ok=True)
    assert judged.verdict == verdict


def test_every_claim_is_tested_above():
    assert set(BY_ID) == {"highway-is-faster-everywhere", "highway-ends-lower", "deep-highway-like-shallow"}


@pytest.mark.parametrize("claim", CLAIMS, ids=list(BY_ID))
def test_missing_rows_are_no_answer(claim):
    assert math.isnan(claim.measure([]))
    assert math.isnan(claim.measure(rows_of({("plain", 10): [[1.0]]})))


def test_losses_below_the_paper_s_floor_are_equal():
    assert lowest_mean(rows_of({("plain", 10): [[1.0, 1e-9]]}), "plain", 10) == 1e-5
    assert lowest_mean(rows_of({("plain", 10): [[1.0, 2e-5]]}), "plain", 10) == 2e-5


def test_the_mean_curve_decides_and_not_the_best():
    rows = rows_of({("highway", 10): [[1.0, 0.1, 0.1], [1.0, 0.5, 0.3]]})
    assert epochs_to_tenth(rows, "highway", 10) == 3  # a tenth of 2 nats: 0.3, then 0.2
    assert mean_over_epochs(rows, "highway", 10) == pytest.approx(1.5 / 3, rel=1e-12)
    assert epochs_to_tenth(rows_of({("highway", 10): [[1.0, 0.3]]}), "highway", 10) == INF
    assert epochs_to_tenth(rows, "plain", 10) == INF
