"""How many directions a layer's activations use."""

import math

import torch
from torch import Tensor

from thruway.watching.quantities.rows import Rows

__all__ = ["LIMIT", "effective_rank"]

# Inputs, and units, that are looked at: a 256 x 256 spectrum takes some 6 ms on one core.
LIMIT = 256


def effective_rank(rows: Rows) -> Tensor:
    """How many directions the activations use: the exponential of the entropy of their singular values.

        p_k = σ_k / Σ σ,    erank = exp(-Σ p_k log p_k)

    Of the matrix (inputs, units) as it is, the mean over inputs not taken out. Of more than 256 inputs or units, 256
    evenly taken ones. Positions of an image or a sequence count as inputs; those with a value that is not finite are
    left out.

    Args:
        rows: a block of k tensors.
    Returns:
        (k,), from 1 (all inputs give multiples of one vector) to min(inputs, units); 0 where everything is zero, NaN
        where no input is finite.
    Source:
        Roy & Vetterli 2007 (The effective rank), definition 1.

    >>> effective_rank(Rows(torch.stack([torch.eye(3), torch.ones(3, 3)])))
    tensor([3.0000, 1.0000])
    """
    matrix = _sampled(rows).double()
    usable = torch.isfinite(matrix).all(2)
    # A row of zeros adds nothing to the singular values, as if the input were not there.
    matrix = torch.where(usable[:, :, None], matrix, 0.0)
    largest = matrix.abs().amax((1, 2), keepdim=True)
    matrix = matrix / torch.where(largest > 0, largest, 1.0)
    # In float64 the squares lose only singular values below 1e-8 of the largest: float32 activations carry such noise.
    gram = matrix @ matrix.mT if matrix.shape[1] <= matrix.shape[2] else matrix.mT @ matrix
    sigma = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    share = sigma / sigma.sum(1, keepdim=True)
    rank = torch.special.entr(share).sum(1).exp()
    rank = torch.where(largest.flatten() > 0, rank, 0.0)
    return torch.where(usable.any(1), rank, math.nan).to(rows.flat.dtype)


def _sampled(rows: Rows) -> Tensor:
    """(k, inputs, units), at most LIMIT of each."""
    values = rows.values
    if values.dim() == 1:
        return values[:, None, None]
    units_last = values.movedim(rows.unit_dim % (values.dim() - 1) + 1, -1)
    units_last = units_last[..., _evenly(units_last.shape[-1], values.device)]
    matrix = units_last.reshape(len(values), -1, units_last.shape[-1])
    return matrix[:, _evenly(matrix.shape[1], values.device)]


def _evenly(count: int, device: torch.device) -> Tensor:
    taken = min(count, LIMIT)
    return torch.arange(taken, device=device) * count // taken
