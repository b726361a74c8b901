"""Conversion of AllenNLP Highway weights, compared with a loop over the equations of AllenNLP's layer."""

import re

import pytest
import torch
from torch import Tensor

from thruway.errors import CheckpointError, ConfigError
from thruway.integrations.allennlp import from_allennlp

WIDTH = 5


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(depth: int, prefix: str = "") -> dict[str, Tensor]:
    shapes = {"weight": (2 * WIDTH, WIDTH), "bias": (2 * WIDTH,)}
    return {
        f"{prefix}_layers.{layer}.{kind}": numbers(*shape, seed=2 * layer + len(kind))
        for layer in range(depth)
        for kind, shape in shapes.items()
    }


def allennlp_highway(state: dict[str, Tensor], x: Tensor, activation) -> Tensor:
    """y = g·x + (1 - g)·f(A x), unit by unit; the first half of the rows is A, the second the gate's."""
    for layer in range(len(state) // 2):
        weight, bias = state[f"_layers.{layer}.weight"], state[f"_layers.{layer}.bias"]
        y = torch.empty_like(x)
        for unit in range(WIDTH):
            new = activation(x @ weight[unit] + bias[unit])
            carried = 1 / (1 + torch.exp(-(x @ weight[WIDTH + unit] + bias[WIDTH + unit])))
            y[..., unit] = carried * x[..., unit] + (1 - carried) * new
        x = y
    return x


@pytest.mark.parametrize("depth", [1, 12])  # 12: "10" comes before "2" in the alphabet
@pytest.mark.parametrize("activation", [torch.relu, torch.tanh], ids=["relu", "tanh"])
def test_converted_layers_compute_the_same(depth, activation):
    state, x = trained(depth), numbers(3, 4, WIDTH, seed=99)
    expected = allennlp_highway(state, x, activation)
    # 1 - sigmoid(z) and sigmoid(-z) differ by rounding: some 1e-16 per layer, which later layers amplify.
    torch.testing.assert_close(from_allennlp(state, activation=activation)(x), expected, rtol=0, atol=1e-11)


def test_relu_is_the_default_activation():
    state, x = trained(2), numbers(7, WIDTH, seed=99)
    torch.testing.assert_close(from_allennlp(state)(x), allennlp_highway(state, x, torch.relu), rtol=0, atol=1e-12)


@pytest.mark.parametrize("prefix", ["encoder._highways.", "encoder._highways"])
def test_a_highway_is_found_inside_a_model(prefix):
    model = {"encoder.weight": torch.ones(3), **trained(2, "encoder._highways."), **trained(3, "other.")}
    stack = from_allennlp(model, prefix)
    assert [layer.weight.dtype for layer in stack] == [torch.float64] * 2
    assert torch.equal(stack[1].weight[:WIDTH], model["encoder._highways._layers.1.weight"][:WIDTH])


def test_training_leaves_the_original_weights_unchanged():
    state = trained(1)
    before = {name: tensor.clone() for name, tensor in state.items()}
    layer = from_allennlp(state)[0]
    layer(numbers(7, WIDTH, seed=1)).sum().backward()
    torch.optim.SGD(layer.parameters(), 1.0).step()
    assert not torch.equal(layer.weight[:WIDTH], before["_layers.0.weight"][:WIDTH])
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_reset_parameters_uses_the_gate_bias_of_allennlp():
    layer = from_allennlp(trained(1))[0]
    layer.reset_parameters(torch.Generator().manual_seed(0))
    assert layer.bias[WIDTH:].tolist() == [-1.0] * WIDTH  # its carry gate starts at +1


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"no _layers\.0\.weight among these 0 tensors.*Pass the state dict"),
        (trained(1, "a.b."), r"prefix='a\.b\.'"),
        ({**trained(1, "a."), **trained(1, "b.")}, r"prefix='a\.' or prefix='b\.'"),
        (without(trained(3), "_layers.1.bias"), r"_layers\.1\.bias missing"),
        (without(trained(3), "_layers.0.weight"), r"_layers\.0\.weight missing"),
        (
            {**trained(2), "_layers.1.weight": torch.ones(4, 2)},
            r"_layers\.1\.weight has shape \(4, 2\).*\(10, 5\)",
        ),
    ],
    ids=["nothing", "elsewhere", "two", "no bias", "no first", "another width"],
)
def test_incomplete_or_absent_highways_are_refused(state, message):
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        from_allennlp(state)


@pytest.mark.parametrize(
    ("convert", "kind"), [(Tensor.numpy, "ndarray"), (Tensor.long, r"torch\.int64")], ids=["NumPy", "whole numbers"]
)
@pytest.mark.parametrize("which", ["_layers.0.weight", "_layers.1.bias"])
def test_weights_that_are_not_floating_point_tensors_are_refused(convert, kind, which):
    state = trained(2)
    state[which] = convert(state[which])
    with pytest.raises(CheckpointError, match=rf"{re.escape(which)} is of {kind}; .*torch\.from_numpy.*\.float"):
        from_allennlp(state)


def test_numpy_arrays_under_another_prefix_are_not_suggested():
    state = {name: tensor.numpy() for name, tensor in trained(1, "a.").items()}
    with pytest.raises(CheckpointError, match="Pass the state dict of a Highway"):
        from_allennlp(state)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("w.th", "str"), (torch.nn.Linear(2, 2), "Linear"), (None, "NoneType")],
    ids=["path", "module", "nothing"],
)
def test_other_objects_than_a_state_dict_are_refused(value, kind):
    with pytest.raises(ConfigError, match=rf"got a {kind}\. .*module\.state_dict\(\).*torch\.load\(path, weights_only"):
        from_allennlp(value)


def test_a_prefix_of_none_is_refused():
    with pytest.raises(ConfigError, match=r"prefix must be a string.*got None"):
        from_allennlp(trained(1), prefix=None)
