"""The table of activations, compared with formulas and definitions."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from thruway.activations import ACTIVATIONS, activation, activation_module
from thruway.errors import ConfigError

GRID = torch.linspace(-6, 6, 241, dtype=torch.float64)

# The formulas of the papers, on Python floats.
FORMULAS = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1)),
    "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
    "silu": lambda x: x / (1 + math.exp(-x)),
}

# Gains established in the field instead of 1/sqrt(E f^2).
ESTABLISHED = {"tanh": 1.0, "sigmoid": 1.0, "softsign": 1.0}


def second_moment(function):
    """E f(z)^2 for z ~ N(0, 1), by the trapezoidal rule, which is accurate to 1e-12 on this grid."""
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return torch.trapezoid(function(z) ** 2 * density, z).item()


def test_every_entry_is_tested_under_its_name():
    assert set(ACTIVATIONS) == set(FORMULAS)
    assert all(row.name == name for name, row in ACTIVATIONS.items())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_function_agrees_with_the_formula(name):
    expected = torch.tensor([FORMULAS[name](x) for x in GRID.tolist()], dtype=torch.float64)
    # exp(x) - 1 in the formula loses digits near 0 that expm1 keeps: 1e-16 absolute.
    assert_close(ACTIVATIONS[name].function(GRID), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_module_agrees_with_the_function(name):
    assert torch.equal(activation_module(name)(GRID), activation(name).function(GRID))


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in ESTABLISHED])
def test_the_gain_keeps_the_second_moment_of_a_standard_normal(name):
    row = ACTIVATIONS[name]
    # The table has five digits.
    assert math.isclose(row.gain, 1 / math.sqrt(second_moment(row.function)), rel_tol=5e-5)


@pytest.mark.parametrize("name", ESTABLISHED)
def test_the_exceptions_are_the_established_gains(name):
    assert ACTIVATIONS[name].gain == ESTABLISHED[name]
    assert not math.isclose(1 / math.sqrt(second_moment(ACTIVATIONS[name].function)), ESTABLISHED[name], rel_tol=0.1)


def test_each_call_returns_a_new_module():
    assert activation_module("relu") is not activation_module("relu")


def test_a_module_is_returned_unchanged():
    module = nn.PReLU()
    assert activation_module(module) is module


def test_a_callable_becomes_a_module_with_its_name():
    module = activation_module(torch.sin)
    assert torch.equal(module(GRID), torch.sin(GRID))
    assert "sin" in repr(module)


def test_an_unknown_name_suggests_the_closest():
    for function in (activation, activation_module):
        with pytest.raises(ConfigError, match=r"unknown activation 'rleu'; did you mean 'relu'\? Known: elu, gelu"):
            function("rleu")


@pytest.mark.parametrize("value", [3, None, ["relu"]])
def test_other_objects_are_refused(value):
    with pytest.raises(ConfigError, match=r"activation"):
        activation(value)
    with pytest.raises(ConfigError, match=r"a name or a callable on tensors, got .*Known names: linear, relu"):
        activation_module(value)
