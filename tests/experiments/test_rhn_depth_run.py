"""The recurrence depth study from config to report; interrupted and resumed."""

import html
import json
import math
from functools import partial

import pytest
import torch
from rhn_tiny import NAME, TINY, rows_of
from tiny_runs import StopsAt, complete, create, numbers, run_until_stopped

from thruway.errors import ConfigError
from thruway.experiments.machinery.resumable import run_resumable
from thruway.experiments.rhn2017 import DEPTH, depth_training
from thruway.experiments.rhn2017.depth_training import Net, bits_per_character, build, load_text, nets, windows
from thruway.runs import Run, open_run
from thruway.seeding import generator


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Run on one thread: tensors this small gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def progress():
    return StopsAt(10**6)


@pytest.fixture(scope="module")
def whole(progress, tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "whole", NAME, TINY, progress)


def test_every_net_has_its_numbers_and_its_row(whole, progress):
    logged = {(site, int(member), int(step)) for site, member, step, _ in numbers(whole)}
    assert logged == {(f"rhn/{d}", seed, epoch) for d in (1, 2) for seed in (0, 1) for epoch in (1, 2, 3)}
    rows = rows_of(whole)
    assert [(row["depth"], row["seed"]) for row in rows] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert progress.done == pytest.approx(progress.total, rel=1e-12)
    for row in rows:
        assert abs(row["parameters"] - TINY.parameters) < 0.05 * TINY.parameters
        # Better than a uniform distribution over the characters.
        assert row["train_bits"] < math.log2(len(load_text(TINY).alphabet))


def test_a_row_takes_the_test_bits_of_the_best_validation(tmp_path):
    """From numbers written by hand: one network overfits, one diverges, and one is not finished."""
    valid = {(1, 0): (2.5, 2.0, 2.25), (2, 0): (2.5, math.nan, math.nan), (1, 1): (2.5, 2.0)}
    with create(tmp_path / "run", NAME, TINY) as run:
        run.save("text", {}, state={"symbols": 40})
        for (depth, seed), bits in valid.items():
            for epoch, each in enumerate(bits, start=1):
                logged = {"train_bits": 4 - epoch, "valid_bits": each, "test_bits": each + 1, "seconds": epoch}
                run.log(epoch, logged, site=f"rhn/{depth}", member=seed)
    rows = rows_of(tmp_path / "run")
    found = [(row["depth"], row["best_epoch"], row["valid_bits"], row["test_bits"], row["train_bits"]) for row in rows]
    assert found == [(1, 2, 2.0, 3.0, 1.0), (2, 1, 2.5, 3.5, 1.0)]


def test_training_is_that_of_a_loop_written_out(whole):
    """Train the deeper network of the second seed."""
    text, coins, logged = load_text(TINY), torch.Generator(), numbers(whole)
    model = build(TINY, Net(2, 1), len(text.alphabet), coins)
    optimizer = torch.optim.Adam(model.parameters(), TINY.learning_rate)
    length = (len(text.train) - 1) // TINY.batch
    pieces = [text.train[i * length : (i + 1) * length + 1] for i in range(TINY.batch)]
    for epoch, rate in enumerate((0.01, 0.01, 0.006)):
        coins.set_state(generator(1, "coins", 2, epoch).get_state())
        optimizer.param_groups[0]["lr"] = rate
        model.train()
        state, nats, characters = None, 0.0, 0
        for start in range(0, length, TINY.window):
            rows = torch.stack([piece[start : min(start + TINY.window, length) + 1] for piece in pieces], dim=1)
            logits, state = model(rows[:-1], state)
            loss = torch.nn.functional.cross_entropy(logits.reshape(-1, len(text.alphabet)), rows[1:].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), TINY.clip)
            optimizer.step()
            state = state.detach()
            nats, characters = nats + loss.item() * rows[1:].numel(), characters + rows[1:].numel()
        found = {part: float(logged["rhn/2", "1", str(epoch + 1), f"{part}_bits"]) for part in ("train", "test")}
        # The same steps in the same order; the series keeps float32.
        assert found["train"] == pytest.approx(nats / characters / math.log(2), rel=1e-6)
        assert found["test"] == pytest.approx(bits_per_character(model, text.test, TINY.batch), rel=1e-6)


def test_bits_do_not_depend_on_the_evaluation_window(monkeypatch):
    text = load_text(TINY)
    model = build(TINY, Net(2, 0), len(text.alphabet), torch.Generator())
    whole = bits_per_character(model, text.valid, 3)
    monkeypatch.setattr(depth_training, "_EVALUATION_WINDOW", 7)
    assert bits_per_character(model, text.valid, 3) == pytest.approx(whole, rel=1e-6)  # float32 sums
    uniform = sum(parameter.zero_().sum() for parameter in model.requires_grad_(False).parameters())
    assert uniform == 0
    assert bits_per_character(model, text.valid, 3) == pytest.approx(math.log2(len(text.alphabet)), rel=1e-6)


def test_windows_cover_the_text_once_and_in_order():
    codes = torch.arange(100)
    found = list(windows(codes, pieces=7, window=5))
    inputs, targets = (torch.cat(part) for part in zip(*found, strict=True))
    assert torch.equal(inputs.T.reshape(-1), codes[:98])
    assert torch.equal(targets, inputs + 1)


@pytest.mark.parametrize("k", [1, 4, 3 * len(nets(TINY))], ids=["first epoch", "next network", "last epoch"])
def test_an_interruption_changes_nothing(k, whole, tmp_path):
    folder = tmp_path / "run"
    assert not run_until_stopped(create(folder, NAME, TINY), NAME, TINY, StopsAt(k))
    assert open_run(folder).status == "interrupted"
    DEPTH.report(open_run(folder), folder)
    assert run_until_stopped(Run.resume(folder), NAME, TINY)
    assert numbers(folder) == numbers(whole)


def test_an_interruption_inside_an_epoch_leaves_no_half_trained_state(whole, tmp_path, monkeypatch):
    """An interrupt may come anywhere in an epoch; the run resumes from the last whole epoch."""
    steps, step = 0, torch.optim.Adam.step

    def stopped(self, *arguments):
        nonlocal steps
        steps += 1
        if steps == 30:
            raise KeyboardInterrupt
        return step(self, *arguments)

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(depth_training, "run_resumable", partial(run_resumable, every=-1.0))
        patched.setattr(torch.optim.Adam, "step", stopped)
        assert not run_until_stopped(create(folder, NAME, TINY), NAME, TINY)
    assert steps == 30
    run = Run.resume(folder)
    assert run.load("rhn-1-0").state["epoch"] == 2  # twelve steps each
    assert run_until_stopped(run, NAME, TINY)
    assert numbers(folder) == numbers(whole)


def test_a_run_is_not_resumed_on_another_text(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert not run_until_stopped(create(folder, NAME, TINY), NAME, TINY, StopsAt(1))
    docs = depth_training.python_docs()
    monkeypatch.setattr(depth_training, "python_docs", lambda: docs.replace("e", "E", 1))
    with pytest.raises(ConfigError, match="was started on another text"):
        run_until_stopped(Run.resume(folder), NAME, TINY)


# --- the report


def test_the_report_is_the_rows(whole):
    table, verdicts = DEPTH.report(open_run(whole), whole)
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["rows"] == json.loads(json.dumps(rows_of(whole)).replace("NaN", "null"))
    assert [claim["verdict"] for claim in summary["claims"]] == [verdict.verdict for verdict in verdicts]
    assert [line[0] for line in table.rows] == [1, 2]
    rows = rows_of(whole)
    for line in table.rows:
        mean = sum(row["test_bits"] for row in rows if row["depth"] == line[0]) / 2
        assert line[table.columns.index("test")] == pytest.approx(mean, rel=1e-12)
    page = html.unescape((whole / "report.html").read_text())
    text = load_text(TINY)
    for said in (text.sha256, "2,000 characters", "Zilly", *(verdict.text for verdict in verdicts)):
        assert said in page
    differs = " ".join(summary["meta"]["differs from the paper"])
    assert "depths: 2, 1; at paper scale: 1, 2, 3" in differs
    assert "overfit" in differs


def test_the_report_can_be_written_before_anything_has_finished(tmp_path):
    with create(tmp_path / "run", NAME, TINY):
        pass
    _, verdicts = DEPTH.report(open_run(tmp_path / "run"), tmp_path / "run")
    assert verdicts == ()
    assert "0 of 4 networks have finished" in (tmp_path / "run" / "report.html").read_text()
