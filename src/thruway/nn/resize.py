"""Shortcut that changes the number of features and the spatial size."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.init.parts import Part
from thruway.nn.checks import check_size
from thruway.nn.gates import draw_parts_

__all__ = ["Resize"]

_HOW = ("pad", "project")
_LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Resize(nn.Module):
    """Map x to another number of features and, with a stride, to a smaller spatial size.

    how="pad" has no parameters. It sub-samples every `stride`-th point along each spatial dimension, starting with the
    first, which gives as many points as a convolution of that stride with an odd kernel and same padding. Additional
    features are zeros after the old ones. If there are fewer features, evenly spaced ones are selected: feature
    floor(i·inputs / outputs) for i = 0, 1, ...

    how="project" is an affine layer, in the submodule `projection`: Linear on vectors, a convolution of size 1 on
    maps. For a layer with an activation, as between the stages of the papers' networks, use `Plain`.

    Args:
        inputs: number of features (channels) of x.
        outputs: number of features (channels) of y.
        stride: stride of the sub-sampling; 1 keeps the spatial size.
        dims: number of spatial dimensions: 0 for vectors (..., inputs), 1-3 for (..., inputs, *spatial).
        how: "pad" or "project".
        generator: generator of the initial projection. If None, PyTorch's global generator.
    Raises:
        ConfigError: if a size is below 1, `dims` is above 3, `how` is unknown, or vectors are given a stride.
        ShapeError: when called on an input without `inputs` features before its spatial dimensions.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 2.1 (sub-sampling and zero-padding);
        He et al. 2015, sec. 3.3, options A (pad) and B (project). The selection of features in a narrower output is
        ours.

    >>> Resize(2, 4)(torch.tensor([1.0, 2.0]))
    tensor([1., 2., 0., 0.])
    >>> Resize(1, 1, stride=2, dims=1)(torch.arange(5.0).reshape(1, 1, 5))
    tensor([[[0., 2., 4.]]])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        dims: int = 0,
        how: Literal["pad", "project"] = "pad",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs = check_size("inputs", inputs), check_size("outputs", outputs)
        self.stride, self.dims = check_size("stride", stride), check_size("dims", dims, least=0)
        if self.dims > 3:
            raise ConfigError(f"dims must be the number of spatial dimensions, 0 (vectors) to 3 (volumes), got {dims}.")
        if self.dims == 0 and self.stride > 1:
            raise ConfigError(
                f"stride={stride} needs spatial dimensions: pass dims=1, 2 or 3, or stride=1 for vectors."
            )
        if how not in _HOW:
            raise ConfigError(unknown_name("how", how, _HOW))
        self.how = how
        self.projection = self._draw_projection(device, dtype, generator) if how == "project" else None

    def forward(self, x: Tensor) -> Tensor:
        axis = x.ndim - self.dims - 1
        if axis < 0 or x.shape[axis] != self.inputs:
            shape = ", ".join(["...", str(self.inputs), *["points"] * self.dims])
            raise ShapeError(
                f"Resize({self.inputs}, {self.outputs}, dims={self.dims}) takes ({shape}), got {tuple(x.shape)}. "
                "Build it with the features of its input, and dims=2 for images."
            )
        if self.projection is not None:
            y: Tensor = self.projection(x)
            return y
        if self.stride > 1:
            x = x[tuple([slice(None)] * (axis + 1) + [slice(None, None, self.stride)] * self.dims)]
        if self.outputs > self.inputs:
            return F.pad(x, [*[0, 0] * self.dims, 0, self.outputs - self.inputs])
        if self.outputs < self.inputs:
            kept = torch.arange(self.outputs, device=x.device) * self.inputs // self.outputs
            return x.index_select(axis, kept)
        return x

    def extra_repr(self) -> str:
        return f"{self.inputs}, {self.outputs}, stride={self.stride}, dims={self.dims}, how={self.how!r}"

    def _draw_projection(
        self, device: torch.device | str | None, dtype: torch.dtype | None, generator: torch.Generator | None
    ) -> nn.Module:
        sizes = {} if self.dims == 0 else {"kernel_size": 1, "stride": self.stride}
        # PyTorch's layers draw from the global generator when they are built, except on the meta device.
        layer = _LAYERS[self.dims](self.inputs, self.outputs, **sizes, device="meta", dtype=dtype)
        layer = layer.to_empty(device=torch.get_default_device() if device is None else device)
        draw_parts_([Part("projection", layer.get_parameter("weight"), layer.get_parameter("bias"))], generator)
        return layer
