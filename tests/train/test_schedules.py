"""Schedules: factors of the initial learning rate that start at 1."""

import math

import pytest

from thruway.errors import ConfigError
from thruway.train import constant, exponential, steps


@pytest.mark.parametrize("schedule", [constant(), exponential(0.3), steps([1, 5])])
def test_the_first_factor_is_one(schedule):
    assert schedule(0) == 1.0


def test_constant_never_changes():
    assert {constant()(epoch) for epoch in (0, 0.5, 400)} == {1.0}


@pytest.mark.parametrize("gamma", [0.1, 0.97, 1.0])
def test_exponential_decays_by_the_same_factor_in_every_epoch(gamma):
    factor = exponential(gamma)
    for epoch in (0, 3, 7.25):
        assert math.isclose(factor(epoch + 1), gamma * factor(epoch), rel_tol=1e-15)  # one rounding of a double


def test_exponential_accepts_fractions_of_an_epoch():
    assert math.isclose(exponential(0.25)(0.5), 0.5, rel_tol=1e-15)


def test_steps_multiply_once_at_each_milestone():
    factor = steps([2, 4, 4], gamma=0.5)
    assert [factor(epoch) for epoch in (0, 1.99, 2, 3.99, 4, 100)] == [1, 1, 0.5, 0.5, 0.125, 0.125]


def test_steps_copy_their_milestones():
    at = [2.0]
    factor = steps(at)
    at[0] = 0.0
    assert factor(1) == 1.0


@pytest.mark.parametrize("gamma", [0, -0.1, 1.1, math.nan])
def test_exponential_refuses_an_invalid_factor(gamma):
    with pytest.raises(ConfigError, match=rf"\(0, 1\].*got {gamma}"):
        exponential(gamma)


def test_steps_refuse_decreasing_milestones():
    with pytest.raises(ConfigError, match=r"must be increasing, got \[3, 1\]"):
        steps([3, 1])


@pytest.mark.parametrize("gamma", [-5, 0, math.inf, math.nan])
def test_steps_refuse_an_invalid_factor(gamma):
    with pytest.raises(ConfigError, match=f"gamma must be a finite number above 0, got {gamma}"):
        steps([1], gamma=gamma)
