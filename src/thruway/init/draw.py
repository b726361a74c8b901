"""Draw once, contiguously, in enough precision; then copy: the same numbers on every view, dtype and device."""

import torch
from torch import Tensor

__all__ = ["fill", "normal", "uniform"]


def uniform(like: Tensor, bound: float, generator: torch.Generator | None) -> Tensor:
    """Numbers of U[-bound, bound) in the shape of `like`."""
    return _empty(like, generator).uniform_(-bound, bound, generator=generator)


def normal(like: Tensor, std: float, generator: torch.Generator | None) -> Tensor:
    """Numbers of N(0, std^2) in the shape of `like`."""
    return _empty(like, generator).normal_(0.0, std, generator=generator)


def fill(weight: Tensor, values: Tensor) -> Tensor:
    """Write `values` into `weight`, past autograd."""
    with torch.no_grad():
        weight.copy_(values)
    return weight


def _empty(like: Tensor, generator: torch.Generator | None) -> Tensor:
    # torch's normal_ takes other numbers from the stream for strided than for contiguous tensors,
    # and bfloat16 draws fall on a coarse grid: hence a fresh contiguous tensor of at least float32.
    return torch.empty(
        like.shape,
        dtype=torch.promote_types(like.dtype, torch.float32),
        device=like.device if generator is None else generator.device,
    )
