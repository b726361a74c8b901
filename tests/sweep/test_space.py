"""Search spaces: reproducible trials, and the distributions of their values."""

import math

import pytest
import torch
from pydantic import ValidationError

from thruway.sweep import Choice, LogUniform, Uniform, draw_trial

SPACE = {
    "lr": LogUniform(low=0.003, high=0.3),
    "momentum": Uniform(low=0.5, high=0.95),
    "activation": Choice(values=("relu", "tanh", "elu")),
}
DRAWS = 1000


def drawn(part, draws=DRAWS, seed=0):
    return [draw_trial({"x": part}, seed, trial)["x"] for trial in range(draws)]


def test_a_trial_does_not_depend_on_when_it_is_drawn():
    forwards = [draw_trial(SPACE, 3, trial) for trial in range(6)]
    backwards = [draw_trial(SPACE, 3, trial) for trial in reversed(range(6))][::-1]
    assert forwards == backwards
    assert len({str(trial) for trial in forwards}) == 6


def test_additional_parameters_do_not_change_the_others():
    more = {"weight_decay": Uniform(low=0, high=1), **SPACE, "width": Uniform(low=10, high=20)}
    for trial in range(5):
        wide = draw_trial(more, 0, trial)
        assert {name: wide[name] for name in SPACE} == draw_trial(SPACE, 0, trial)


def test_changing_a_range_does_not_change_other_parameters():
    other = SPACE | {"lr": LogUniform(low=1, high=2)}
    for trial in range(5):
        ours, theirs = draw_trial(SPACE, 0, trial), draw_trial(other, 0, trial)
        assert ours.pop("lr") != theirs.pop("lr")
        assert ours == theirs


def test_seeds_trials_and_names_give_different_values():
    part = Uniform(low=0, high=1)
    space = {"a": part, "b": part}
    values = [value for seed in range(3) for trial in range(3) for value in draw_trial(space, seed, trial).values()]
    assert len(set(values)) == len(values) == 18


def test_trials_are_stable_across_versions():
    """Published searches are repeated from their seeds, so these values must never change."""
    trial = draw_trial(SPACE, 0, 0)
    assert trial["activation"] == "elu"
    assert math.isclose(
        trial["lr"], 0.005872459470325361, rel_tol=1e-12
    )  # pow may differ in the last digit between C libraries
    assert trial["momentum"] == 0.5052965123344058


def test_the_global_generator_is_not_used():
    before = torch.get_rng_state()
    draw_trial(SPACE, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_uniform_has_the_right_distribution():
    values = drawn(Uniform(low=-3.0, high=5.0))
    assert all(-3 <= value < 5 for value in values)
    standard_error = 8 / math.sqrt(12 * DRAWS)  # of the mean of a uniform variable over 8 units
    assert abs(sum(values) / DRAWS - 1.0) < 5 * standard_error
    quarter = sum(value < -1 for value in values) / DRAWS
    assert abs(quarter - 0.25) < 5 * math.sqrt(0.25 * 0.75 / DRAWS)


def test_log_uniform_is_uniform_in_the_logarithm():
    low, high = 1e-4, 1.0
    logs = [math.log(value) for value in drawn(LogUniform(low=low, high=high))]
    # A uniform draw just below 1 may round up to the end of the range.
    assert all(math.log(low) - 1e-12 <= each <= math.log(high) for each in logs)
    span = math.log(high / low)
    assert abs(sum(logs) / DRAWS - math.log(low) - span / 2) < 5 * span / math.sqrt(12 * DRAWS)
    lowest = sum(each < math.log(low) + span / 4 for each in logs) / DRAWS
    assert abs(lowest - 0.25) < 5 * math.sqrt(0.25 * 0.75 / DRAWS)


def test_choice_is_uniform():
    values = drawn(SPACE["activation"])
    for name in SPACE["activation"].values:
        assert abs(values.count(name) / DRAWS - 1 / 3) < 5 * math.sqrt(1 / 3 * 2 / 3 / DRAWS)


@pytest.mark.parametrize("kind", [Uniform, LogUniform])
def test_a_range_of_one_point_gives_that_point(kind):
    assert set(drawn(kind(low=0.25, high=0.25), draws=5)) == {0.25}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Uniform(low=2, high=1), r"low <= high, got low=2.0, high=1.0"),
        (lambda: Uniform(low=0, high=math.inf), r"finite.*high=inf"),
        (lambda: LogUniform(low=0, high=1), r"above 0, got low=0.0"),
        (lambda: LogUniform(low=-1, high=1), r"above 0, got low=-1.0"),
        (lambda: LogUniform(low=2, high=1), r"low <= high, got low=2.0, high=1.0"),
        (lambda: Uniform(low=0, high=1, step=2), r"step"),
        (lambda: Choice(values=()), r"at least 1"),
        (lambda: Choice(values=("relu",), value="tanh"), r"value"),
    ],
)
def test_invalid_ranges_are_refused(build, message):
    with pytest.raises(ValidationError, match=message):
        build()


def test_a_distribution_is_immutable():
    with pytest.raises(ValidationError, match="frozen"):
        SPACE["lr"].low = 1.0
