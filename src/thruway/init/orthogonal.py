"""Norm-preserving schemes: orthogonal maps, delta-orthogonal convolutions, and looks-linear networks."""

import math

import torch
from torch import Tensor

from thruway.errors import InitError
from thruway.init.schemes import check_weight, fans, fill, normal

__all__ = [
    "delta_orthogonal_",
    "delta_orthogonal_std",
    "looks_linear_",
    "looks_linear_std",
    "orthogonal_",
    "orthogonal_std",
]


def orthogonal_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1) -> Tensor:
    """Fill a weight with a random orthogonal map times `gain`: its shorter side is orthonormal.

    The weight is treated as one (out / groups, in * kernel) matrix per group, each drawn uniformly from the
    (semi-)orthogonal matrices. Entries have root mean square gain / sqrt(longer side).

    Source:
        Saxe, McClelland & Ganguli 2014; the sign rule that makes the draw uniform: Mezzadri 2007.

    >>> w = orthogonal_(torch.empty(3, 5), generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(w @ w.T, torch.eye(3), atol=1e-6)
    True
    """
    check_weight(weight, gain, groups)
    if not weight.numel():
        return weight
    blocks = _orthogonal_blocks(weight, groups, weight.shape[0] // groups, fans(weight, groups)[0], generator)
    return fill(weight, gain * blocks.reshape(weight.shape))


def orthogonal_std(weight: Tensor, groups: int) -> float:
    """Root mean square of the entries at gain 1."""
    return 1 / math.sqrt(max(weight.shape[0] // groups, fans(weight, groups)[0]))


def delta_orthogonal_(
    weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1
) -> Tensor:
    """Fill a convolution with an orthogonal map of the channels at the centre of its kernel, and zeros elsewhere.

    With "same" padding the layer preserves the norm of its input if it has at least as many output as input
    channels; with fewer, it preserves the norm of the part that it keeps. An even kernel has no centre:
    the position that `padding="same"` places on the pixel itself is used. A dense weight has a kernel of one position,
    so it is filled by `orthogonal_`.

    Source:
        Xiao et al. 2018, delta-orthogonal kernels; fewer outputs than inputs is our extension.

    >>> w = delta_orthogonal_(torch.empty(4, 4, 3), generator=torch.Generator().manual_seed(0))
    >>> bool(w[:, :, 0].any()), torch.allclose(w[:, :, 1] @ w[:, :, 1].T, torch.eye(4), atol=1e-6)
    (False, True)
    """
    check_weight(weight, gain, groups)
    if not weight.numel():
        return weight
    blocks = _orthogonal_blocks(weight, groups, weight.shape[0] // groups, weight.shape[1], generator)
    kernel = torch.zeros(weight.shape, dtype=blocks.dtype, device=blocks.device)
    centre_tap = kernel
    for size in weight.shape[2:]:
        centre_tap = centre_tap.select(2, (size - 1) // 2)
    centre_tap.copy_(gain * blocks.reshape(weight.shape[:2]))
    return fill(weight, kernel)


def delta_orthogonal_std(weight: Tensor, groups: int) -> float:
    """Root mean square of the entries at gain 1, zeros included."""
    kernel = fans(weight, groups)[0] // weight.shape[1]
    return 1 / math.sqrt(max(weight.shape[0] // groups, weight.shape[1]) * kernel)


def looks_linear_(
    weight: Tensor,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    groups: int = 1,
    *,
    reads_mirrored: bool = True,
    writes_mirrored: bool = False,
) -> Tensor:
    """Fill a layer of a ReLU network that starts as a linear, orthogonal map, without shattered gradients.

    Mirrored means that the second half of the units is the first half with the opposite sign. After a
    concatenated rectifier, CReLU(s) = [relu(s), relu(-s)], a layer [V, -V] returns V s; V is orthogonal
    (delta-orthogonal in a convolution). With plain ReLUs, the preceding layer must output mirrored units for this. The
    four forms, by `reads_mirrored` (the inputs are mirrored) and `writes_mirrored` (the outputs are):

        reads plain,    writes plain:      V
        reads plain,    writes mirrored:   [[V], [-V]]            first layer of a plain ReLU network
        reads mirrored, writes plain:      [V, -V]
        reads mirrored, writes mirrored:   [[V, -V], [-V, V]]     hidden layers of a plain ReLU network

    The default, [V, -V], is that of the paper, for any layer after a CReLU. Use `orthogonal_` for the first layer of a
    CReLU network, and [V, -V] for the last layer of a ReLU network.

    Raises:
        InitError: if a mirrored side has an odd number of units, or `groups` is not 1.
    Source:
        Balduzzi et al. 2017, looks-linear initialisation; the forms for plain ReLU are ours.

    >>> w = looks_linear_(torch.empty(3, 6), generator=torch.Generator().manual_seed(0))
    >>> s = torch.tensor([1.0, -2.0, 3.0])
    >>> out = w @ torch.cat([s.relu(), (-s).relu()])
    >>> torch.allclose(out, w[:, :3] @ s, atol=1e-6), torch.allclose(out.norm(), s.norm())
    (True, True)
    """
    check_weight(weight, gain, groups)
    if groups != 1:
        raise InitError(f"looks_linear pairs units across the whole layer and needs groups=1, got groups={groups}.")
    for is_mirrored, side, size in (
        (writes_mirrored, "outputs", weight.shape[0]),
        (reads_mirrored, "inputs", weight.shape[1]),
    ):
        if is_mirrored and size % 2:
            raise InitError(
                f"looks_linear pairs every unit with its mirror image, so a weight of shape {tuple(weight.shape)} "
                f"needs an even number of {side}, got {size}: widen the layer by one, or use 'orthogonal' for it."
            )
    if not weight.numel():
        return weight
    rows, columns = _half_shape(weight, reads_mirrored, writes_mirrored)
    half = torch.empty((rows, columns, *weight.shape[2:]), dtype=weight.dtype, device=weight.device)
    delta_orthogonal_(half, gain, generator)
    whole = torch.cat([half, -half], dim=1) if reads_mirrored else half
    return fill(weight, torch.cat([whole, -whole], dim=0) if writes_mirrored else whole)


def looks_linear_std(
    weight: Tensor, groups: int, *, reads_mirrored: bool = True, writes_mirrored: bool = False
) -> float:
    """Root mean square of the entries at gain 1."""
    kernel = fans(weight, groups)[0] // weight.shape[1]
    return 1 / math.sqrt(max(_half_shape(weight, reads_mirrored, writes_mirrored)) * kernel)


def _half_shape(weight: Tensor, reads_mirrored: bool, writes_mirrored: bool) -> tuple[int, int]:
    return weight.shape[0] // (1 + writes_mirrored), weight.shape[1] // (1 + reads_mirrored)


def _orthogonal_blocks(
    weight: Tensor, groups: int, rows: int, columns: int, generator: torch.Generator | None
) -> Tensor:
    """Draw blocks of shape (groups, rows, columns), each uniform over the semi-orthogonal matrices."""
    tall = (groups, max(rows, columns), min(rows, columns))
    q, r = torch.linalg.qr(normal(weight.new_empty(tall), 1.0, generator))
    # QR fixes the signs by convention, so its result alone is not uniform.
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q.dtype)
    blocks: Tensor = q * signs.unsqueeze(-2)
    return blocks if rows >= columns else blocks.mT
