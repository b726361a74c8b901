"""An interrupted and resumed search has the numbers of an uninterrupted one."""

from functools import partial

import pytest
from depth_tiny import TINIER, complete, create, rows_of
from tiny_runs import StopsAt, numbers, run_until_stopped

from thruway.experiments.highway2015 import DEPTH
from thruway.experiments.highway2015.depth import cases
from thruway.experiments.machinery import Silent
from thruway.experiments.machinery.resumable import run_resumable
from thruway.runs import Run, open_run
from thruway.train import Population


@pytest.fixture(scope="module")
def parts():
    return DEPTH.prepare(TINIER)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("runs") / "whole", TINIER)


def go(run, parts, progress):
    """Run or resume the search. Return False if it was interrupted."""
    return run_until_stopped(run, DEPTH.name, TINIER, progress, parts)


# Progress reports per case: one per epoch.
PER_CASE = TINIER.epochs


@pytest.mark.parametrize(
    "k",
    [1, 2, PER_CASE, PER_CASE + 1, PER_CASE + 2, PER_CASE * len(cases(TINIER))],
    ids=["before anything", "first epoch", "case trained", "next case", "inside next case", "very last report"],
)
def test_one_interruption_changes_nothing(k, parts, whole, tmp_path):
    folder = tmp_path / "run"
    assert not go(create(folder, TINIER), parts, StopsAt(k))
    assert open_run(folder).status == "interrupted"
    DEPTH.report(open_run(folder), folder)
    assert go(Run.resume(folder), parts, Silent())
    assert open_run(folder).status == "done"
    assert rows_of(folder, TINIER) == rows_of(whole, TINIER)
    assert numbers(folder) == numbers(whole)


def test_interrupted_after_every_epoch_it_still_arrives(parts, whole, tmp_path):
    """Each resumed run trains one more epoch."""
    folder, sittings = tmp_path / "run", 1
    done = go(create(folder, TINIER), parts, StopsAt(1))
    while not done:
        done = go(Run.resume(folder), parts, StopsAt(1))
        sittings += 1
        assert sittings < 50
    assert sittings > TINIER.epochs * len(cases(TINIER))
    assert numbers(folder) == numbers(whole)


@pytest.mark.parametrize("at", [2, 4, 9])
def test_an_interruption_inside_an_epoch_leaves_no_half_trained_state(at, parts, whole, tmp_path, monkeypatch):
    """The second Ctrl-C may come anywhere; weights of half an epoch must not count as those of a whole one."""
    steps, step = 0, Population.step

    def stopped(self, *batch):
        nonlocal steps
        steps += 1
        if steps == at:
            raise KeyboardInterrupt
        return step(self, *batch)

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Population, "step", stopped)
        assert not go(create(folder, TINIER), parts, Silent())
    assert go(Run.resume(folder), parts, Silent())
    assert numbers(folder) == numbers(whole)


def test_saves_between_interruptions_change_nothing(parts, whole, tmp_path, monkeypatch):
    """A run that is killed resumes from its last save, here after every epoch."""
    every_epoch = partial(run_resumable, every=-1.0)
    monkeypatch.setattr("thruway.experiments.highway2015.depth_search.run_resumable", every_epoch)
    steps, step = 0, Population.step

    def killed(self, *batch):
        nonlocal steps
        steps += 1
        if steps == 6:  # the second step of the third epoch
            raise RuntimeError("killed")
        return step(self, *batch)

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Population, "step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            go(create(folder, TINIER), parts, Silent())
    assert open_run(folder).status == "failed"
    run = Run.resume(folder)
    assert run.load(run.checkpoints()[0]).state["epoch"] == 2
    assert go(run, parts, Silent())
    assert numbers(folder) == numbers(whole)


def test_a_finished_run_can_be_run_again(parts, whole, tmp_path):
    folder = complete(tmp_path / "run", TINIER)
    assert go(Run.resume(folder), parts, Silent())
    assert numbers(folder) == numbers(whole)
