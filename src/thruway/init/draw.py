"""Random draws that are equal for every view, dtype and device: drawn contiguously, then copied."""

import torch
from torch import Tensor

__all__ = ["fill", "normal", "uniform"]


def uniform(like: Tensor, bound: float, generator: torch.Generator | None) -> Tensor:
    """Draw from U[-bound, bound) in the shape of `like`."""
    return _empty(like, generator).uniform_(-bound, bound, generator=generator)


def normal(like: Tensor, std: float, generator: torch.Generator | None) -> Tensor:
    """Draw from N(0, std^2) in the shape of `like`."""
    return _empty(like, generator).normal_(0.0, std, generator=generator)


def fill(weight: Tensor, values: Tensor) -> Tensor:
    """Copy `values` into `weight` without recording a gradient."""
    with torch.no_grad():
        weight.copy_(values)
    return weight


def _empty(like: Tensor, generator: torch.Generator | None) -> Tensor:
    # torch's normal_ draws other numbers for strided than for contiguous tensors, and bfloat16 draws are
    # coarsely rounded: hence a new contiguous tensor of at least float32.
    return torch.empty(
        like.shape,
        dtype=torch.promote_types(like.dtype, torch.float32),
        device=like.device if generator is None else generator.device,
    )
