"""How much of a surface is flat: independent of the scale of the cost."""

from torch import Tensor

from thruway.experiments.glorot2010.cost_surface_net import Surface

__all__ = ["flat_share", "is_flat", "stuck_share"]


def is_flat(surface: Surface, fraction: float) -> Tensor:
    """Where the gradient's norm is below `fraction` of the largest on the surface; everywhere if there is none."""
    steepest = surface.slope.max()
    return (surface.slope < fraction * steepest) | (steepest == 0)


def flat_share(surface: Surface, fraction: float) -> float:
    """The share of the surface that is flat.

    Source:
        Ours.

    >>> import torch
    >>> flat_share(Surface(torch.zeros(2, 2), torch.tensor([[1.0, 10.0], [0.5, 20.0]])), 0.1)
    0.5
    """
    return float(is_flat(surface, fraction).double().mean())


def stuck_share(surface: Surface, fraction: float, guessing: float) -> float:
    """The share of the surface that is flat although the net does no better than guessing: a plateau, not a minimum.

    Source:
        Ours.

    >>> import torch
    >>> surface = Surface(torch.tensor([[0.1, 2.0], [3.0, 3.0]]), torch.tensor([[0.0, 10.0], [0.5, 20.0]]))
    >>> stuck_share(surface, 0.1, guessing=1.0)
    0.25
    """
    return float((is_flat(surface, fraction) & (surface.cost >= guessing)).double().mean())
