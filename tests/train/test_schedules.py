"""Schedules are factors on the first learning rate: 1 at the start, and what their names say after that."""

import math

import pytest

from thruway.errors import ConfigError
from thruway.train import constant, exponential, steps


@pytest.mark.parametrize("schedule", [constant(), exponential(0.3), steps([1, 5])])
def test_training_starts_at_the_rate_that_was_asked_for(schedule):
    assert schedule(0) == 1.0


def test_constant_never_changes():
    assert {constant()(epoch) for epoch in (0, 0.5, 400)} == {1.0}


@pytest.mark.parametrize("gamma", [0.1, 0.97, 1.0])
def test_exponential_keeps_the_same_share_in_every_epoch(gamma):
    factor = exponential(gamma)
    for epoch in (0, 3, 7.25):
        assert math.isclose(factor(epoch + 1), gamma * factor(epoch), rel_tol=1e-15)  # one rounding of a double


def test_exponential_is_smooth_inside_an_epoch():
    assert math.isclose(exponential(0.25)(0.5), 0.5, rel_tol=1e-15)


def test_steps_multiply_once_at_each_milestone():
    factor = steps([2, 4, 4], gamma=0.5)
    assert [factor(epoch) for epoch in (0, 1.99, 2, 3.99, 4, 100)] == [1, 1, 0.5, 0.5, 0.125, 0.125]


def test_steps_keep_their_own_milestones():
    at = [2.0]
    factor = steps(at)
    at[0] = 0.0
    assert factor(1) == 1.0


@pytest.mark.parametrize("gamma", [0, -0.1, 1.1, math.nan])
def test_exponential_refuses_what_does_not_decay(gamma):
    with pytest.raises(ConfigError, match=rf"\(0, 1\].*got {gamma}"):
        exponential(gamma)


def test_steps_refuse_milestones_that_fall():
    with pytest.raises(ConfigError, match=r"must rise, got \[3, 1\]"):
        steps([3, 1])


@pytest.mark.parametrize("gamma", [-5, 0, math.inf, math.nan])
def test_steps_refuse_a_factor_that_climbs_or_ends_the_descent(gamma):
    with pytest.raises(ConfigError, match=f"gamma must be a finite number above 0, got {gamma}"):
        steps([1], gamma=gamma)
