"""Training of a trial in several processes: same results as in one, and clear errors."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thruway.diagnosing import CURES, Finding, prescribe
from thruway.diagnosing.prescribing import training, workers
from thruway.diagnosing.prescribing.groups import divided, group_runs
from thruway.diagnosing.prescribing.run import Group, Plan, Run
from thruway.diagnosing.prescribing.setup import Setup
from thruway.diagnosing.prescribing.training import train_runs
from thruway.diagnosing.prescribing.workers import in_processes, possible_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


def setup(seed, activation=nn.Tanh, optimizer=torch.optim.SGD):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 3)).double()
    return Setup(model, optimizer(model.parameters(), lr=0.1))


def runs():
    """Return runs of two architectures, and one that must be trained alone."""
    tanh = [Run("tanh", seed, setup(seed), setup(seed) if seed == 0 else None) for seed in range(5)]
    relu = [Run("relu", seed, setup(seed, nn.ReLU)) for seed in range(3)]
    return [*tanh, *relu, Run("alone", 0, setup(0, optimizer=torch.optim.Adadelta))]


def plan():
    made = torch.Generator().manual_seed(7)
    batches = [
        (torch.randn(9, 4, generator=made, dtype=torch.float64), torch.randint(3, (9,), generator=made))
        for _ in range(5)
    ]
    return Plan(batches, F.cross_entropy, 20, 2, (0, 10, 20), (0, 16))


def test_results_are_those_of_one_process():
    steps = []
    several, one = runs(), runs()
    train_runs(several, plan(), steps.append, processes=3)
    train_runs(one, plan(), lambda count: None, processes=1)
    assert sum(steps) == 9 * 20
    for ours, expected in zip(several, one, strict=True):
        np.testing.assert_allclose(ours.results.curve, expected.results.curve, rtol=1e-10)
        np.testing.assert_allclose(ours.results.losses, expected.results.losses, rtol=1e-10)
        assert [f.rule for f in ours.results.remaining] == [f.rule for f in expected.results.remaining]
        assert ours.results.note == expected.results.note
        assert len(set(ours.results.curve)) == 3  # it was trained


@pytest.mark.parametrize(("steps", "expected"), [(92, [1]), (93, [2])])  # 54 parameter tensors in all runs
def test_processes_are_used_for_large_trials_only(monkeypatch, steps, expected):
    used = []

    def divide(groups, processes):
        used.append(processes)
        return []

    monkeypatch.setattr(training, "divided", divide)
    monkeypatch.setattr(training, "_train_group", lambda *args: used.append(1))
    monkeypatch.setattr(training, "possible_processes", lambda models: 2)
    train_runs(runs(), replace(plan(), steps=steps), lambda count: None)
    assert list(dict.fromkeys(used)) == expected


def test_a_prescription_is_that_of_one_process(monkeypatch):
    monkeypatch.setattr(training, "_LEAST_WORK", 0)

    def build():
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        return model, torch.optim.SGD(model.parameters(), lr=1e-4)

    def trial(threads):
        former = torch.get_num_threads()
        torch.set_num_threads(threads)
        state = torch.get_rng_state()
        try:
            x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
            slow = Finding("lr_too_low", "", since=(None, 0), cures=(CURES["raise_lr"], CURES["relu"]))
            found = prescribe(
                build, [(x, (x[:, 0] > 0).long())], [slow], loss=F.cross_entropy, steps=100, seeds=3, progress=False
            )
        finally:
            torch.set_num_threads(former)
        assert torch.equal(torch.get_rng_state(), state)
        return found

    several, one = trial(2), trial(1)
    for ours, expected in zip(several.trials(), one.trials(), strict=True):
        assert (ours.cure, ours.arm, ours.note) == (expected.cure, expected.arm, expected.note)
        np.testing.assert_allclose(ours.gains, expected.gains, atol=1e-5)  # float32, and another order of sums


def test_tasks_are_shared_by_processes_in_order():
    def work(task, count):
        count(task)
        return task**2, os.getpid()

    steps = []
    results = in_processes(2, 5, work, steps.append)
    assert [square for square, _ in results] == [0, 1, 4, 9, 16]
    assert os.getpid() not in {process for _, process in results}
    assert sum(steps) == 10


def test_an_error_ends_all_processes():
    def work(task, count):
        if task == 1:
            raise ValueError("no such layer")
        time.sleep(60)

    started = time.monotonic()
    with pytest.raises(RuntimeError, match="no such layer"):
        in_processes(2, 2, work, lambda steps: None)
    assert multiprocessing.active_children() == []
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("error", [SystemExit(3), SystemExit(0), KeyboardInterrupt()])
def test_an_exit_is_an_error_that_says_where_it_was_called(error):
    def work(task, count):
        raise error

    with pytest.raises(RuntimeError, match=rf"(?s)raise error.*{type(error).__name__}"):
        in_processes(2, 2, work, lambda steps: None)
    assert multiprocessing.active_children() == []


def test_pipes_are_waited_for_once_per_round(monkeypatch):
    ready = []

    def wait_for(receivers):
        ready.append(wait(receivers))
        return ready[-1]

    monkeypatch.setattr(workers, "wait", wait_for)
    assert in_processes(2, 4, lambda task, count: task, lambda steps: None) == [0, 1, 2, 3]
    # Each process sends a number of steps and its end; each task, a result.
    assert sum(map(len, ready)) == 2 * 2 + 4


def test_a_killed_process_is_an_error_that_says_what_to_do():
    def work(task, count):
        if task == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    with pytest.raises(RuntimeError, match=r"exit code -9 .*set_num_threads\(1\)"):
        in_processes(2, 2, work, lambda steps: None)
    assert multiprocessing.active_children() == []


LONG_WORK = """
import os, time
from thruway.diagnosing.prescribing.workers import in_processes

def work(task, count):
    print(os.getpid(), flush=True)
    for _ in range(600):
        count(1)
        time.sleep(0.1)

in_processes(2, 2, work, lambda steps: None)
"""


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_end_when_their_parent_is_killed():
    with subprocess.Popen([sys.executable, "-c", LONG_WORK], stdout=subprocess.PIPE, text=True) as parent:
        children = [int(parent.stdout.readline()) for _ in range(2)]
        parent.kill()
        deadline = time.monotonic() + 10
        while (left := [child for child in children if is_running(child)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        for child in left:
            os.kill(child, signal.SIGKILL)
    assert left == []


def test_an_interrupt_ends_all_processes():
    def work(task, count):
        for _ in range(600):
            count(1)
            time.sleep(0.1)

    def interrupt(steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_processes(2, 2, work, interrupt)
    assert multiprocessing.active_children() == []


def test_processes_are_as_many_as_threads_or_one():
    former = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert possible_processes([nn.Linear(2, 2)]) == 2
        assert possible_processes([nn.Linear(2, 2), nn.Linear(2, 2, device="meta")]) == 1

        def work(task, count):  # in a daemonic process
            torch.set_num_threads(2)
            return possible_processes([nn.Linear(2, 2)])

        assert in_processes(1, 1, work, lambda steps: None) == [1]
    finally:
        torch.set_num_threads(former)


@pytest.mark.parametrize("processes", [2, 3, 4, 16])
def test_groups_are_divided_into_fair_shares(processes):
    groups = group_runs(runs())
    pieces = divided(groups, processes)
    assert sorted(id(run) for piece in pieces for run in piece.runs) == sorted(
        id(run) for group in groups for run in group.runs
    )
    assert all(len(piece.runs) >= 2 or piece.reason for piece in pieces)
    costs = [len(piece.runs) for piece in pieces if not piece.reason]
    assert max(costs) <= max(3, (5 + 1 + 3 + 1 + 2) / processes)  # two cannot be divided further, nor can three


def test_a_single_large_group_is_divided():
    group = Group([Run("tanh", seed, setup(0)) for seed in range(24)])
    assert [len(piece.runs) for piece in divided([group], 2)] == [12, 12]
