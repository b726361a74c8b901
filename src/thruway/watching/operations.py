"""Tables of the PyTorch functions and modules that are captured, and of their effect on the input."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

__all__ = [
    "ACTIVATION_FUNCTIONS",
    "ACTIVATION_MODULES",
    "ADDS",
    "BLENDS",
    "MAPS",
    "PRODUCTS",
    "Role",
    "activation_of_call",
    "role_of",
]


_NAMES = (
    "relu relu6 tanh sigmoid softsign hardtanh hardsigmoid hardswish elu selu celu gelu silu mish softplus "
    "leaky_relu prelu rrelu logsigmoid tanhshrink softshrink hardshrink glu softmax log_softmax"
)


def _functions(name: str) -> list[Callable[..., Any]]:
    """Return all PyTorch functions of one activation, including the in-place ones."""
    homes = (torch, torch.Tensor, F, torch.special, torch._C._nn)
    return [f for home in homes for f in (getattr(home, name, None), getattr(home, f"{name}_", None)) if f is not None]


ACTIVATION_FUNCTIONS: dict[Callable[..., Any], str] = {f: name for name in _NAMES.split() for f in _functions(name)} | {
    torch.special.expit: "sigmoid"
}

ACTIVATION_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Softsign: "softsign",
    nn.Hardtanh: "hardtanh",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Hardswish: "hardswish",
    nn.ELU: "elu",
    nn.SELU: "selu",
    nn.CELU: "celu",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Mish: "mish",
    nn.Softplus: "softplus",
    nn.LeakyReLU: "leaky_relu",
}


def activation_of_call(name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the activation with the same ends as the call: hardtanh(0, 6) is ReLU6. Other limits return None.

    Saturation is only defined for the ends in `quantities.saturation.ENDS`.
    """
    if name == "hardtanh":
        low = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
        high = args[2] if len(args) > 2 else kwargs.get("max_val", 1.0)
        return {(-1.0, 1.0): "hardtanh", (0.0, 6.0): "relu6"}.get((float(low), float(high)))
    if name == "elu":
        return name if float(args[1] if len(args) > 1 else kwargs.get("alpha", 1.0)) == 1.0 else None
    return name


ADDS: frozenset[Callable[..., Any]] = frozenset(
    (
        torch.add,
        torch.Tensor.add,
        torch.Tensor.add_,
        torch.Tensor.__add__,
        torch.Tensor.__radd__,
        torch.Tensor.__iadd__,
        operator.iadd,
    )
)
BLENDS: frozenset[Callable[..., Any]] = frozenset((torch.lerp, torch.Tensor.lerp, torch.Tensor.lerp_))
PRODUCTS: frozenset[Callable[..., Any]] = frozenset(
    (torch.mul, torch.multiply, torch.Tensor.mul, torch.Tensor.mul_, torch.Tensor.__mul__, torch.Tensor.__rmul__)
)


@dataclass(frozen=True)
class Map:
    """A function that takes the weight of a layer as positional argument number `weight_at`."""

    name: str
    weight_at: int


MAPS: dict[Callable[..., Any], Map] = {
    F.linear: Map("linear", 1),
    F.bilinear: Map("bilinear", 2),
    F.conv1d: Map("conv1d", 1),
    F.conv2d: Map("conv2d", 1),
    F.conv3d: Map("conv3d", 1),
    F.conv_transpose1d: Map("conv_transpose1d", 1),
    F.conv_transpose2d: Map("conv_transpose2d", 1),
    F.conv_transpose3d: Map("conv_transpose3d", 1),
    F.batch_norm: Map("batch_norm", 3),
    F.layer_norm: Map("layer_norm", 2),
    F.group_norm: Map("group_norm", 2),
    F.rms_norm: Map("rms_norm", 2),
    F.embedding: Map("embedding", 1),
}

# What a function does to its input, which decides whether it may be part of a projection shortcut:
#   kept       the values reshaped, resized, padded, joined or normalised
#   piece      a part of the input
#   scaled     scaled or shifted
#   shape      a new tensor of the input's shape or type
#   map        multiplied by weights
#   pointwise  another function of each value
#   other      anything else
Role = Literal["kept", "piece", "scaled", "shape", "map", "pointwise", "other"]

_KEPT = (
    "view view_as reshape reshape_as flatten unflatten transpose permute movedim swapaxes contiguous clone to float "
    "double half bfloat16 type type_as squeeze unsqueeze expand expand_as "
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout "
    "pad constant_pad_nd cat concat concatenate repeat repeat_interleave interpolate upsample pixel_shuffle "
    "pixel_unshuffle avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    "batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm normalize"
)
_PIECES = "getitem select narrow chunk split unbind tensor_split index_select gather"
_SCALED = "mul imul rmul multiply div truediv itruediv divide add iadd radd sub isub subtract neg"
_SHAPES = (
    "zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty new_tensor"
)
_POINTWISE = (
    "relu relu6 tanh sigmoid expit softsign hardtanh hardsigmoid hardswish elu selu celu gelu silu mish softplus "
    "leaky_relu logsigmoid tanhshrink softshrink hardshrink pow rpow square sqrt rsqrt exp exp2 expm1 log log1p erf "
    "erfc abs clamp clamp_min clamp_max clip reciprocal rdiv rtruediv rsub"
)

_ROLE_NAMES: dict[Role, str] = {
    "kept": _KEPT,
    "piece": _PIECES,
    "scaled": _SCALED,
    "shape": _SHAPES,
    "pointwise": _POINTWISE,
}
_ROLES: dict[str, Role] = {name: role for role, names in _ROLE_NAMES.items() for name in names.split()}


def role_of(function: Callable[..., Any]) -> Role:
    """Return the role of a function by its plain name; methods, operators and in-place forms have the same role.

    >>> [role_of(f) for f in (torch.conv2d, torch.batch_norm, torch.Tensor.__getitem__, torch.Tensor.mul_, torch.relu)]
    ['map', 'kept', 'piece', 'scaled', 'pointwise']
    """
    name = getattr(function, "__name__", "").strip("_")
    return _ROLES.get(name) or ("map" if function in MAPS else "other")
