"""The resumable loop on a counter: when it saves, and how it continues."""

from types import SimpleNamespace

import pytest
import torch
from tiny_runs import StopsAt

from thruway.errors import CheckpointError
from thruway.experiments.machinery import Silent, resumable
from thruway.experiments.machinery.resumable import run_resumable, saved_state
from thruway.runs import Run


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", {}, name="test", command=["test"], seeds={}, device="cpu") as created:
        yield created


class Counter:
    """A training of six steps that counts them, and its checkpoint. Step `broken` is interrupted half way."""

    def __init__(self, run, broken=None):
        self.run, self.broken = run, broken
        self.state = saved_state(run, "counter", step=0)
        self.weight = run.load("counter").tensors["weight"] if self.state["step"] else torch.zeros(())
        self.saved = []

    def steps(self):
        for step in range(self.state["step"] + 1, 7):
            self.weight += step
            if step == self.broken:
                raise KeyboardInterrupt
            self.state["step"] = step
            yield 0.5, f"step {step}"

    def save(self):
        self.saved.append(self.state["step"])
        self.run.save("counter", {"weight": self.weight}, state=self.state)


@pytest.mark.parametrize(
    ("every", "saved"),
    [(30.0, [2, 4, 6, 6]), (15.0, [1, 2, 3, 4, 5, 6, 6]), (1e6, [6])],
    ids=["due after two steps", "due after every step", "never due"],
)
def test_it_saves_when_due_and_at_the_end(run, every, saved, monkeypatch):
    counter, progress = Counter(run), StopsAt(10**6)
    # By this clock every step takes 20 seconds, and nothing else takes any time.
    clock = SimpleNamespace(monotonic=lambda: 20.0 * counter.state["step"])
    monkeypatch.setattr(resumable, "time", clock)
    run_resumable(counter.steps(), counter.save, progress, every)
    assert counter.saved == saved
    assert (progress.reports, progress.done) == (6, 3.0)


def test_an_interrupt_between_two_steps_saves_the_last_one(run):
    counter = Counter(run)
    with pytest.raises(KeyboardInterrupt):
        run_resumable(counter.steps(), counter.save, StopsAt(4))
    assert counter.saved == [4]
    assert saved_state(run, "counter", step=0) == {"step": 4}
    assert run.load("counter").tensors["weight"] == 1 + 2 + 3 + 4


def test_a_resumed_training_takes_the_steps_that_are_left(run):
    interrupted = Counter(run)
    with pytest.raises(KeyboardInterrupt):
        run_resumable(interrupted.steps(), interrupted.save, StopsAt(4))
    resumed, progress = Counter(run), StopsAt(10**6)
    run_resumable(resumed.steps(), resumed.save, progress)
    assert progress.reports == 2
    assert resumed.saved == [6]
    assert run.load("counter").tensors["weight"] == 1 + 2 + 3 + 4 + 5 + 6


def test_an_interrupt_inside_a_step_saves_nothing(run):
    counter = Counter(run, broken=5)
    with pytest.raises(KeyboardInterrupt):
        run_resumable(counter.steps(), counter.save, Silent())
    assert counter.saved == []
    assert run.checkpoints() == []


def test_after_an_interrupt_inside_a_step_the_last_save_is_left(run):
    counter = Counter(run, broken=5)
    with pytest.raises(KeyboardInterrupt):
        run_resumable(counter.steps(), counter.save, Silent(), every=-1.0)
    assert counter.saved == [1, 2, 3, 4]
    assert saved_state(run, "counter", step=0) == {"step": 4}
    assert run.load("counter").tensors["weight"] == 1 + 2 + 3 + 4


def test_the_stored_state_completes_the_one_before_the_first_step(run):
    assert saved_state(run, "counter", step=0, seconds=0.0) == {"step": 0, "seconds": 0.0}
    run.save("counter", {}, state={"step": 3, "order": [2, 1]})
    assert saved_state(run, "counter", step=0, seconds=0.0) == {"step": 3, "seconds": 0.0, "order": [2, 1]}


def test_a_checkpoint_without_state_is_refused(run):
    run.save("counter", {"weight": torch.zeros(())})
    with pytest.raises(CheckpointError, match=r"'counter' does not state how far its training got\. Remove it"):
        saved_state(run, "counter", step=0)
