"""Keras highway layers: the equations of the papers, and the conventions of Keras."""

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import thruway.integrations.keras as highway
from thruway.errors import ConfigError, ShapeError

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", minversion="3")
HighwayDense, HighwayConv1D, HighwayConv2D = (getattr(highway, name) for name in highway.NAMES)

pytestmark = [
    # Raised inside Keras, by NumPy 2 for arrays that share memory with torch tensors.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="the other backends: test_keras_backends.py"),
]
# Sums of at most 100 products of numbers near 1, in float64: a hundred roundings of 1e-16, and some room.
EXACT = 1e-13


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def values(tensors) -> list[np.ndarray]:
    return [np.asarray(each.value.detach()) for each in tensors]


def built(layer, x: np.ndarray):
    """Build the layer and give it weights and biases that are all different."""
    layer.build(x.shape)
    for number, variable in enumerate(layer.weights):
        variable.assign(numbers(*variable.shape, seed=number + 1))
    return layer


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def mixed(x: np.ndarray, z: list[np.ndarray]) -> np.ndarray:
    """Equations 2 and 3 of the paper, with H = tanh."""
    t = sigmoid(z[1])
    return np.tanh(z[0]) * t + x * (sigmoid(z[2]) if len(z) == 3 else 1 - t)


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, dilation: int) -> np.ndarray:
    """Convolve (batch, height, width, channels) with loops over pixels and kernel elements."""
    z = np.zeros_like(x) + bias
    (_, height, width, _), (rows, columns) = x.shape, kernel.shape[:2]
    for i, j, a, b in np.ndindex(height, width, rows, columns):
        row, column = i + dilation * (a - rows // 2), j + dilation * (b - columns // 2)
        if 0 <= row < height and 0 <= column < width:
            z[:, i, j] += x[:, row, column] @ kernel[a, b]
    return z


@pytest.mark.parametrize("carry", ["coupled", "independent"])
@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4)], ids=["vectors", "sequences"])
def test_dense_computes_the_equation(carry, shape):
    x = numbers(*shape)
    layer = built(HighwayDense("tanh", carry=carry, dtype="float64"), x)
    maps = zip(values(layer.kernels), values(layer.biases), strict=True)
    expected = mixed(x, [x @ kernel + bias for kernel, bias in maps])
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("carry", ["coupled", "independent"])
def test_a_convolution_computes_the_equation(carry, dilation, data_format):
    x = numbers(2, 7, 6, 3)
    layer = HighwayConv2D((3, 5), "tanh", carry=carry, dilation_rate=dilation, data_format=data_format, dtype="float64")
    inputs = x if data_format == "channels_last" else np.moveaxis(x, -1, 1)
    y = built(layer, inputs)(inputs).detach().numpy()
    maps = zip(values(layer.kernels), values(layer.biases), strict=True)
    expected = mixed(x, [convolved(x, kernel, bias, dilation) for kernel, bias in maps])
    y = y if data_format == "channels_last" else np.moveaxis(y, 1, -1)
    np.testing.assert_allclose(y, expected, rtol=0, atol=EXACT)


def test_a_sequence_equals_an_image_of_height_1():
    x = numbers(2, 9, 3)
    line = built(HighwayConv1D(3, "tanh", dilation_rate=2, dtype="float64"), x)
    image = HighwayConv2D((1, 3), "tanh", dilation_rate=(1, 2), dtype="float64")
    image.build((2, 1, 9, 3))
    for variable, value in zip(image.weights, values(line.weights), strict=True):
        variable.assign(value.reshape(variable.shape))
    expected = image(x[:, None])[:, 0].detach().numpy()
    np.testing.assert_allclose(line(x).detach().numpy(), expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("kind", [HighwayDense, lambda **of: HighwayConv2D(3, **of)], ids=["dense", "convolution"])
def test_a_closed_gate_carries_and_an_open_one_transforms(kind):
    x = numbers(2, 5, 5, 3).astype("float32")
    closed, opened = kind(gate_bias=-math.inf), kind(activation=lambda z: 0 * z + 7, gate_bias=math.inf)
    assert (closed(x).detach().numpy() == x).all()
    assert (opened(x).detach().numpy() == 7).all()


# --- the conventions of Keras


def test_regularizers_see_every_map():
    layer = HighwayDense(kernel_regularizer=keras.regularizers.L2(0.5), bias_regularizer="l1")
    layer(numbers(2, 3).astype("float32"))
    weights = sum(0.5 * (kernel**2).sum() for kernel in values(layer.kernels))
    biases = sum(0.01 * np.abs(bias).sum() for bias in values(layer.biases))
    assert sum(loss.item() for loss in layer.losses) == pytest.approx(weights + biases, rel=1e-5)  # float32


def test_constraints_hold_each_map_after_a_step():
    layer = HighwayDense(kernel_constraint=keras.constraints.MaxNorm(0.5), bias_constraint="non_neg")
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    model.fit(numbers(8, 4), numbers(8, 4, seed=1), verbose=0)
    assert all(np.linalg.norm(kernel, axis=0).max() <= 0.5 * (1 + 1e-5) for kernel in values(layer.kernels))
    assert all(bias.min() >= 0 for bias in values(layer.biases))


OPTIONS = {
    "activation": "tanh",
    "gate_bias": -1.5,
    "carry": "independent",
    "kernel_initializer": {"class_name": "HeNormal", "config": {"seed": 3}},
    "bias_initializer": "ones",
    "kernel_regularizer": "l2",
    "bias_regularizer": "l1",
    "activity_regularizer": "l2",
    "kernel_constraint": "max_norm",
    "bias_constraint": "non_neg",
}
CONV_OPTIONS = {**OPTIONS, "kernel_size": 3, "dilation_rate": 2, "data_format": "channels_first"}


@pytest.mark.parametrize("name", highway.NAMES)
def test_the_config_contains_every_argument(name):
    kind = getattr(highway, name)
    options, least = (OPTIONS, {}) if kind is HighwayDense else (CONV_OPTIONS, {"kernel_size": 1})
    config, plain = kind(**options).get_config(), kind(**least).get_config()
    assert {key for key in config if config[key] != plain.get(key)} == {*options, "name"}
    assert kind.from_config(config).get_config() == config


def trained_model():
    images = keras.Input((6, 6, 3))
    x = HighwayConv2D(3, "tanh", dilation_rate=2)(images)
    x = keras.layers.Reshape((36, 3))(x)
    x = HighwayConv1D(5, "gelu", carry="independent")(x)
    model = keras.Model(images, HighwayDense(kernel_regularizer="l2")(x))
    model.compile("adam", "mse")
    model.fit(numbers(4, 6, 6, 3), numbers(4, 36, 3, seed=1), verbose=0)
    return model


def test_a_model_can_be_saved_loaded_and_copied(tmp_path: Path):
    model, x = trained_model(), numbers(2, 6, 6, 3)
    model.save(tmp_path / "model.keras")
    expected = model.predict(x, verbose=0)
    for other in (keras.saving.load_model(tmp_path / "model.keras"), copy.deepcopy(model)):
        assert (other.predict(x, verbose=0) == expected).all()
        assert [type(layer) for layer in other.layers] == [type(layer) for layer in model.layers]


@pytest.mark.slow
def test_another_process_loads_a_model_after_importing_a_layer(tmp_path: Path):
    model, x = trained_model(), numbers(2, 6, 6, 3)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy, keras; from thruway.integrations.keras import HighwayDense; folder = sys.argv[1]; "
        "model = keras.saving.load_model(folder + '/model.keras'); "
        "numpy.save(folder + '/y.npy', model.predict(numpy.load(folder + '/x.npy'), verbose=0))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    # Threads may sum in another order: a few roundings of float32.
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.predict(x, verbose=0), rtol=0, atol=1e-5)


def test_integer_inputs_are_converted_to_floats():
    layer, x = HighwayDense("tanh"), np.arange(6).reshape(2, 3)
    assert (layer(x).detach().numpy() == layer(x.astype("float32")).detach().numpy()).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_mixed_precision_computes_in_the_narrow_dtype(policy):
    x = numbers(4, 6, 6, 3)
    for layer in (HighwayDense("tanh", dtype=policy), HighwayConv2D(3, "tanh", carry="independent", dtype=policy)):
        exact = type(layer).from_config({**layer.get_config(), "dtype": "float64"})
        y = built(layer, x)(x)
        exact.build(x.shape)
        for variable, value in zip(exact.weights, layer.weights, strict=True):
            variable.assign(value.value.detach().double().numpy())
        narrow = torch.bfloat16 if "bfloat16" in policy else torch.float16
        assert y.dtype == narrow
        assert {value.dtype for value in layer.weights} == {"float32" if "mixed" in policy else policy}
        # Pre-activations reach 10 after sums of 27 terms; neither tanh nor sigmoid makes an error larger.
        error = np.abs(y.detach().double().numpy() - exact(x).detach().numpy()).max()
        assert 0 < error < 20 * torch.finfo(narrow).eps


def test_a_model_with_unknown_batch_size_and_length_trains():
    steps = keras.Input((None, 4))
    model = keras.Model(steps, HighwayConv1D(3)(HighwayDense()(steps)))
    assert model.output_shape == (None, None, 4)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    x = numbers(64, 5, 4)
    losses = model.fit(x, np.maximum(x, 0), epochs=30, verbose=0).history["loss"]
    # A net that only carries has the error x^2 where x < 0: 1/2 on average.
    assert losses[0] < 1.0
    assert losses[-1] < losses[0] / 2


def test_dense_passes_a_mask_on():
    layer = HighwayDense()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Embedding(5, 4, mask_zero=True), layer])
    mask = model(np.array([[1, 2, 0]]))._keras_mask
    assert mask.tolist() == [[True, True, False]]


# --- errors


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: HighwayConv1D(4), ConfigError, r"kernel_size must be odd, got 4.*next odd size"),
        (lambda: HighwayConv2D((3, 2)), ConfigError, r"kernel_size must be odd, got \(3, 2\)"),
        (lambda: HighwayConv2D(3, data_format="last"), ConfigError, r"data_format 'last'.*channels_last"),
        (lambda: HighwayDense(carry="couple"), ConfigError, r"did you mean 'coupled'"),
        (lambda: HighwayDense(gate_bias=math.nan), ConfigError, r"gate_bias must be a number.*got nan"),
        (
            lambda: HighwayDense()(keras.Input((3, None))),
            ShapeError,
            r"width.*axis -1.*unknown.*Specify it in the shape of the input layer",
        ),
        (lambda: HighwayDense().build((4,)), ShapeError, r"\(batch, \.\.\., width\), got one of shape \(4,\)"),
        (lambda: HighwayConv2D(3).build((4, 4, 3)), ShapeError, r"with 4 axes.*got one of shape \(4, 4, 3\)"),
        (lambda: HighwayDense(128), ConfigError, r"got 128 as its activation.*of the input.*HighwayDense\(act"),
        (lambda: HighwayDense(units=8), ConfigError, r"no units= \(got 8\).*of the input.*HighwayDense\(act"),
        (
            lambda: HighwayDense(transform_bias=-2),
            ConfigError,
            r"no transform_bias= \(got -2\).*Write gate_bias=-2\.",
        ),
        (
            lambda: HighwayConv2D(32, 3),
            ConfigError,
            r"got 3 as its activation.*of the input.*HighwayConv2D\(3, act",
        ),
        (lambda: HighwayConv1D(32, (3,)), ConfigError, r"got \(3,\) as its.*of the input.*HighwayConv1D\(3, act"),
        (
            lambda: HighwayConv2D(3, filters=8),
            ConfigError,
            r"no filters= \(got 8\).*of the input.*HighwayConv2D\(3",
        ),
        (lambda: HighwayConv2D(3, strides=2), ConfigError, r"no strides= \(got 2\).*always 1.*HighwayConv2D\(3"),
        (lambda: HighwayConv2D(3, padding="same"), ConfigError, r'no padding= .*always "same".*HighwayConv2D\(3'),
    ],
    ids=[
        "even",
        "even in one",
        "format",
        "carry",
        "bias",
        "open width",
        "vector",
        "one image",
        "width first",
        "units",
        "transform bias",
        "filters first",
        "filters and a tuple",
        "filters",
        "strides",
        "padding",
    ],
)
def test_wrong_arguments_raise_an_error_with_advice(build, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        build()


@pytest.mark.parametrize("call", ["numbers", "symbols"])
def test_a_changed_width_is_refused(call):
    layer = HighwayConv1D(3, data_format="channels_first")
    layer(numbers(2, 4, 9))
    with pytest.raises(ShapeError, match=r"(?s)built for width 4 along axis 1.*\(.*, 5, 9\).*put a Dense"):
        layer(numbers(2, 5, 9) if call == "numbers" else keras.Input((5, 9)))
