"""A whole study from config to report, interrupted and resumed, and compared with networks trained alone."""

import json
import math

import numpy as np
import pytest
import torch
from depth_tiny import StopsAt, as_json, strict
from glorot_errors_tiny import ERRORS, REPORTS, TINY, complete, create, final_row, numbers
from torch.nn import functional as F

from thruway.cli import main
from thruway.experiments.glorot2010 import errors_stages
from thruway.experiments.glorot2010.errors import PAIRS, choose, load_parts, search_nets
from thruway.experiments.glorot2010.errors_claims import choice_table, error_table
from thruway.experiments.glorot2010.errors_page import error_curves, final_curves
from thruway.experiments.glorot2010.errors_stages import new_net, stream
from thruway.experiments.glorot2010.errors_training import read_rivals, read_search, read_tested
from thruway.experiments.machinery import Silent
from thruway.experiments.methods import PlainNets, fit_rbf_svm
from thruway.init import scheme
from thruway.report import Cell
from thruway.runs import Run, open_run


@pytest.fixture(scope="module")
def parts():
    return load_parts(TINY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "tiny", TINY)


def go(run, parts, progress):
    """Run until the end or an interrupt; return whether it reached the end."""
    try:
        with run:
            ERRORS.run(TINY, parts, run, progress)
    except KeyboardInterrupt:
        return False
    return True


def test_nets_start_from_the_same_draws_scaled_by_their_scheme(parts):
    standard = new_net(TINY, parts, "tanh", 2, "final", 3)
    normalized = new_net(TINY, parts, "tanh-n", 2, "final", 3)
    for name, weight in standard.named_parameters():
        other = normalized.get_parameter(name)
        if weight.dim() == 1:
            assert not weight.any()
            assert not other.any()
            continue
        ratio = scheme("glorot_uniform").std(weight, 1) / scheme("standard").std(weight, 1)
        torch.testing.assert_close(other, ratio * weight)
        assert weight.abs().max() <= weight.shape[1] ** -0.5  # Eq. 1


def test_the_choice_has_the_lowest_validation_error(folder):
    reader = open_run(folder)
    search = read_search(reader, TINY)
    assert len(search) == len(search_nets(TINY)) == 3 * 2 * 2 + 2
    errors = {(row["pair"], row["depth"], row["learning_rate"]): row["valid_error"] for row in search}
    nets = search_nets(TINY)
    chosen = choose(nets, [errors[net.pair, net.depth, net.rate] for net in nets])
    finals = [row for row in read_tested(reader, TINY) if row["stage"] == "final"]
    for pair, choice in chosen.items():
        mine = {(r["depth"], r["learning_rate"], r["seed"]): r["is_chosen_depth"] for r in finals if r["pair"] == pair}
        expected = {
            (depth, rate, seed): depth == choice.depth
            for depth, rate in {choice.depth: choice.rate, 2: choice.deepest_rate}.items()
            for seed in (0, 1)
        }
        assert mine == expected


@pytest.mark.parametrize("pair", ["tanh", "tanh-n", "sigmoid"])
def test_a_network_trained_alone_by_torch_has_the_same_errors(folder, parts, pair):
    """On its seed's examples, batch by batch, without other members."""
    seed = 1
    (row,) = [
        r
        for r in read_tested(open_run(folder), TINY)
        if (r["stage"], r["pair"], r["depth"], r["seed"]) == ("final", pair, 2, seed)
    ]
    net = new_net(TINY, parts, pair, 2, "final", seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=row["learning_rate"])
    inputs, labels = parts.source.draw(stream("final", seed), 0, TINY.updates * TINY.batch)
    for batch, targets in zip(inputs.split(TINY.batch), labels.split(TINY.batch), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(net(batch), targets).backward()
        optimizer.step()
    for name, (x, y) in (("valid_error", parts.valid), ("test_error", parts.test)):
        alone = (net(x).argmax(dim=1) != y).double().mean().item()
        # Thirty float32 steps in another order of sums may tip one example on the border.
        assert abs(row[name] - alone) <= 1.5 / len(y)


def test_the_pretrained_net_starts_from_its_autoencoders(folder, parts):
    tensors = open_run(folder).load("pretraining").tensors
    fresh = PlainNets("tanh", [new_net(TINY, parts, "tanh-pretrained", 2, "final", 1)], [0.1])
    table = open_run(folder).table(site="pretraining/1", quantity="reconstruction_error", member=2)
    assert 0 < table["value"][-1] < 2  # of |x|^2; a decoder that only adds noise would be far above 1
    for layer in (0, 1):
        moved = (tensors[f"weight/{layer}"][2] - fresh.weights[layer][0]).abs().max().item()
        assert 1e-4 < moved < 1
    assert torch.equal(tensors["weight/2"][2], fresh.weights[2][0])  # no autoencoder has touched the top


def test_rivals_count_the_examples_they_disagree_on(folder):
    reader = open_run(folder)
    rivals, tested = read_rivals(reader), len(load_parts(TINY).test[1])
    errors = {
        (row["pair"], row["seed"]): row["test_error"]
        for row in read_tested(reader, TINY)
        if row["stage"] == "final" and row["depth"] == 2
    }
    assert len(rivals) == 4 * 3
    for (pair, other), counts in rivals.items():
        for seed, count in enumerate(counts):
            more = (errors[other, seed] - errors[pair, seed]) * tested
            assert count - rivals[other, pair][seed] == pytest.approx(more, abs=1e-6)
    assert any(count for counts in rivals.values() for count in counts)


def test_the_svm_is_compared_with_the_network_that_validation_chose(folder):
    reader = open_run(folder)
    fixed = [row for row in read_tested(reader, TINY) if row["stage"] == "fixed"]
    assert [row["seed"] for row in fixed] == [0, 1]
    table = reader.table(site="fixed/tanh-n/2", quantity="valid_error")
    columns = zip(table["member"], table["step"], table["value"], strict=True)
    by_seed = {}
    for member, step, value in columns:
        by_seed.setdefault(member // 2, []).append((value, member, step))
    for row in fixed:
        best = min(by_seed[row["seed"]])
        assert (row["valid_error"], row["updates"]) == (best[0], best[2])
    fits = reader.table(site="fixed/svm", quantity=["valid_error", "test_error"])
    by_fit = {}
    for member, quantity, value in zip(fits["member"], fits["quantity"], fits["value"], strict=True):
        by_fit.setdefault(member, {})[quantity] = value
    assert len(by_fit) == 2
    assert fixed[0]["svm_error"] == min(by_fit.values(), key=lambda fit: fit["valid_error"])["test_error"]


def test_the_report_agrees_with_the_rows(folder):
    table, verdicts = ERRORS.report(open_run(folder), folder)
    reader = open_run(folder)
    summary = strict((folder / "summary.json").read_text())
    rows = [*read_tested(reader, TINY), *read_search(reader, TINY)]
    assert summary["rows"] == [{key: as_json(value) for key, value in row.items()} for row in rows]
    assert [claim["verdict"] for claim in summary["claims"]] == [verdict.verdict for verdict in verdicts]
    assert [row[0] for row in table.rows] == [PAIRS[pair].title for pair in TINY.pairs]
    page = (folder / "report.html").read_text()
    for said in ("Glorot", "digits", "SVM, Gaussian kernel", *(verdict.text for verdict in verdicts)):
        assert said in page
    differs = " ".join(summary["meta"]["differs from the paper"])
    for sentence in (
        "data: digits; at paper scale: shapeset",
        "width: 6; at paper scale: 1,000",
        "grid of learning rates",
    ):
        assert sentence in differs


def test_the_report_can_be_written_before_anything_has_finished(tmp_path):
    with create(tmp_path / "run", TINY):
        pass
    table, verdicts = ERRORS.report(open_run(tmp_path / "run"), tmp_path / "run")
    assert (table.rows, verdicts) == ((), ())
    assert "No network has been trained to the end yet" in (tmp_path / "run" / "report.html").read_text()


def test_the_same_seed_gives_the_same_bits(folder, tmp_path):
    assert numbers(complete(tmp_path / "again", TINY)) == numbers(folder)


@pytest.mark.parametrize("k", [2, 3, 4, 6, 8, REPORTS])  # inside and at the end of stages
def test_one_interruption_changes_nothing(k, parts, folder, tmp_path):
    assert not go(create(tmp_path / "run", TINY), parts, StopsAt(k))
    assert open_run(tmp_path / "run").status == "interrupted"
    if k in (3, 6):
        ERRORS.report(open_run(tmp_path / "run"), tmp_path / "run")
    assert go(Run.resume(tmp_path / "run"), parts, Silent())
    assert numbers(tmp_path / "run") == numbers(folder)


def test_an_svm_is_fitted_once(parts, folder, tmp_path, monkeypatch):
    assert not go(create(tmp_path / "run", TINY), parts, StopsAt(REPORTS - 1))
    fitted = []
    monkeypatch.setattr(errors_stages, "fit_rbf_svm", lambda *given: fitted.append(given[-2:]) or fit_rbf_svm(*given))
    assert go(Run.resume(tmp_path / "run"), parts, Silent())
    assert fitted == [(10.0, 1.0)]  # the first of the two was done
    assert numbers(tmp_path / "run") == numbers(folder)


@pytest.mark.parametrize(
    ("k", "name", "state"),
    [
        (2, "pretraining", {"layer": 0, "update": 8}),
        (5, "pretraining", {"layer": 1, "update": 8}),
        (8, "search", {"update": 8}),
        (14, "final", {"update": 12}),
    ],
    ids=["layer 1", "layer 2", "search", "final"],
)
def test_an_interruption_costs_nothing(k, name, state, parts, tmp_path, monkeypatch):
    """What was done is kept, and inside a layer's training the decoder too."""
    monkeypatch.setattr("thruway.experiments.glorot2010.errors_stages._PIECE", 4)
    config = TINY.model_copy(
        update={"pairs": ("tanh-pretrained",), "depths": (2,), "fixed_examples": 0, "evaluations": 1}
    )
    parts = parts._replace(fixed=None)
    for place, progress in (("whole", Silent()), ("run", StopsAt(k))):
        try:
            with create(tmp_path / place, config) as run:
                ERRORS.run(config, parts, run, progress)
        except KeyboardInterrupt:
            assert place == "run"
    run = Run.resume(tmp_path / "run")
    assert {key: run.load(name).state[key] for key in state} == state
    with run:
        ERRORS.run(config, parts, run, Silent())
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")


@pytest.mark.parametrize("at", [3, 40, 111])
def test_a_kill_inside_a_piece_leaves_no_half_trained_state(at, parts, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("thruway.experiments.glorot2010.errors_training.SAVE_EVERY_S", -1.0)
    monkeypatch.setattr("thruway.experiments.glorot2010.errors_stages.SAVE_EVERY_S", -1.0)
    steps, step = 0, PlainNets.step

    def killed(self, *batch):
        nonlocal steps
        steps += 1
        if steps == at:
            raise RuntimeError("killed")
        step(self, *batch)

    with monkeypatch.context() as patched:
        patched.setattr(PlainNets, "step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            go(create(tmp_path / "run", TINY), parts, Silent())
    assert go(Run.resume(tmp_path / "run"), parts, Silent())
    assert numbers(tmp_path / "run") == numbers(folder)


def test_the_table_marks_the_best_and_pairs_that_do_not_differ_significantly():
    config = TINY.model_copy(update={"pairs": ("softsign", "tanh", "tanh-n", "tanh-pretrained"), "data": "mnist"})
    errors = {"softsign": 0.101, "tanh": 0.2, "tanh-n": 0.1, "tanh-pretrained": 0.05}
    rows = [final_row(pair, error, seed, depth=2) for pair, error in errors.items() for seed in (0, 1)]
    rivals = {("tanh-n", "softsign"): [30, 31], ("softsign", "tanh-n"): [29, 30]}
    rivals |= {("tanh-n", "tanh"): [120, 40], ("tanh", "tanh-n"): [20, 12]}
    lines = {row[0]: row for row in error_table(rows, rivals, config).rows}
    assert lines["Tanh N"][1:3] == (1.64, Cell(10.0, "best"))
    assert lines["Softsign"][2] == Cell(10.1, "best")
    assert lines["Tanh"][2] == 20.0
    assert lines["Tanh"][4] == pytest.approx(0.00013, rel=0.3)  # the worse of the two seeds, 40 against 12
    assert lines["Tanh, pre-trained"][2] == 5.0  # better, but not one of the five
    assert {row[0]: row[2] for row in choice_table(rows, config).rows}["Tanh"] == 2


def test_diverged_pairs_are_marked():
    rows = [final_row("tanh", math.nan, 0, depth=2), final_row("tanh-n", 0.1, 0, depth=2)]
    lines = {row[0]: row for row in error_table(rows, {}, TINY).rows}
    assert lines["Tanh"][2] == Cell(None, "diverged")
    assert lines["Tanh N"][2] == Cell(10.0, "best")


def test_curves_are_the_mean_and_the_range_of_the_seeds(folder):
    curves = final_curves(open_run(folder), TINY)
    assert list(curves) == list(TINY.pairs)
    updates, errors = curves["tanh-n"]
    assert updates.tolist() == [15, 30]
    lines = {trace.meta[0]: trace for trace in error_curves(curves, TINY.batch).data if trace.meta}
    np.testing.assert_allclose(lines["Tanh N"].y, 100 * errors.mean(axis=1), rtol=1e-6)
    assert lines["Tanh N"].x.tolist() == [150, 300]


def test_a_wrong_command_explains_the_error_and_leaves_no_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, said in (
        (["--data", "small-imagenet"], "never published"),
        (["--evaluations", "50", "--updates", "20"], "updates is at least evaluations (50), got 20"),
        (["--data", "mnist", "--data-root", "nowhere"], "MNIST"),
    ):
        assert main(["run", "glorot2010.errors", *arguments]) != 0
        assert said in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_the_summary_has_rows_of_every_stage(folder):
    ERRORS.report(open_run(folder), folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert {row["stage"] for row in summary["rows"]} == {"search", "final", "fixed"}
    assert all(0 <= row["test_error"] <= 1 for row in summary["rows"] if row["stage"] != "search")
