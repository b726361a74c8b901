"""Maxout: each unit is the largest of several linear pieces."""

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, ShapeError
from thruway.nn.argument_checks import check_size

__all__ = ["Maxout"]


class Maxout(nn.Module):
    """What stands behind a layer with `pieces` outputs for each unit, and leaves the largest of them.

        y_u = max(z_{u,1}, ..., z_{u,k})

    The k pieces of a unit lie beside each other: features u·k to u·k + k - 1 of z. Where pieces tie, they share the
    gradient.

    The largest of k independent Gaussians of variance 1 has a mean square of 1 for k = 2, 1.28 for 3 and 1.80 for 5.
    So a deep stack of two pieces keeps its size with weights of variance 1 / fan_in ("lecun_normal"); He's 2 / fan_in
    doubles the mean square in each layer.

    Args:
        pieces: k, outputs for each unit, at least 2.
        dims: axes of the map: 0 for vectors (..., k·units), 1-3 for (..., k·units, *map).
    Raises:
        ConfigError: for fewer than 2 pieces, or dims outside 0 ... 3.
        ShapeError: when called on features that are no whole number of units.
    Source:
        Goodfellow, Warde-Farley, Mirza, Courville & Bengio 2013 (Maxout Networks), sec. 3; the mean squares as in
        Tseran & Montúfar 2023 (Expected Gradients of Maxout Networks).

    >>> Maxout(2)(torch.tensor([1.0, 3.0, -2.0, -5.0]))
    tensor([ 3., -2.])
    >>> nn.Sequential(nn.Conv2d(3, 8, 3), Maxout(2, dims=2))(torch.zeros(1, 3, 5, 5)).shape
    torch.Size([1, 4, 3, 3])
    """

    def __init__(self, pieces: int, dims: int = 0) -> None:
        super().__init__()
        self.pieces = check_size("pieces", pieces, least=2)
        self.dims = check_size("dims", dims, least=0)
        if self.dims > 3:
            raise ConfigError(f"dims is the number of map axes, 0 (vectors) to 3 (volumes), got {dims}.")

    def forward(self, x: Tensor) -> Tensor:
        axis = x.ndim - self.dims - 1
        if axis < 0 or x.shape[axis] % self.pieces:
            shape = ", ".join(["...", f"{self.pieces}·units", *["points"] * self.dims])
            raise ShapeError(
                f"Maxout({self.pieces}, dims={self.dims}) works on ({shape}), got {tuple(x.shape)}. Give the layer "
                f"before it {self.pieces} outputs for each unit, and pass dims=2 behind a Conv2d."
            )
        units = x.shape[axis] // self.pieces
        return torch.amax(torch.unflatten(x, axis, (units, self.pieces)), axis + 1)

    def extra_repr(self) -> str:
        return f"{self.pieces}, dims={self.dims}"
