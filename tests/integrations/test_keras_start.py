"""Initial weights of the Keras layers: those of the PyTorch layers, different for each map."""

import itertools
import math
import os
import random

import numpy as np
import pytest

import thruway.integrations.keras as highway
from thruway.activations import ACTIVATIONS

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", minversion="3")
HighwayDense, HighwayConv1D, _ = (getattr(highway, name) for name in highway.NAMES)

pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="the other backends: test_keras_backends.py")


@pytest.fixture(autouse=True)
def fixed_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fix the seed that Keras draws from Python's generator for an initializer without a seed."""
    monkeypatch.setattr(random, "randint", random.Random(0).randint)


def values(tensors) -> list[np.ndarray]:
    return [np.asarray(each.value.detach()) for each in tensors]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_initial_weights_follow_the_pytorch_layers(activation):
    width = 200
    layer = HighwayDense(activation, gate_bias=-3, carry="independent")
    layer.build((None, width))
    for kernel, gain in zip(values(layer.kernels), (ACTIVATIONS[activation].gain, 1, 1), strict=True):
        limit = gain * math.sqrt(6 / (width + width))  # Glorot & Bengio 2010, eq. 16
        assert np.abs(kernel).max() <= limit * (1 + 1e-6)  # kept in float32
        # A uniform variable's fourth moment makes the sample variance's standard error sqrt(0.8 / n) of it.
        assert kernel.var() == pytest.approx(limit**2 / 3, rel=5 * math.sqrt(0.8 / kernel.size))
    assert [set(bias.tolist()) for bias in values(layer.biases)] == [{0.0}, {-3.0}, {3.0}]


SEEDS = {
    "no initialiser": lambda: None,
    "a name": lambda: "he_normal",
    "a seed": lambda: keras.initializers.HeNormal(seed=7),
    "a generator": lambda: keras.initializers.HeNormal(seed=keras.random.SeedGenerator(7)),
}


@pytest.mark.parametrize("case", SEEDS)
def test_no_two_maps_have_the_same_initial_weights(case):
    layer = HighwayDense(carry="independent", kernel_initializer=SEEDS[case]())
    layer.build((None, 4))
    for one, other in itertools.combinations(values(layer.kernels), 2):
        assert not np.isclose(one, other).all()


def test_a_seed_gives_the_same_weights_again():
    first, second = (HighwayConv1D(3, kernel_initializer=keras.initializers.HeNormal(seed=7)) for _ in range(2))
    first.build((None, 9, 2)), second.build((None, 9, 2))
    assert all((a == b).all() for a, b in zip(values(first.weights), values(second.weights), strict=True))


@pytest.mark.parametrize(
    "initializer", ["ones", lambda shape, dtype=None: keras.ops.ones(shape, dtype)], ids=["name", "function"]
)
def test_initializers_without_a_seed_are_used_unchanged(initializer):
    layer = HighwayDense(kernel_initializer=initializer, bias_initializer="ones")
    layer.build((None, 2))
    assert all((kernel == 1).all() for kernel in values(layer.kernels))
    assert [bias.tolist() for bias in values(layer.biases)] == [[1, 1], [-2, -2]]
