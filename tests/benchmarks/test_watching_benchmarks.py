"""What the tables of the watching benchmarks rest on: groups, shares, alarms."""

import importlib.util
import mmap
from unittest import mock

import pytest
import torch
from torch import nn

from benchmarks import watching, watching_memory, watching_rivals
from benchmarks.watching_nets import Case
from thruway.watching import watch
from thruway.watching.quantities.collector import Collector

TINY = Case(
    "tiny",
    lambda: nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 10)),
    lambda: (torch.ones(5, 3).cumsum(0), torch.arange(5)),
    bar=2.0,
)


def test_every_group_of_ten_steps_holds_one_sampled_step():
    seconds = [1.0 + (step % 10 == 3) for step in range(37)]
    assert watching.in_groups(seconds, 10) == [11.0, 11.0, 11.0]
    assert watching.in_groups(seconds, 1) == seconds


def test_twins_begin_alike_and_train_alike():
    a, b = TINY.twins(2)
    for twin in (a, b):
        twin.step()
    assert watching.differing(watching.state(a), watching.state(b)) == 0
    b.step()
    # five parameters with their gradients and momenta, running mean and variance, and the count of batches
    assert watching.differing(watching.state(a), watching.state(b)) == len(watching.state(a)) == 3 * 5 + 3


def test_a_changed_bit_is_seen_where_the_values_compare_equal():
    nan, zero = torch.tensor([torch.nan, 1.0]), torch.tensor(0.0)
    assert watching.differing([nan, zero], [nan.clone(), -zero]) == 1
    assert watching.differing([nan], [nan.clone()]) == 0
    assert watching.differing([zero], [zero.double()]) == 1
    assert watching.differing([torch.zeros(2, 3)], [torch.zeros(2, 3).T]) == 0


def test_a_watch_that_failed_or_missed_steps_gives_no_ratio():
    (twin,) = TINY.twins(1)
    with watch(twin.net, every=2) as trace:
        for _ in range(6):
            twin.step()
    watching.check_alive(trace, 3)
    with pytest.raises(RuntimeError, match="4 steps should have been sampled, the trace has 3"):
        watching.check_alive(trace, 4)
    trace.failure = ValueError("no")
    with pytest.raises(RuntimeError, match="has failed"):
        watching.check_alive(trace, 3)


def test_reading_a_number_counts_as_a_wait():
    x = torch.ones(2)
    with watching.host_reads() as calls:
        x.cpu(), x.tolist(), x[0].item(), float(x[0]), bool(x[0])
    assert calls[:2] == ["cpu", "tolist"]
    assert len(calls) >= 5  # some of them call each other
    with watching.host_reads() as none:
        x.add(1).sum()
    assert none == []
    x.tolist()
    assert none == []


def test_one_wait_per_sampled_step_and_the_alarm_works():
    assert watching.waits_per_step(TINY, "cpu", steps=3) == 1
    finish = Collector.finish

    def wasteful(self):
        torch.zeros(()).item()
        return finish(self)

    with mock.patch.object(Collector, "finish", wasteful):
        assert watching.waits_per_step(TINY, "cpu", steps=3) == 2


def test_share_is_of_what_is_added_to_the_bare_step():
    assert watching_rivals.share(1.25, 3.5) == pytest.approx(0.1, rel=1e-12)
    assert watching_rivals.share(1.25, 1.0) == float("inf")  # nothing added: no share of it is small enough
    assert watching_rivals.share(1.25, 0.9) == float("inf")


def test_a_row_compares_sampling_periods_not_single_steps():
    def seconds(sampled: float) -> list[float]:
        return [sampled if step % 10 == 9 else 1.0 for step in range(40)]

    found = {"bare": seconds(1.0), watching_rivals.PLAIN: seconds(2.0), watching_rivals.FULL: seconds(4.0)}
    rival = watching_rivals.RIVALS["wandb"]
    cells = watching_rivals.row(rival, "mlp", 10, found | {rival.name: seconds(11.0)}).split(" | ")
    assert cells[2:] == [
        *("every 10th step", "2.000x (2.000-2.000)"),
        *("1.100x (1.100-1.100)", "0.100", "met"),
        *("1.300x (1.300-1.300)", "0.300", "NOT met |"),
    ]


def test_a_tool_that_is_missing_or_fails_gets_a_line_that_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else object())

    def broken(*_):
        raise RuntimeError("TypeError: int | None")

    monkeypatch.setattr(watching_rivals, "in_a_process", broken)
    lines = list(watching_rivals.table(["wandb", "torchlens"], ["mlp"], rounds=1, threads=1))
    assert len(lines) == 1 + len(watching.FREQUENCIES)
    assert "skipped: wandb is not installed" in lines[0]
    assert all("failed: TypeError: int / None" in line for line in lines[1:])
    columns = watching_rivals.HEAD.splitlines()[-1].count("|")
    assert {line.count("|") for line in lines} == {columns}


@pytest.mark.parametrize(("second", "is_flat"), [(101, True), (103, False)])
def test_memory_is_flat_if_the_second_half_peaks_no_higher(second, is_flat):
    looks = [(1, 60), (2, 100), (3, 80), (4, second)]
    course = watching_memory.Course(looks, was_full=True, seconds=1.0)
    assert course.peaks() == (100, second)
    assert course.is_flat() == is_flat


def test_resident_memory_grows_with_what_is_held():
    before = watching_memory.resident_bytes()
    held = mmap.mmap(-1, 40 << 20)  # fresh from the system, whatever malloc has kept of what was freed
    torch.frombuffer(held, dtype=torch.uint8).fill_(1)
    grown = watching_memory.resident_bytes() - before
    assert 38 << 20 < grown < 60 << 20  # the interpreter may allocate, or give back, a little meanwhile
    assert held[-1] == 1
