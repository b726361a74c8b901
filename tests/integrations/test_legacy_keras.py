"""Conversion of Highway weights of Keras 0.3 to 2, compared with a loop over the equations of that layer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from thruway.errors import CheckpointError, ConfigError
from thruway.integrations.legacy_keras import from_legacy_keras

WIDTH = 5
ACTIVATIONS = {"linear": lambda z: z, "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}


def trained() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"W": (WIDTH, WIDTH), "W_carry": (WIDTH, WIDTH), "b": (WIDTH,), "b_carry": (WIDTH,)}
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


def keras_highway(weights: dict[str, np.ndarray], x: np.ndarray, activation: str = "linear") -> np.ndarray:
    """The transform gate is the sigmoid of the map with the "carry" weights; kernels are (in, out)."""
    y = np.empty_like(x)
    for row, unit in np.ndindex(x.shape):
        z = sum(x[row, i] * weights["W"][i, unit] for i in range(WIDTH)) + weights["b"][unit]
        gate = sum(x[row, i] * weights["W_carry"][i, unit] for i in range(WIDTH)) + weights["b_carry"][unit]
        share = 1 / (1 + np.exp(-gate))
        y[row, unit] = ACTIVATIONS[activation](z) * share + (1 - share) * x[row, unit]
    return y


ORDERS = {
    "Keras 1 and 2": ("W", "W_carry", "b", "b_carry"),
    "Keras 0.3": ("W", "b", "W_carry", "b_carry"),
}
X = np.random.default_rng(1).normal(size=(7, WIDTH))
# float64, sums of 5 products: some roundings of 1e-16.
EXACT = 1e-14


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_converted_layer_computes_the_same(order, activation):
    weights = trained()
    layer = from_legacy_keras([weights[name] for name in ORDERS[order]], activation)
    y = layer(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(y, keras_highway(weights, X, activation), rtol=0, atol=EXACT)


def test_linear_is_the_default_activation():
    weights = trained()
    layer = from_legacy_keras(list(weights.values()))
    np.testing.assert_allclose(
        layer(torch.from_numpy(X)).detach().numpy(), keras_highway(weights, X), rtol=0, atol=EXACT
    )


def test_missing_biases_are_zero():
    weights = trained() | {"b": np.zeros(WIDTH), "b_carry": np.zeros(WIDTH)}
    layer = from_legacy_keras([weights["W"], weights["W_carry"]])
    np.testing.assert_allclose(
        layer(torch.from_numpy(X)).detach().numpy(), keras_highway(weights, X), rtol=0, atol=EXACT
    )


def test_read_only_arrays_of_another_byte_order_are_copied():
    weights = list(trained().values())
    foreign = [np.asfortranarray(array.astype(">f4")) for array in weights]
    for array in foreign:
        array.flags.writeable = False
    layer = from_legacy_keras(foreign)
    assert layer.weight.dtype == torch.float32
    assert torch.equal(layer.weight[:WIDTH], torch.from_numpy(weights[0].astype("float32").T.copy()))
    with torch.no_grad():
        layer.weight.zero_()
    assert foreign[0].any()


def test_reset_parameters_uses_the_gate_bias_of_the_paper():
    layer = from_legacy_keras(list(trained().values()))
    layer.reset_parameters(torch.Generator().manual_seed(0))
    assert layer.bias.tolist() == [0.0] * WIDTH + [-2.0] * WIDTH


@pytest.mark.parametrize(
    "shapes",
    [
        [],
        [(5, 5), (5,)],
        [(5, 4), (5, 4), (4,), (4,)],
        [(5, 5), (4, 4), (5,), (5,)],
        [(5, 5), (5, 5), (5,)],
        [(5, 5), (5, 5), (5,), (4,)],
        [(5, 5), (5, 5), (5,), (5,), (3, 5, 5)],
        [(0, 0), (0, 0)],
    ],
    ids=["nothing", "a Dense", "not square", "two widths", "one bias", "a narrow bias", "one too many", "empty"],
)
def test_arrays_of_other_layers_are_refused(shapes):
    with pytest.raises(
        CheckpointError, match=r"(?s)two kernels \(d, d\).*got arrays of shape.*get_weights\(\)"
    ) as error:
        from_legacy_keras([np.zeros(shape) for shape in shapes])
    assert ", ".join(map(str, shapes)) in str(error.value)


GIVEN = {
    "a ragged list": ([[1.0, 2.0], [3.0]], r"got a list that cannot be converted.*get_weights"),
    "a parameter": (torch.nn.Parameter(torch.ones(5, 5)), r"got a Parameter that cannot be converted.*detach\(\)\.cpu"),
    "bfloat16": (torch.ones(5, 5, dtype=torch.bfloat16), "got a Tensor that cannot be converted"),
    "whole numbers": (np.ones((5, 5), int), r'got int64.*np\.asarray\(weight, "float32"\)'),
    "text": (["a", "b"], "got <U1"),
}


@pytest.mark.parametrize("case", GIVEN)
def test_weights_that_are_not_floating_point_arrays_are_refused(case):
    weights: list[object] = list(trained().values())
    weights[1], message = GIVEN[case]
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        from_legacy_keras(weights)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("w.h5", "str"), (trained(), "dict"), (None, "NoneType"), (Path("w.h5"), r"\w*Path")],
    ids=["path", "dict", "nothing", "Path"],
)
def test_other_objects_than_a_list_of_arrays_are_refused(value, kind):
    with pytest.raises(ConfigError, match=rf"list of arrays.*get_weights\(\) returned, got a {kind}\. .*W, W_carry"):
        from_legacy_keras(value)
