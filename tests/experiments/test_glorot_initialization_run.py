"""The whole study from config to report, run twice, and invalid configs."""

import html
import json
import math

import pytest
from glorot_initialization_tiny import INITIALIZATION, TINY, complete, create
from pydantic import ValidationError

from thruway.experiments.glorot2010.initialization import SCALES, Config
from thruway.experiments.glorot2010.initialization_start import read_histograms, read_start_rows
from thruway.experiments.glorot2010.initialization_training import read_training_rows
from thruway.runs import open_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "tiny", TINY)


def rows_of(folder):
    """The rows but for their cost in time; NaN as text, so that rows can be compared."""
    rows = read_start_rows(open_run(folder), TINY) + read_training_rows(open_run(folder), TINY)
    return [{k: "nan" if v != v else v for k, v in row.items() if k != "seconds"} for row in rows]


def test_every_layer_has_its_row(folder):
    rows = read_start_rows(open_run(folder), TINY)
    keys = {(r["seed"], r["shape"], r["scheme"], r["activation"], r["layer"]) for r in rows}
    assert len(rows) == len(keys) == 2 * 2 * 2 * 2 * 3
    for row in rows:
        assert row["width"] == TINY.widths(row["shape"])[row["layer"] - 1]
        assert math.isnan(row["singular_value"]) == (row["shape"] != "equal")
        # At the top the prediction is what was measured: the gradient's at once, that of eq. 6 less its factor.
        if row["layer"] == 3:
            assert row["gradient_predicted"] == row["gradient_variance"]
    trained = read_training_rows(open_run(folder), TINY)
    assert [(r["scheme"], r["layer"]) for r in trained] == [
        (s, i) for s in ("standard", "normalized") for i in (1, 2, 3)
    ]


def test_rows_are_the_squares_of_the_logged_numbers(folder):
    reader = open_run(folder)
    table = reader.table(steps=0)
    keys = zip(*(table[name].tolist() for name in ("member", "site", "quantity")), strict=True)
    logged = dict(zip(keys, table["value"].tolist(), strict=True))
    for row in read_start_rows(reader, TINY):
        site = f"start/{row['shape']}/{row['scheme']}/{row['activation']}"
        letter = "z" if row["activation"] == "tanh" else "s"
        for name, below, quantity in (
            ("activation_variance", f"{letter}{row['layer']}", "output.rms"),
            ("gradient_variance", f"s{row['layer']}", "gradient.rms"),
            ("weight_gradient_variance", f"s{row['layer']}.weight", "parameter_gradient.rms"),
        ):
            assert row[name] == logged[row["seed"], f"{site}/{below}", quantity] ** 2
        single = logged[row["seed"], f"{site}/s{row['layer']}.weight", "single_variance"]
        assert row["single_weight_gradient_variance"] == single
    images, _ = INITIALIZATION.prepare(TINY).test
    assert math.isclose(
        logged[0, "data", "mean_square"], images.double().square().mean().item(), rel_tol=1e-6
    )  # float32
    first = next(r for r in read_start_rows(reader, TINY) if (r["scheme"], r["layer"]) == ("standard", 1))
    # Eq. 5 with n Var[W] = 1/3: one layer above the input
    assert math.isclose(first["activation_predicted"], logged[0, "data", "mean_square"] / 3, rel_tol=1e-12)


def test_the_same_seed_gives_the_same_bits(folder, tmp_path):
    assert rows_of(complete(tmp_path / "again", TINY)) == rows_of(folder)


def test_the_report_agrees_with_the_rows(folder):
    table, verdicts = INITIALIZATION.report(open_run(folder), folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["rows"]) == 48 + 6
    assert [claim["verdict"] for claim in summary["claims"]] == [verdict.verdict for verdict in verdicts]
    assert len(verdicts) == 13
    assert len(table.rows) == 6
    differs = " ".join(summary["meta"]["differs from the paper"])
    for sentence in ("depth: 3; at paper scale: 5", "eq. 6 is tested in the form that eq. 2 implies", "data: digits"):
        assert sentence in differs
    page = html.unescape((folder / "report.html").read_text())
    for said in ("Glorot", "fig. 9", "eq. 17", *(verdict.text for verdict in verdicts)):
        assert said in page


def test_the_report_can_be_written_before_anything_has_finished(tmp_path):
    with create(tmp_path / "run", TINY):
        pass
    _, verdicts = INITIALIZATION.report(open_run(tmp_path / "run"), tmp_path / "run")
    assert verdicts == ()
    assert "No network has been measured yet" in (tmp_path / "run" / "report.html").read_text()
    assert read_histograms(open_run(tmp_path / "run"), TINY, "gradients") == {}


def test_training_may_be_left_out(tmp_path):
    config = TINY.model_copy(update={"trained_seeds": 0, "seeds": 1})
    folder = complete(tmp_path / "run", config)
    _, verdicts = INITIALIZATION.report(open_run(folder), folder)
    assert len(verdicts) == 10
    assert "fig. 9)" not in (folder / "report.html").read_text()


@pytest.mark.parametrize("name", ["demo", "laptop", "paper"])
def test_scales_have_their_names(name):
    assert SCALES[name].scale == name


def test_the_paper_scale_is_the_papers():
    paper = SCALES["paper"]
    assert (paper.depth, paper.width, paper.size, paper.probe, paper.batch) == (5, 1000, 32, 300, 10)


def test_widths_are_geometric_and_mirror_each_other():
    config = Config(width=100, taper=16.0)
    growing = config.widths("growing")
    assert growing == (25, 50, 100, 200, 400)
    assert config.widths("shrinking") == growing[::-1]
    assert config.widths("equal") == (100,) * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": ("growing",)}, "has 'equal', got growing"),
        ({"shapes": ("equal", "equal")}, "each kind once"),
        ({"trained_seeds": 4}, "some of the 3 seeds, got 4"),
        ({"updates": 20, "samples": 21}, "at 20 updates at most, got 21"),
    ],
)
def test_invalid_configs_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        Config(**change)


def test_shapeset_is_what_it_runs_on_by_default():
    parts = INITIALIZATION.prepare(Config(probe=12))
    assert parts.test[0].shape == (12, 16 * 16)
    assert parts.classes == 9
