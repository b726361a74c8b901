"""A whole search, from config to report; run twice; and single trials trained alone."""

import math

import numpy as np
import pytest
import torch
from depth_tiny import TINIER, TINY, complete, create, rows_of
from tiny_runs import as_json, strict

from thruway.data import batches
from thruway.errors import CheckpointError
from thruway.experiments.highway2015 import DEPTH
from thruway.experiments.highway2015.depth import cases, trial_of
from thruway.experiments.highway2015.depth_search import load_images, read_curves, read_rows
from thruway.networks import mlp, paired_width
from thruway.runs import open_run
from thruway.seeding import generator
from thruway.sweep import Choice
from thruway.train import exponential, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "tiny", TINY)


def test_every_trial_has_its_row(folder):
    rows = read_rows(open_run(folder), TINY)
    keys = [(row["block"], row["depth"], row["seed"], row["trial"]) for row in rows]
    assert len(keys) == len(set(keys)) == 3 * 2 * 2 * 2
    for row in rows:
        drawn = trial_of(TINY, (row["seed"] - TINY.seed) * TINY.trials + row["trial"])[2]
        assert (row["learning_rate"], row["activation"]) == (drawn["learning_rate"], drawn["activation"])
        assert row["gate_bias"] == (drawn["gate_bias"] if row["block"] == "highway" else None)
        assert row["width"] == paired_width(row["block"], TINY.highway_width)
        assert row["seconds"] > 0


def test_every_curve_has_all_its_epochs(folder):
    curves = read_curves(open_run(folder), TINY)
    assert set(curves) == {(case.block, case.depth, member) for case in cases(TINY) for member in case.members}
    assert all(np.isfinite(curve).all() and len(curve) == TINY.epochs for curve in curves.values())


def test_nets_learn_something(folder):
    """Guessing costs log 10; two epochs are enough for the best trial of each kind to beat it."""
    rows = read_rows(open_run(folder), TINY)
    for block in TINY.blocks:
        assert min(row["final_loss"] for row in rows if row["block"] == block) < 0.9 * math.log(10)


def test_the_report_is_the_rows(folder):
    table, verdicts = DEPTH.report(open_run(folder), folder)
    rows = read_rows(open_run(folder), TINY)
    summary = strict((folder / "summary.json").read_text())
    assert summary["rows"] == [{key: as_json(value) for key, value in row.items()} for row in rows]
    assert [claim["verdict"] for claim in summary["claims"]] == [verdict.verdict for verdict in verdicts]
    git = open_run(folder).meta["git"]
    assert summary["meta"]["commit"] == ("unknown" if git is None else f"commit {git['commit']}, dirty {git['dirty']}")
    differs = " ".join(summary["meta"]["differs from the paper"])
    for said in (
        "highway width: 8; at paper scale: 50",
        "depths: 2, 3; at paper scale: 10, 20, 50, 100",
        "data: digits",
    ):
        assert said in differs
    assert len(verdicts) == 5
    assert len(table.rows) == 6  # three blocks at two depths
    page = (folder / "report.html").read_text()
    for said in ("Srivastava", "digits", *(verdict.text for verdict in verdicts)):
        assert said in page


def test_the_report_can_be_written_before_anything_has_finished(tmp_path):
    with create(tmp_path / "run", TINY):
        pass
    _, verdicts = DEPTH.report(open_run(tmp_path / "run"), tmp_path / "run")
    summary = strict((tmp_path / "run" / "summary.json").read_text())
    assert summary["rows"] == summary["claims"] == []
    assert verdicts == ()
    assert "0 of 24 trials have finished" in (tmp_path / "run" / "report.html").read_text()


def test_the_same_seed_gives_the_same_bits(folder, tmp_path):
    assert rows_of(complete(tmp_path / "again", TINY), TINY) == rows_of(folder, TINY)


def test_another_search_of_the_same_run_is_another(folder):
    losses = [row["final_loss"] for row in read_rows(open_run(folder), TINY)]
    assert len(set(losses)) == len(losses)


@pytest.mark.parametrize("block", TINY.blocks)
def test_a_trial_trained_alone_goes_the_same_way(folder, block):
    """Unfused, with torch's own SGD and no other member: no number depends on the population."""
    depth, member = 3, 2  # the first trial of the second search
    seed, trial, drawn = trial_of(TINY, member)
    assert (seed, trial) == (TINY.seed + 1, 0)
    data = load_images(TINY).train
    net = mlp(
        block,
        depth,
        paired_width(block, TINY.highway_width),
        inputs=64,
        classes=10,
        activation=drawn["activation"],
        gate_bias=drawn["gate_bias"],
        generator=generator(seed, "weights", block, depth, trial),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=drawn["learning_rate"], momentum=drawn["momentum"])
    epochs = [[data.batch(i) for i in batches(len(data), TINY.batch, TINY.seed, epoch)] for epoch in range(TINY.epochs)]
    schedule = exponential(drawn["rate_left"] ** (1 / TINY.epochs))
    losses = torch.tensor([step.loss.item() for step in train(net, epochs, optimizer, schedule=schedule)])
    curve = read_curves(open_run(folder), TINY)[block, depth, member]
    # Eight float32 steps whose sums are ordered differently: 6e-8 each, amplified a little.
    np.testing.assert_allclose(curve, losses.double().view(TINY.epochs, -1).mean(dim=1), rtol=1e-5)
    final = torch.nn.functional.cross_entropy(net(data.images), data.labels).item()
    (row,) = [
        r
        for r in read_rows(open_run(folder), TINY)
        if (r["block"], r["depth"], r["seed"], r["trial"]) == (block, 3, seed, 0)
    ]
    assert math.isclose(row["final_loss"], final, rel_tol=1e-5)


def test_every_trained_network_can_be_opened(folder):
    reader = open_run(folder)
    nets = DEPTH.nets(reader)
    assert set(nets) == {f"{case.name}/{member}" for case in cases(TINY) for member in case.members}
    case = cases(TINY)[-1]
    dissection, test, has_shortcuts = nets[f"{case.name}/{case.members[0]}"].open(None, False)
    logged = reader.table(site=case.site, member=case.members[0], quantity="test_error")["value"][0]
    error = (dissection.model(test.images).argmax(dim=-1) != test.labels).double().mean().item()
    # Population and module differ by rounding, which may change one of the answers.
    assert error == pytest.approx(float(logged), abs=1.5 / len(test))
    assert (case.block, has_shortcuts) == ("residual", True)


def test_a_network_that_diverged_cannot_be_opened(tmp_path):
    rates = TINIER.learning_rate.model_copy(update={"low": 1e30, "high": 1e31})
    config = TINIER.model_copy(update={"learning_rate": rates, "activation": Choice(values=("relu",))})
    nets = DEPTH.nets(open_run(complete(tmp_path / "run", config)))
    with pytest.raises(CheckpointError, match="trial 1 of plain-2-relu diverged and left no trained network"):
        nets["plain-2-relu/1"].open(None, False)


def test_the_test_part_is_shifted_by_the_training_parts_numbers():
    parts = load_images(TINY)
    assert abs(parts.train.images.mean().item()) < 1e-5  # a float32 mean over 12,800 pixels
    assert abs(parts.train.images.std(correction=0).item() - 1) < 1e-5
    assert abs(parts.test.images.mean().item()) > 1e-4  # its own mean would make this 0
