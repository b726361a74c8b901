"""The whole study, its claims on rows made up by hand, and interrupted runs."""

import html
import json
import math

import pytest
from depth_tiny import StopsAt
from pydantic import ValidationError

from thruway.experiments import STUDIES
from thruway.experiments.glorot2010.cost_surface import (
    SCALES,
    Config,
    axis_of,
    draw_net,
    flat_share,
    guessing_cost,
    stuck_share,
    surfaces,
)
from thruway.experiments.glorot2010.cost_surface_page import claims, read_rows, read_surfaces
from thruway.experiments.machinery import Silent, judge
from thruway.runs import Run, open_run
from thruway.seeding import generator

COST_SURFACE = STUDIES["glorot2010.cost_surface"]
TINY = Config(examples=5, reaches=(2.0, 8.0), fractions=(0.1, 0.2), points=9, seeds=2, draws=3)


def create(folder, config):
    return Run.create(
        folder,
        config.model_dump(mode="json"),
        name=COST_SURFACE.name,
        command=["test"],
        seeds={"seed": config.seed},
        device="cpu",
    )


def complete(folder, config):
    with create(folder, config) as run:
        COST_SURFACE.run(config, COST_SURFACE.prepare(config), run, Silent())
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "tiny", TINY)


def test_every_draw_has_its_rows_with_its_own_numbers(folder):
    rows = read_rows(open_run(folder), TINY)
    assert len(rows) == 2 * 3 * 2 * 2
    for row in rows:
        net = draw_net(TINY, generator(row["seed"], "net", row["draw"]))
        surface = surfaces(net, axis_of(TINY, row["reach"]))[row["cost"]]
        guessing = guessing_cost(row["cost"], TINY.classes)
        for fraction in TINY.fractions:
            # Logged as float32
            assert row["flat"][f"{fraction:g}"] == pytest.approx(flat_share(surface, fraction), rel=1e-6)
            assert row["stuck"][f"{fraction:g}"] == pytest.approx(stuck_share(surface, fraction, guessing), rel=1e-6)
    assert len({str(row["flat"]) for row in rows}) > 12  # draws differ


def test_weights_go_from_minus_reach_to_reach():
    assert axis_of(TINY, 2.0).tolist() == [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]


def test_the_surfaces_that_are_drawn_are_those_of_the_first_draw(folder):
    made = surfaces(draw_net(TINY, generator(TINY.seed, "net", 0)), axis_of(TINY, TINY.reach))
    found = read_surfaces(open_run(folder), TINY)
    assert {name: t.tolist() for name, t in found.items()} == {name: each.cost.tolist() for name, each in made.items()}


@pytest.mark.parametrize("k", [1, 3, 4, 6])
def test_interrupted_and_resumed_run_is_the_same(k, folder, tmp_path):
    with pytest.raises(KeyboardInterrupt), create(tmp_path / "run", TINY) as run:
        COST_SURFACE.run(TINY, None, run, StopsAt(k))
    rest = StopsAt(100)
    with Run.resume(tmp_path / "run") as run:
        COST_SURFACE.run(TINY, None, run, rest)
    assert 100 - rest.left == 6 - k // 3 * 3  # whole sets are not measured again
    reader = open_run(tmp_path / "run")
    assert read_rows(reader, TINY) == read_rows(open_run(folder), TINY)
    assert read_surfaces(reader, TINY).keys() == {"cross-entropy", "quadratic"}


def test_the_report_agrees_with_the_rows(folder):
    table, verdicts = COST_SURFACE.report(open_run(folder), folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["rows"] == read_rows(open_run(folder), TINY)
    assert [claim["verdict"] for claim in summary["claims"]] == [verdict.verdict for verdict in verdicts]
    assert [row[:2] for row in table.rows] == [(2.0, 0.1), (2.0, 0.2), (8.0, 0.1), (8.0, 0.2)]
    page = html.unescape((folder / "report.html").read_text())
    for said in ("Glorot", "fig. 5", "9 x 9 points", *(verdict.text for verdict in verdicts)):
        assert said in page


def test_the_report_can_be_written_before_anything_has_finished(tmp_path):
    with create(tmp_path / "run", TINY):
        pass
    table, verdicts = COST_SURFACE.report(open_run(tmp_path / "run"), tmp_path / "run")
    assert (table.rows, verdicts) == ((), ())
    assert "No network has been drawn yet" in (tmp_path / "run" / "report.html").read_text()


def rows_with(quadratic, entropy, kind="flat"):
    """One seed; a share per draw, at the square and the fraction of the claims; others say the opposite."""
    rows = []
    for cost, values, others in (("quadratic", quadratic, entropy), ("cross-entropy", entropy, quadratic)):
        for reach, mine in ((8.0, values), (2.0, others)):
            for draw, (share, other) in enumerate(zip(mine, others, strict=True)):
                each = {"0.1": share, "0.2": other}
                shares = {"flat": {"0.1": 0.5, "0.2": 0.5}, "stuck": {"0.1": 0.5, "0.2": 0.5}, kind: each}
                rows.append({"seed": 0, "draw": draw, "reach": reach, "cost": cost, **shares})
    return rows


CLAIMS = {claim.id: claim for claim in claims(TINY)}


@pytest.mark.parametrize(
    ("claim", "kind", "quadratic", "entropy", "value", "verdict"),
    [
        ("quadratic-flatter", "flat", [0.75, 0.25], [0.125, 0.375], 2.0, "holds"),
        ("quadratic-flatter", "flat", [0.2, 0.4], [0.6, 0.3], 2 / 3, "fails"),
        ("quadratic-flatter", "flat", [0.2, 0.4], [0.0, 0.0], math.inf, "holds"),
        ("quadratic-flatter-in-most-draws", "flat", [0.5, 0.5, 0.5, 0.5, 0.1], [0.1] * 5, 0.8, "holds"),
        ("quadratic-flatter-in-most-draws", "flat", [0.9, 0.1], [0.1, 0.1], 0.5, "fails"),
        ("quadratic-stuck", "stuck", [0.3, 0.2], [0.1, 0.1], 0.15, "holds"),
        ("quadratic-stuck", "stuck", [0.1, 0.1], [0.3, 0.2], -0.15, "fails"),
    ],
)
def test_claims(claim, kind, quadratic, entropy, value, verdict):
    judged = judge(CLAIMS[claim], rows_with(quadratic, entropy, kind))
    assert judged.value == pytest.approx([value], rel=1e-12)
    assert judged.verdict == verdict


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_without_rows_the_statistic_is_nan(claim):
    assert math.isnan(claim.measure([]))


@pytest.mark.parametrize("name", ["demo", "laptop", "paper"])
def test_scales_have_their_names(name):
    assert SCALES[name].scale == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reach": 3.0}, r"reach is one of reaches, \(2.0, 4.0, 8.0, 16.0\), got 3.0"),
        ({"fraction": 0.5}, "fraction is one of fractions"),
        ({"reaches": (8.0, 8.0)}, "different numbers above 0"),
        ({"reaches": (8.0, -1.0)}, "different numbers above 0"),
        ({"fractions": (0.1, 1.5)}, "shares below 1"),
    ],
)
def test_invalid_configs_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        Config(**change)
