"""Highway layers of Keras as layers of PyTorch, and back, with the weights that they have learnt."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, ShapeError
from thruway.integrations.highway_weights import with_maps
from thruway.integrations.keras_layers import NAMES, layers
from thruway.integrations.keras_parts import activation_name, import_keras
from thruway.nn import HighwayConv1d, HighwayConv2d, HighwayLinear

__all__ = ["from_torch", "to_torch"]

CONVOLUTIONS: dict[str, type[HighwayConv1d] | type[HighwayConv2d]] = {
    "HighwayConv1D": HighwayConv1d,
    "HighwayConv2D": HighwayConv2d,
}


def to_torch(
    layer: Any, activation: str | Callable[[Tensor], Tensor] | None = None
) -> HighwayLinear | HighwayConv1d | HighwayConv2d:
    """The PyTorch layer that computes what this highway layer of Keras computes, on the CPU, in its type of weights.

    Args:
        layer: a HighwayDense, HighwayConv1D or HighwayConv2D that has been built, on any backend. A convolution may be
            channels_last; its twin works on channels first, as all of PyTorch.
        activation: H's, needed only where it is none of thruway.activations.ACTIVATIONS.
    Raises:
        ConfigError: if the layer is another, or its activation has no name here.
        ShapeError: if the layer has not been built, and so has no weights.
    """
    keras, kinds = import_keras(), layers()
    name = next((name for name in NAMES if type(layer) is kinds[name]), None)
    if name is None:
        raise ConfigError(f"to_torch takes a {', '.join(NAMES[:-1])} or {NAMES[-1]}, got {type(layer).__name__}.")
    if layer.width is None:
        raise ShapeError(f"{layer.name} has no weights yet: call it once, or layer.build((None, ..., width)).")
    activation = activation_name(keras, layer.activation) if activation is None else activation
    if activation is None:
        raise ConfigError(
            f"Thruway has no name for the activation {layer.activation!r} of {layer.name}. Say what it is in PyTorch: "
            "to_torch(layer, activation=...)."
        )
    dtype = getattr(torch, layer.variable_dtype)
    weights = [_tensor(keras, kernel, dtype).movedim((-1, -2), (0, 1)) for kernel in layer.kernels]
    biases = [_tensor(keras, bias, dtype) for bias in layer.biases]
    about = (activation, layer.gate_bias, layer.carry)
    if layer.conv is None:
        return with_maps(HighwayLinear(layer.width, *about, device="meta"), weights, biases)
    size, dilation = layer.conv.kernel_size, layer.conv.dilation
    conv = CONVOLUTIONS[name](layer.width, size, *about, dilation=dilation, device="meta")
    return with_maps(conv, weights, biases)


def from_torch(module: nn.Module, **arguments: Any) -> Any:
    """The built Keras layer that computes what this highway layer of PyTorch computes.

    Args:
        module: a HighwayLinear, HighwayConv1d or HighwayConv2d.
        arguments: of the Keras layer, such as name, dtype or data_format. dtype is the module's unless it is given
            here; activation must be given if the module's has no name in thruway.activations.ACTIVATIONS.
    Raises:
        ConfigError: if the module is another, lies on the meta device, has groups or a padding that the Keras layers
            have not, or an activation without a name; for an argument that the module decides.
    """
    if not isinstance(module, HighwayLinear | HighwayConv1d | HighwayConv2d):
        raise ConfigError(
            f"from_torch takes a HighwayLinear, HighwayConv1d or HighwayConv2d, got {type(module).__name__}."
        )
    decided = sorted(arguments.keys() & {"gate_bias", "carry", "kernel_size", "dilation_rate"})
    if decided:
        raise ConfigError(
            f"from_torch takes {', '.join(decided)} from the module, got {decided[0]}={arguments[decided[0]]!r}. Leave "
            "it out, or build the module with it."
        )
    if module.weight.is_meta or module.bias.is_meta:
        raise ConfigError(
            'from_torch copies weights, and those of this module lie on the device "meta", which has no numbers. Load '
            "them first: module.to_empty(device='cpu'), then load_state_dict or reset_parameters."
        )
    usual = {"activation": module.activation_name, "dtype": str(module.weight.dtype).removeprefix("torch.")}
    chosen = {**usual, **arguments}
    if chosen["activation"] is None:
        raise ConfigError(
            f"Thruway has no name for the activation {module.activation}. Say what it is in Keras: "
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
    """Which Keras layer it is, of what width, and what only a convolution has."""
    if isinstance(module, HighwayLinear):
        return "HighwayDense", module.width, {}
    conv = module.conv
    if conv.groups != 1 or conv.padding_mode != "zeros":
        raise ConfigError(
            f"the Keras layers have one group and zeros beyond the edge, got groups={conv.groups}, "
            f"padding_mode={conv.padding_mode!r}. No Keras layer here computes the same."
        )
    name = next(name for name, kind in CONVOLUTIONS.items() if type(module) is kind)
    return name, conv.channels, {"kernel_size": conv.kernel_size, "dilation_rate": conv.dilation}


def _tensor(keras: Any, variable: Any, dtype: torch.dtype) -> Tensor:
    value = variable.value
    if not isinstance(value, Tensor):
        # By way of float64, which holds all the types: torch does not read the bfloat16 that NumPy is lent.
        value = torch.from_numpy(np.asarray(keras.ops.convert_to_numpy(value), np.float64))
    return value.detach().to("cpu", dtype)
