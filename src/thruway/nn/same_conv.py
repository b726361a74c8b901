"""Several size-preserving convolutions computed by a single call."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from thruway.errors import ConfigError, unknown_name
from thruway.nn.checks import check_size
from thruway.nn.gates import split_maps

__all__ = ["SameConv", "same_conv"]

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

Size = int | tuple[int, ...]


@dataclass(frozen=True)
class SameConv:
    """Several convolutions from `channels` to `channels` in one, with odd kernels and size-preserving padding."""

    dims: int
    channels: int
    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str

    @property
    def padding(self) -> list[int]:
        """Padding of each spatial dimension that keeps the size."""
        return [step * (size // 2) for step, size in zip(self.dilation, self.kernel_size, strict=True)]

    def joint(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return all maps in one output, zero-padded: (..., maps * channels, *spatial)."""
        return _CONVOLUTIONS[self.dims](
            x, weight, bias, padding=self.padding, dilation=self.dilation, groups=self.groups
        )

    def joint_backward(
        self, g: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return (dL/dx, dL/dweight, dL/dbias) of `joint` from g = dL/dz; None for gradients that are not wanted."""
        ones, zeros = [1] * self.dims, [0] * self.dims
        found: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
            g, x, weight, [len(weight)], ones, self.padding, self.dilation, False, zeros, self.groups, wanted
        )
        return found

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        """Return one output per map in `weight` (maps * channels, channels / groups, *kernel), in order."""
        maps, each = len(weight) // self.channels, self.channels // self.groups
        if self.groups > 1:
            # A grouped convolution needs the rows of a group together: (map, group, row) -> (group, map, row).
            together = (maps, self.groups, each)
            weight = weight.reshape(*together, *weight.shape[1:]).transpose(0, 1).flatten(0, 2)
            bias = bias.reshape(together).transpose(0, 1).flatten()
        if self.padding_mode == "zeros":
            z = self.joint(x, weight, bias)
        else:
            # F.pad starts with the last dimension, two numbers for each.
            x = F.pad(x, [side for side in reversed(self.padding) for _ in range(2)], mode=self.padding_mode)
            z = _CONVOLUTIONS[self.dims](x, weight, bias, dilation=self.dilation, groups=self.groups)
        channel = z.ndim - self.dims - 1
        shape = (*z.shape[:channel], self.groups, maps, each, *z.shape[channel + 1 :])
        pieces = split_maps(z.view(shape), maps, dim=channel + 1)
        return tuple(piece.flatten(channel, channel + 2) for piece in pieces)


def same_conv(dims: int, channels: int, kernel_size: Size, dilation: Size, groups: int, padding_mode: str) -> SameConv:
    channels, groups = check_size("channels", channels), check_size("groups", groups)
    if channels % groups:
        raise ConfigError(f"groups must divide channels, got channels={channels} and groups={groups}.")
    if padding_mode not in _PADDING_MODES:
        raise ConfigError(unknown_name("padding_mode", padding_mode, _PADDING_MODES))
    kernel = _per_axis("kernel_size", kernel_size, dims)
    if any(size % 2 == 0 for size in kernel):
        raise ConfigError(
            f"kernel_size must be odd, got {kernel_size!r}: an even kernel has no centre, so its output would be "
            "shifted by half a pixel against the carried input. Use the next odd size."
        )
    return SameConv(dims, channels, kernel, _per_axis("dilation", dilation, dims), groups, padding_mode)


def _per_axis(what: str, value: Size, dims: int) -> tuple[int, ...]:
    sizes = value if isinstance(value, tuple | list) else (value,) * dims
    if len(sizes) != dims:
        raise ConfigError(f"{what} must be one number or {dims}, one for each spatial dimension, got {value!r}.")
    return tuple(check_size(what, size) for size in sizes)
