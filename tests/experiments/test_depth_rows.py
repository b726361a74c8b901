"""Rows and curves read from a run folder with numbers written by hand."""

import math

import numpy as np
import pytest
from depth_tiny import create

from thruway.experiments.highway2015.depth import Config
from thruway.experiments.highway2015.depth_page import best_curves
from thruway.experiments.highway2015.depth_search import read_curves, read_rows
from thruway.runs import open_run
from thruway.sweep import Choice

CONFIG = Config(
    blocks=("highway",), depths=(2,), seed=5, searches=2, trials=2, epochs=4, activation=Choice(values=("tanh",))
)
NAN = math.nan
LOSSES = [[2.0, 1.0, 0.2, 0.1], [2.0, NAN, NAN, NAN], [2.0, 0.1, 0.05, 0.3], [1.9, 1.8, 1.7, 1e30]]  # by member


@pytest.fixture
def reader(tmp_path):
    with create(tmp_path / "run", CONFIG) as run:
        run.log(0, {"chance_loss": 2.0}, site="data")
        for epoch, losses in enumerate(zip(*LOSSES, strict=True), start=1):
            run.log(epoch, {"train_loss": list(losses)}, site="highway/2", member=[0, 1, 2, 3])
        # The last member breaks in its very last update, which no step sees.
        run.log(
            4,
            {
                "final_loss": [0.08, NAN, 0.4, NAN],
                "test_error": [0.1, NAN, 0.2, 0.9],
                "diverged_at": [-1.0, 7.0, -1.0, -1.0],
                "seconds": [1.5] * 4,
            },
            site="highway/2",
            member=[0, 1, 2, 3],
        )
    return open_run(tmp_path / "run")


def test_rows_say_what_came_of_each_trial(reader):
    rows = read_rows(reader, CONFIG)
    assert [(row["seed"], row["trial"]) for row in rows] == [(5, 0), (5, 1), (6, 0), (6, 1)]
    assert [row["diverged"] for row in rows] == [False, True, False, True]
    assert [row["epochs_to_tenth"] for row in rows] == [3, math.inf, 2, math.inf]  # a tenth of 2.0 is reached at 0.2
    assert [row["best_loss"] for row in rows] == [0.1, 2.0, 0.05, 1.7]
    assert [row["final_loss"] for row in rows] == [
        0.08,
        pytest.approx(NAN, nan_ok=True),
        0.4,
        pytest.approx(NAN, nan_ok=True),
    ]
    assert {row["width"] for row in rows} == {50}
    for row in rows:
        assert -10 <= row["gate_bias"] <= -1
        # What is left after the four epochs is the share that was drawn.
        assert 0.01 * (1 - 1e-12) <= row["decay"] ** 4 <= 1


def test_curves_hold_every_epoch_of_every_member(reader):
    curves = read_curves(reader, CONFIG)
    assert set(curves) == {("highway", 2, member) for member in range(4)}
    for member, losses in enumerate(LOSSES):
        np.testing.assert_allclose(curves["highway", 2, member], losses, rtol=1e-6)  # kept as float32


def test_the_best_curve_is_that_of_the_lowest_final_loss_and_the_mean_of_the_next(reader):
    rows, curves = read_rows(reader, CONFIG), read_curves(reader, CONFIG)
    best, mean = best_curves(curves, rows, CONFIG, top=2)
    np.testing.assert_array_equal(best["highway", 2][0], [1, 2, 3, 4])
    np.testing.assert_allclose(best["highway", 2][1], LOSSES[0], rtol=1e-6)
    np.testing.assert_allclose(mean["highway", 2][1], [2.0, 0.55, 0.125, 0.2], rtol=1e-6)


def test_trials_that_have_not_finished_have_no_row(tmp_path):
    with create(tmp_path / "run", CONFIG) as run:
        run.log(1, {"train_loss": [2.0, 2.0, 2.0, 2.0]}, site="highway/2", member=[0, 1, 2, 3])
    reader = open_run(tmp_path / "run")
    assert read_rows(reader, CONFIG) == []
    np.testing.assert_array_equal(read_curves(reader, CONFIG)["highway", 2, 3], [2.0, NAN, NAN, NAN])
