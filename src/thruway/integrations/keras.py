"""Highway layers for Keras 3, on each of its backends, and their weights to and from the PyTorch layers.

    HighwayDense(activation="relu", gate_bias=-2.0, carry="coupled")
    HighwayConv1D(kernel_size, activation="relu", gate_bias=-2.0, carry="coupled", dilation_rate=1, data_format=None)
    HighwayConv2D(kernel_size, activation="relu", gate_bias=-2.0, carry="coupled", dilation_rate=1, data_format=None)

The width is that of the input. All take `kernel_initializer`, `bias_initializer`, and a regularizer and a constraint
for `kernel` and `bias`, as Keras's layers do; `help(HighwayDense)` says what they mean with several maps.

Behind the extra `keras`. Keras is imported when the first of the layers is asked for, which also lets
`keras.saving.load_model` know them: name one before you load a model that has one.
"""

from typing import Any

from thruway.integrations.keras_layers import NAMES, layers
from thruway.integrations.keras_weights import from_torch, to_torch

__all__ = ["from_torch", "to_torch"]


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return layers()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
