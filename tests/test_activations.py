"""The table of activations against its own definitions."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from thruway.activations import ACTIVATIONS, activation, activation_module
from thruway.errors import ConfigError

GRID = torch.linspace(-6, 6, 241, dtype=torch.float64)

# From the formulas of the papers, on Python floats.
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

# The field's own choice instead of 1/sqrt(E f^2).
SETTLED = {"tanh": 1.0, "sigmoid": 1.0, "softsign": 1.0}


def second_moment(function):
    """E f(z)^2, z ~ N(0, 1), by the trapezoidal rule, which is exact to 1e-12 for so wide a grid."""
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return torch.trapezoid(function(z) ** 2 * density, z).item()


def test_every_row_is_tested_and_named_after_itself():
    assert set(ACTIVATIONS) == set(FORMULAS)
    assert all(row.name == name for name, row in ACTIVATIONS.items())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_function_is_the_formula(name):
    expected = torch.tensor([FORMULAS[name](x) for x in GRID.tolist()], dtype=torch.float64)
    # exp(x) - 1 in the formula loses digits near 0 that expm1 keeps: 1e-16 absolute.
    assert_close(ACTIVATIONS[name].function(GRID), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_module_computes_what_the_function_does(name):
    assert torch.equal(activation_module(name)(GRID), activation(name).function(GRID))


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in SETTLED])
def test_the_gain_keeps_the_second_moment_of_a_standard_normal(name):
    row = ACTIVATIONS[name]
    # The table gives five digits.
    assert math.isclose(row.gain, 1 / math.sqrt(second_moment(row.function)), rel_tol=5e-5)


@pytest.mark.parametrize("name", SETTLED)
def test_the_exceptions_are_the_ones_the_field_has_settled_on(name):
    assert ACTIVATIONS[name].gain == SETTLED[name]
    assert not math.isclose(1 / math.sqrt(second_moment(ACTIVATIONS[name].function)), SETTLED[name], rel_tol=0.1)


def test_modules_are_fresh():
    assert activation_module("relu") is not activation_module("relu")


def test_a_module_is_taken_as_it_is():
    given = nn.PReLU()
    assert activation_module(given) is given


def test_a_callable_becomes_a_module_that_says_its_name():
    module = activation_module(torch.sin)
    assert torch.equal(module(GRID), torch.sin(GRID))
    assert "sin" in repr(module)


def test_an_unknown_name_suggests_the_nearest():
    for ask in (activation, activation_module):
        with pytest.raises(ConfigError, match=r"unknown activation 'rleu'; did you mean 'relu'\? Known: elu, gelu"):
            ask("rleu")


@pytest.mark.parametrize("given", [3, None, ["relu"]])
def test_what_is_neither_name_nor_callable_is_refused(given):
    with pytest.raises(ConfigError, match=r"activation"):
        activation(given)
    with pytest.raises(ConfigError, match=r"a name or a callable on tensors, got .*Known names: linear, relu"):
        activation_module(given)
