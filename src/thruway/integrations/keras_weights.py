"""Conversion of trained highway layers between Keras and PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, ShapeError
from thruway.integrations.highway_weights import with_parameters
from thruway.integrations.keras_arguments import activation_name, import_keras
from thruway.integrations.keras_layers import NAMES, layers
from thruway.nn import HighwayConv1d, HighwayConv2d, HighwayLinear

__all__ = ["from_torch", "to_torch"]

CONVOLUTIONS: dict[str, type[HighwayConv1d] | type[HighwayConv2d]] = {
    "HighwayConv1D": HighwayConv1d,
    "HighwayConv2D": HighwayConv2d,
}


def to_torch(
    layer: Any, activation: str | Callable[[Tensor], Tensor] | None = None
) -> HighwayLinear | HighwayConv1d | HighwayConv2d:
    """Convert a Keras highway layer into the equivalent PyTorch layer, on the CPU, with the dtype of its weights.

    Args:
        layer: a built HighwayDense, HighwayConv1D or HighwayConv2D, on any backend. The PyTorch convolution expects
            channels first, also if the Keras layer is channels_last.
        activation: activation of H; required only if it is not in thruway.activations.ACTIVATIONS.
    Raises:
        ConfigError: if the layer is of a different class, or its activation has no name in Thruway.
        ShapeError: if the layer has not been built and has no weights.
    """
    keras, kinds = import_keras(), layers()
    name = next((name for name in NAMES if type(layer) is kinds[name]), None)
    if name is None:
        raise ConfigError(f"to_torch takes a {', '.join(NAMES[:-1])} or {NAMES[-1]}, got {type(layer).__name__}.")
    if layer.width is None:
        raise ShapeError(f"{layer.name} has no weights yet: call it once, or call layer.build((None, ..., width)).")
    activation = activation_name(keras, layer.activation) if activation is None else activation
    if activation is None:
        raise ConfigError(
            f"Thruway has no name for the activation {layer.activation!r} of {layer.name}. Pass its PyTorch "
            "equivalent: to_torch(layer, activation=...)."
        )
    dtype = getattr(torch, layer.variable_dtype)
    weights = [_tensor(keras, kernel, dtype).movedim((-1, -2), (0, 1)) for kernel in layer.kernels]
    biases = [_tensor(keras, bias, dtype) for bias in layer.biases]
    arguments = (activation, layer.gate_bias, layer.carry)
    if layer.conv is None:
        return with_parameters(HighwayLinear(layer.width, *arguments, device="meta"), weights, biases)
    size, dilation = layer.conv.kernel_size, layer.conv.dilation
    conv = CONVOLUTIONS[name](layer.width, size, *arguments, dilation=dilation, device="meta")
    return with_parameters(conv, weights, biases)


def from_torch(module: nn.Module, **arguments: Any) -> Any:
    """Convert a PyTorch highway layer into the equivalent built Keras layer.

    Args:
        module: a HighwayLinear, HighwayConv1d or HighwayConv2d.
        arguments: arguments of the Keras layer, such as name, dtype or data_format. Default dtype: that of the module.
            `activation` is required if the module's is not in thruway.activations.ACTIVATIONS.
    Raises:
        ConfigError: if the module is of a different class, is on the meta device, has groups or a padding mode that the
            Keras layers do not support, or its activation has no name; or if an argument is determined by the module.
    """
    if not isinstance(module, HighwayLinear | HighwayConv1d | HighwayConv2d):
        raise ConfigError(
            f"from_torch takes a HighwayLinear, HighwayConv1d or HighwayConv2d, got {type(module).__name__}."
        )
    fixed = sorted(arguments.keys() & {"gate_bias", "carry", "kernel_size", "dilation_rate"})
    if fixed:
        raise ConfigError(
            f"from_torch takes {', '.join(fixed)} from the module, got {fixed[0]}={arguments[fixed[0]]!r}. Omit it, or "
            "build the module with it."
        )
    if module.weight.is_meta or module.bias.is_meta:
        raise ConfigError(
            'from_torch copies weights, but this module is on the device "meta", which stores no values. Load weights '
            "first: module.to_empty(device='cpu'), then load_state_dict or reset_parameters."
        )
    defaults = {"activation": module.activation_name, "dtype": str(module.weight.dtype).removeprefix("torch.")}
    chosen = {**defaults, **arguments}
    if chosen["activation"] is None:
        raise ConfigError(
            f"Thruway has no name for the activation {module.activation}. Pass its Keras equivalent: "
            "from_torch(module, activation=...)."
        )
    name, width, shape = _shape(module)
    layer = layers()[name](gate_bias=module.gate_bias, carry=module.carry, **shape, **chosen)
    axes: list[int | None] = [None] * module.weight.ndim
    axes[layer.axis] = width
    layer.build(tuple(axes))
    weights = [part.movedim((0, 1), (-1, -2)) for part in module.weight.detach().chunk(len(layer.kernels))]
    biases = module.bias.detach().chunk(len(layer.biases))
    for variable, part in zip([*layer.kernels, *layer.biases], [*weights, *biases], strict=True):
        variable.assign(part.cpu().double().numpy())
    return layer


def _shape(module: HighwayLinear | HighwayConv1d | HighwayConv2d) -> tuple[str, int, dict[str, tuple[int, ...]]]:
    """Return the name of the Keras layer, the width, and the convolution arguments if there are any."""
    if isinstance(module, HighwayLinear):
        return "HighwayDense", module.width, {}
    conv = module.conv
    if conv.groups != 1 or conv.padding_mode != "zeros":
        raise ConfigError(
            f"the Keras layers support only groups=1 and padding_mode='zeros', got groups={conv.groups}, "
            f"padding_mode={conv.padding_mode!r}. This module has no Keras equivalent."
        )
    name = next(name for name, kind in CONVOLUTIONS.items() if type(module) is kind)
    return name, conv.channels, {"kernel_size": conv.kernel_size, "dilation_rate": conv.dilation}


def _tensor(keras: Any, variable: Any, dtype: torch.dtype) -> Tensor:
    value = variable.value
    if not isinstance(value, Tensor):
        # Via float64, which represents all dtypes exactly: torch cannot read NumPy's bfloat16 extension type.
        value = torch.from_numpy(np.asarray(keras.ops.convert_to_numpy(value), np.float64))
    return value.detach().to("cpu", dtype)
