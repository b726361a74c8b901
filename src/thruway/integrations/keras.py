"""Highway layers for Keras 3, on all of its backends, and conversion of weights to and from the PyTorch layers.

    HighwayDense(activation="relu", gate_bias=-2.0, carry="coupled")
    HighwayConv1D(kernel_size, activation="relu", gate_bias=-2.0, carry="coupled", dilation_rate=1, data_format=None)
    HighwayConv2D(kernel_size, activation="relu", gate_bias=-2.0, carry="coupled", dilation_rate=1, data_format=None)

The output width equals the input width. As in Keras's own layers, there are an initializer, a regularizer and a
constraint for `kernel` and for `bias`; `help(HighwayDense)` describes how they apply to several maps.

Needs the extra `keras`. Keras is imported when one of these layers is first imported, which also registers all of them
with `keras.saving.load_model`: import one before you load a model that contains one.
"""

from typing import Any

from thruway.integrations.keras_layers import NAMES, layers
from thruway.integrations.keras_weights import from_torch, to_torch

__all__ = ["from_torch", "to_torch"]


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return layers()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
