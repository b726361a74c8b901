"""Conversion between Keras and PyTorch layers, in both directions."""

import os

import pytest
import torch
from torch import Tensor

import thruway.integrations.keras as highway
from thruway import nn
from thruway.activations import ACTIVATIONS
from thruway.errors import ConfigError, ShapeError
from thruway.integrations.keras import from_torch, to_torch

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", minversion="3")
HighwayDense, HighwayConv1D, HighwayConv2D = (getattr(highway, name) for name in highway.NAMES)

pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="the other backends: test_keras_backends.py")
# float64, sums of at most 100 products of numbers near 1: a hundred roundings of 1e-16, and some room.
EXACT = 1e-13

MODULES = {
    "linear": lambda **of: nn.HighwayLinear(4, **of),
    "conv1d": lambda **of: nn.HighwayConv1d(4, 5, dilation=2, **of),
    "conv2d": lambda **of: nn.HighwayConv2d(4, (3, 5), dilation=(1, 2), **of),
}
SHAPES = {"linear": (3, 4), "conv1d": (3, 4, 12), "conv2d": (3, 4, 8, 12)}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(name: str, **of):
    """A module with weights and biases that are all different."""
    module = MODULES[name](dtype=torch.float64, gate_bias=-1.5, generator=torch.Generator().manual_seed(1), **of)
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(random(*parameter.shape, seed=number + 2) / 3)
    return module


def assert_same(layer, module, x: Tensor) -> None:
    """Compare outputs; `x` is channels first and is rearranged if the layer is channels last."""
    is_last = layer.axis == -1
    y = layer(x.movedim(1, -1) if is_last else x)
    torch.testing.assert_close(y.movedim(-1, 1) if is_last else y, module(x), rtol=0, atol=EXACT)


@pytest.mark.parametrize("carry", ["coupled", "independent"])
@pytest.mark.parametrize("name", MODULES)
def test_a_round_trip_preserves_the_layer(name, carry):
    module, x = trained(name, carry=carry, activation="tanh"), random(*SHAPES[name])
    layer = from_torch(module)
    assert_same(layer, module, x)
    back = to_torch(layer)
    assert torch.equal(back(x), module(x))
    assert (type(back), back.gate_bias, back.carry) == (type(module), module.gate_bias, module.carry)
    for parameter, before in zip(back.parameters(), module.parameters(), strict=True):
        assert torch.equal(parameter, before)
        assert parameter.is_contiguous()
        assert parameter.data_ptr() != before.data_ptr()


@pytest.mark.parametrize("name", ["conv1d", "conv2d"])
def test_channels_first_is_supported(name):
    module = trained(name)
    layer = from_torch(module, data_format="channels_first", name="early")
    assert (layer.name, layer.data_format) == ("early", "channels_first")
    assert_same(layer, module, random(*SHAPES[name]))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_named_activation_is_converted(activation):
    module = trained("linear", activation=activation)
    layer = from_torch(module)
    assert_same(layer, module, 3 * random(50, 4))
    assert to_torch(layer).activation_name == activation


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "mixed_bfloat16"])
def test_weights_keep_their_dtype_and_bits(dtype):
    layer = HighwayDense(dtype=dtype)
    layer.build((None, 4))
    module = to_torch(layer)
    again = from_torch(module)
    assert module.weight.dtype == getattr(torch, dtype.removeprefix("mixed_") if "mixed" not in dtype else "float32")
    for one, other in zip(layer.weights, again.weights, strict=True):
        assert torch.equal(one.value, other.value)


def test_gradients_agree():
    module, x = trained("conv2d", activation="gelu"), random(*SHAPES["conv2d"])
    layer = from_torch(module)
    module(x).square().sum().backward()
    layer(x.movedim(1, -1)).square().sum().backward()
    kernels = [variable.value.grad.movedim((-1, -2), (0, 1)) for variable in layer.kernels]
    # Sums over 3 x 8 x 12 places of numbers up to 100.
    torch.testing.assert_close(torch.cat(kernels), module.weight.grad, rtol=0, atol=1e-10)
    biases = [variable.value.grad for variable in layer.biases]
    torch.testing.assert_close(torch.cat(biases), module.bias.grad, rtol=0, atol=1e-10)


def test_a_fitted_layer_can_be_converted():
    layer = HighwayConv1D(3, dtype="float64")
    model = keras.Sequential([layer])
    model.compile("adam", "mse")
    x = random(16, 9, 4)
    model.fit(x.numpy(), -x.numpy(), verbose=0)
    assert_same(layer, to_torch(layer), x.movedim(-1, 1))


def test_an_unnamed_activation_can_be_passed():
    layer = from_torch(trained("linear", activation=torch.sin), activation=keras.ops.sin)
    module = to_torch(layer, activation=torch.sin)
    assert_same(layer, module, random(3, 4))


@pytest.mark.parametrize(
    ("convert", "error", "message"),
    [
        (
            lambda: to_torch(keras.layers.Dense(3)),
            ConfigError,
            "HighwayDense, HighwayConv1D or HighwayConv2D, got Dense",
        ),
        (lambda: to_torch(HighwayConv2D(3, name="late")), ShapeError, "late has no weights yet: call it once"),
        (lambda: from_torch(torch.nn.Linear(3, 3)), ConfigError, "HighwayConv2d, got Linear"),
        (lambda: from_torch(nn.HighwayConv3d(2, 3)), ConfigError, "HighwayConv2d, got HighwayConv3d"),
        (lambda: from_torch(nn.HighwayConv1d(2, 3, groups=2)), ConfigError, "only groups=1.*groups=2"),
        (lambda: from_torch(nn.HighwayConv1d(2, 3, padding_mode="circular")), ConfigError, "padding_mode='circular'"),
        (lambda: from_torch(trained("linear", activation=torch.sin)), ConfigError, r"no name.*activation=\.\.\."),
        (
            lambda: from_torch(trained("linear"), carry="independent"),
            ConfigError,
            "takes carry from the module, got carry='independent'. Omit it",
        ),
        (lambda: from_torch(trained("linear"), gate_bias=1.0), ConfigError, "takes gate_bias from .*got gate_bias=1.0"),
        (lambda: from_torch(trained("conv1d"), kernel_size=3), ConfigError, "takes kernel_size from .*kernel_size=3"),
        (lambda: from_torch(nn.HighwayLinear(3, device="meta")), ConfigError, "meta.*no values.*to_empty.*load_state"),
    ],
    ids=[
        "dense",
        "not built",
        "linear",
        "volume",
        "groups",
        "circular",
        "sine",
        "other carry",
        "other gate bias",
        "other kernel",
        "meta",
    ],
)
def test_layers_without_an_equivalent_are_refused(convert, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        convert()


def test_a_keras_activation_without_a_name_is_refused():
    layer = HighwayDense(keras.ops.sin)
    layer.build((None, 3))
    with pytest.raises(ConfigError, match=r"no name.*to_torch\(layer, activation=\.\.\.\)"):
        to_torch(layer)
