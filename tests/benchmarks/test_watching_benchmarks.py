"""Helper functions of the watching benchmarks: groups, shares, checks."""

import importlib.util
import mmap
from unittest import mock

import pytest
import torch
from torch import nn

from benchmarks import watching, watching_comparison, watching_memory
from benchmarks.watching_nets import Case
from thruway.watching import watch
from thruway.watching.quantities.collector import Collector

TINY = Case(
    "tiny",
    lambda: nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 10)),
    lambda: (torch.ones(5, 3).cumsum(0), torch.arange(5)),
    target=2.0,
)


def test_every_group_of_ten_steps_contains_one_recorded_step():
    seconds = [1.0 + (step % 10 == 3) for step in range(37)]
    assert watching.in_groups(seconds, 10) == [11.0, 11.0, 11.0]
    assert watching.in_groups(seconds, 1) == seconds


def test_twins_have_equal_weights_and_train_equally():
    a, b = TINY.twins(2)
    for twin in (a, b):
        twin.step()
    assert watching.differing(watching.state(a), watching.state(b)) == 0
    b.step()
    # five parameters with gradients and momenta, running mean and variance, and the number of batches
    assert watching.differing(watching.state(a), watching.state(b)) == len(watching.state(a)) == 3 * 5 + 3


def test_a_changed_bit_is_detected_where_values_compare_equal():
    nan, zero = torch.tensor([torch.nan, 1.0]), torch.tensor(0.0)
    assert watching.differing([nan, zero], [nan.clone(), -zero]) == 1
    assert watching.differing([nan], [nan.clone()]) == 0
    assert watching.differing([zero], [zero.double()]) == 1
    assert watching.differing([torch.zeros(2, 3)], [torch.zeros(2, 3).T]) == 0


def test_failed_or_incomplete_watching_raises_an_error():
    (twin,) = TINY.twins(1)
    with watch(twin.net, every=2) as trace:
        for _ in range(6):
            twin.step()
    watching.check_alive(trace, 3)
    with pytest.raises(RuntimeError, match="4 steps should have been recorded, the trace has 3"):
        watching.check_alive(trace, 4)
    trace.failure = ValueError("no")
    with pytest.raises(RuntimeError, match="has failed"):
        watching.check_alive(trace, 3)


def test_reading_a_value_counts_as_a_synchronisation():
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


def test_one_synchronisation_per_recorded_step():
    assert watching.waits_per_step(TINY, "cpu", steps=3) == 1
    finish = Collector.finish

    def wasteful(self):
        torch.zeros(()).item()
        return finish(self)

    with mock.patch.object(Collector, "finish", wasteful):
        assert watching.waits_per_step(TINY, "cpu", steps=3) == 2


def test_share_is_a_ratio_of_overheads():
    assert watching_comparison.share(1.25, 3.5) == pytest.approx(0.1, rel=1e-12)
    assert watching_comparison.share(1.25, 1.0) == float("inf")  # no overhead, so no share of it is small enough
    assert watching_comparison.share(1.25, 0.9) == float("inf")


def test_a_row_compares_recording_periods_not_single_steps():
    def seconds(sampled: float) -> list[float]:
        return [sampled if step % 10 == 9 else 1.0 for step in range(40)]

    found = {"bare": seconds(1.0), watching_comparison.PLAIN: seconds(2.0), watching_comparison.FULL: seconds(4.0)}
    tool = watching_comparison.TOOLS["wandb"]
    cells = watching_comparison.row(tool, "mlp", 10, found | {tool.name: seconds(11.0)}).split(" | ")
    assert cells[2:] == [
        *("every 10th step", "2.000x (2.000-2.000)"),
        *("1.100x (1.100-1.100)", "0.100", "met"),
        *("1.300x (1.300-1.300)", "0.300", "NOT met |"),
    ]


def test_a_missing_or_failing_tool_is_listed_as_such(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else object())

    def broken(*_):
        raise RuntimeError("TypeError: int | None")

    monkeypatch.setattr(watching_comparison, "measure_in_process", broken)
    lines = list(watching_comparison.table(["wandb", "torchlens"], ["mlp"], rounds=1, threads=1))
    assert len(lines) == 1 + len(watching.FREQUENCIES)
    assert "skipped: wandb is not installed" in lines[0]
    assert all("failed: TypeError: int / None" in line for line in lines[1:])
    columns = watching_comparison.HEAD.splitlines()[-1].count("|")
    assert {line.count("|") for line in lines} == {columns}


@pytest.mark.parametrize(("second", "is_flat"), [(101, True), (103, False)])
def test_memory_is_flat_if_the_second_half_has_no_higher_peak(second, is_flat):
    samples = [(1, 60), (2, 100), (3, 80), (4, second)]
    course = watching_memory.Course(samples, was_full=True, seconds=1.0)
    assert course.peaks() == (100, second)
    assert course.is_flat() == is_flat


def test_resident_memory_includes_allocated_memory():
    before = watching_memory.resident_bytes()
    allocated = mmap.mmap(-1, 40 << 20)  # directly from the system, not from memory kept by malloc
    torch.frombuffer(allocated, dtype=torch.uint8).fill_(1)
    grown = watching_memory.resident_bytes() - before
    assert 38 << 20 < grown < 60 << 20  # the interpreter may allocate or free a little meanwhile
    assert allocated[-1] == 1
