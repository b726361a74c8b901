"""Maxout activation: each unit is the maximum of several linear pieces."""

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, ShapeError
from thruway.nn.checks import check_size

__all__ = ["Maxout"]


class Maxout(nn.Module):
    """The maximum of each group of `pieces` features, for use after a layer with `pieces` outputs per unit.

        y_u = max(z_{u,1}, ..., z_{u,k})

    The k pieces of a unit are adjacent: features u·k to u·k + k - 1 of z. Pieces with equal values share the gradient.

    The maximum of k independent Gaussians of variance 1 has a mean square of 1 for k = 2, 1.28 for 3 and 1.80 for 5.
    Weights of variance 1 / fan_in ("lecun_normal") therefore preserve the mean square in a deep stack with two pieces;
    He's variance, 2 / fan_in, doubles it in each layer.

    Args:
        pieces: k, number of features per unit, at least 2.
        dims: number of spatial dimensions: 0 for vectors (..., k·units), 1-3 for (..., k·units, *spatial).
    Raises:
        ConfigError: if there are fewer than 2 pieces, or dims is outside 0 ... 3.
        ShapeError: if the number of features of an input is not a multiple of `pieces`.
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
            raise ConfigError(f"dims must be the number of spatial dimensions, 0 (vectors) to 3 (volumes), got {dims}.")

    def forward(self, x: Tensor) -> Tensor:
        axis = x.ndim - self.dims - 1
        if axis < 0 or x.shape[axis] % self.pieces:
            shape = ", ".join(["...", f"{self.pieces}·units", *["points"] * self.dims])
            raise ShapeError(
                f"Maxout({self.pieces}, dims={self.dims}) takes ({shape}), got {tuple(x.shape)}. Give the layer "
                f"before it {self.pieces} outputs per unit, and pass dims=2 after a Conv2d."
            )
        units = x.shape[axis] // self.pieces
        return torch.amax(torch.unflatten(x, axis, (units, self.pieces)), axis + 1)

    def extra_repr(self) -> str:
        return f"{self.pieces}, dims={self.dims}"
