"""What a function does to the signal that goes in, as far as a projection shortcut may hold it: a table by name."""

from collections.abc import Callable
from typing import Any, Literal

from thruway.watching.operations import MAPS

__all__ = ["Role", "role_of"]

# The signal kept, if seen otherwise, resized or normed; a part of it; shifted or scaled; its form alone; mapped by
# weights; or anything else.
Role = Literal["kept", "piece", "scaled", "form", "map", "other"]

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
_FORMS = (
    "zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty new_tensor"
)

_NAMES: dict[Role, str] = {"kept": _KEPT, "piece": _PIECES, "scaled": _SCALED, "form": _FORMS}
_ROLES: dict[str, Role] = {name: role for role, names in _NAMES.items() for name in names.split()}


def role_of(function: Callable[..., Any]) -> Role:
    """By its plain name: methods, operators and in-place forms are as the function.

    >>> import torch
    >>> [role_of(f) for f in (torch.conv2d, torch.batch_norm, torch.Tensor.__getitem__, torch.Tensor.mul_, torch.relu)]
    ['map', 'kept', 'piece', 'scaled', 'other']
    """
    name = getattr(function, "__name__", "").strip("_")
    return _ROLES.get(name) or ("map" if function in MAPS else "other")
