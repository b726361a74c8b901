"""Quantities of the units of a layer: input dependence, dead units and effective rank."""

import math

import torch
from torch import Tensor

from thruway.watching.quantities.rows import Rows
from thruway.watching.sites import Site

__all__ = [
    "RANK_LIMIT",
    "LastActive",
    "active_units",
    "effective_rank",
    "input_correlation",
    "input_dependence",
    "position_correlation",
]

# The most inputs, and the most units, in a spectrum: one of 256 x 256 takes about 6 ms on one core.
RANK_LIMIT = 256


def input_dependence(rows: Rows) -> Tensor:
    """Return the standard deviation over inputs, averaged over units, (k,); NaN without a dimension of inputs."""
    if not rows.inputs:
        return torch.full_like(rows.mean, math.nan)
    if not (rows.all_finite and rows.squares_in_range):
        return _finite_input_dependence(rows)
    centred = rows.values - rows.values.mean(rows.inputs, keepdim=True)
    spread: Tensor = torch.linalg.vector_norm(centred, dim=rows.inputs)
    inputs = rows.count / spread.shape[1]
    return spread.mean(1).div(math.sqrt(inputs))


def _finite_input_dependence(rows: Rows) -> Tensor:
    """Return the same from finite values, scaled by the largest value of each tensor: gates may be below 1e-20."""
    finite = torch.isfinite(rows.values)
    scale = torch.where(rows.abs_max > 0, rows.abs_max, 1.0)
    shares = torch.where(finite, rows.values, 0.0) / scale.view(-1, *[1] * (rows.values.dim() - 1))
    inputs = finite.sum(rows.inputs, keepdim=True).to(shares.dtype)
    centred = torch.where(finite, shares - shares.sum(rows.inputs, keepdim=True) / inputs, 0.0)
    spread: Tensor = torch.linalg.vector_norm(centred, dim=rows.inputs) / inputs.flatten(1).sqrt()
    return spread.nanmean(1) * scale


def input_correlation(rows: Rows) -> Tensor:
    """Return the share of the mean square that is the same for all inputs: ||E_x h||^2 / E||h||^2.

    It is 0 if outputs of different inputs are uncorrelated, and 1 if the layer returns the same for every input. The
    inputs are the entries of the first dimension. Of values that are not finite, no correlation is known.

    Args:
        rows: a block of k tensors.
    Returns:
        The correlation, (k,), from 0 to 1; NaN for fewer than two inputs, for values that are not finite, and if all
        values are zero.

    >>> input_correlation(Rows(torch.tensor([[[1.0, 2.0], [1.0, 2.0]], [[1.0, 2.0], [-1.0, 2.0]]])))
    tensor([1.0000, 0.8000])
    """
    return _common_share(rows, 1)


def position_correlation(rows: Rows) -> Tensor:
    """Return the share of the mean square that is the same at all positions of a sequence: E_s ||E_t h||^2 / E ||h||^2.

    The means E_t are over the positions of one sequence, and E_s over sequences. It is 1 if attention has made the
    tokens of each sequence alike, however different the sequences are.

    Args:
        rows: a block of k tensors of sequences, positions and units, or sequences, units and positions.
    Returns:
        The correlation, (k,), from 0 to 1; NaN for fewer than two positions, for values that are not finite, and if all
        values are zero.

    >>> position_correlation(Rows(torch.tensor([[[[1.0, 2.0], [1.0, 2.0]], [[1.0, 2.0], [-1.0, 2.0]]]])))
    tensor([0.9000])
    """
    return _common_share(rows, rows.inputs[1] if len(rows.inputs) > 1 else 1)


def _common_share(rows: Rows, dim: int) -> Tensor:
    """Return the share of the mean square that is the same along a dimension."""
    values = rows.values
    if values.dim() < 3 or values.shape[dim] < 2:
        return torch.full_like(rows.mean, math.nan)
    size = rows.plain_root_mean_square
    if size is None:
        scale = torch.where(rows.abs_max > 0, rows.abs_max, 1.0)
        values, size = values / scale.view(-1, *[1] * (values.dim() - 1)), rows.root_mean_square / scale
    centre = values.mean(dim).flatten(1)
    common = torch.linalg.vector_norm(centre, dim=1) / math.sqrt(centre.shape[1])
    # The size is that of the finite values, the mean that of all: it is infinite where a mask is.
    correlation: Tensor = (common / size).square().clamp_max(1.0)
    return torch.where(torch.isfinite(common), correlation, math.nan)


def active_units(rows: Rows) -> Tensor:
    """Return a mask of the units that are nonzero for some input, (k, units), bool. NaN counts as nonzero."""
    size = rows.values.abs()
    if rows.inputs:
        size = size.amax(rows.inputs)
    return size.reshape(len(size), -1) != 0


class LastActive:
    """Computes the exact share of units that were inactive in the last `window` samples.

    Only the sample at which each unit was last active is stored: one number per unit, and no history.
    """

    def __init__(self) -> None:
        self._samples: dict[tuple[str, Site], tuple[int, Tensor]] = {}

    def __call__(self, quantity: str, window: int, sites: tuple[Site, ...], active: Tensor) -> Tensor:
        """Add a sample of active units and return the share of inactive units.

        Args:
            quantity: name of the quantity.
            window: number of samples to look back, or fewer if there are fewer.
            sites: k sites.
            active: (k, units), bool.
        Returns:
            (k,)
        """
        shares = []
        for site, row in zip(sites, active, strict=True):
            seen, last = self._samples.get((quantity, site), (0, None))
            if last is None or last.shape != row.shape:
                seen, last = 0, torch.full_like(row, -1, dtype=torch.int32)
            last = torch.where(row, seen, last)
            self._samples[quantity, site] = seen + 1, last
            shares.append((last < max(0, seen + 1 - window)).float().mean())
        return torch.stack(shares)


def effective_rank(rows: Rows) -> Tensor:
    """Return the number of directions that activations use: the exponential of the entropy of their singular values.

        p_k = σ_k / Σ σ,    erank = exp(-Σ p_k log p_k)

    The matrix is (inputs, units), without subtracting the mean over inputs. If there are more than 256 inputs or units,
    256 evenly spaced ones are used. Positions of an image or a sequence count as inputs. Inputs with a value that is
    not finite are excluded.

    Args:
        rows: a block of k tensors.
    Returns:
        The effective rank, (k,), from 1 (all inputs give multiples of one vector) to min(inputs, units); 0 if all
        values are zero, NaN if no input is finite.
    Source:
        Roy & Vetterli 2007 (The effective rank), definition 1.

    >>> effective_rank(Rows(torch.stack([torch.eye(3), torch.ones(3, 3)])))
    tensor([3.0000, 1.0000])
    """
    matrix = _sampled(rows).double()
    usable = torch.isfinite(matrix).all(2)
    # A row of zeros does not change the singular values, so it stands for an input that is left out.
    matrix = torch.where(usable[:, :, None], matrix, 0.0)
    largest = matrix.abs().amax((1, 2), keepdim=True)
    matrix = matrix / torch.where(largest > 0, largest, 1.0)
    # In float64 the squares lose only singular values below 1e-8 of the largest, noise in float32.
    gram = matrix @ matrix.mT if matrix.shape[1] <= matrix.shape[2] else matrix.mT @ matrix
    sigma = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    share = sigma / sigma.sum(1, keepdim=True)
    rank = torch.special.entr(share).sum(1).exp()
    rank = torch.where(largest.flatten() > 0, rank, 0.0)
    return torch.where(usable.any(1), rank, math.nan).to(rows.flat.dtype)


def _sampled(rows: Rows) -> Tensor:
    """Return the values as (k, inputs, units), at most RANK_LIMIT of each."""
    values = rows.values
    if values.dim() == 1:
        return values[:, None, None]
    units_last = values.movedim(rows.unit_dim % (values.dim() - 1) + 1, -1)
    units_last = units_last[..., _evenly_spaced(units_last.shape[-1], values.device)]
    matrix = units_last.reshape(len(values), -1, units_last.shape[-1])
    return matrix[:, _evenly_spaced(matrix.shape[1], values.device)]


def _evenly_spaced(count: int, device: torch.device) -> Tensor:
    taken = min(count, RANK_LIMIT)
    return torch.arange(taken, device=device) * count // taken
