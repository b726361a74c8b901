"""Fan-in and fan-out of a weight, and the checks that precede every initialisation."""

import math

from torch import Tensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from thruway.errors import InitError

__all__ = ["check_weight", "fans"]


def fans(weight: Tensor, groups: int = 1) -> tuple[int, int]:
    """Return the fan-in and fan-out of one affine map.

        fan_in  = weight.shape[1] * kernel          (shape[1] is already per group)
        fan_out = weight.shape[0] / groups * kernel

    Args:
        weight: (out, in / groups, *kernel), of a dense layer or a convolution.
        groups: groups of the convolution.
    Returns:
        (fan_in, fan_out), the numbers of connections at stride 1.
    Raises:
        InitError: if the weight has fewer than two dimensions, or `groups` does not divide the first.
    Source:
        Glorot & Bengio 2010, sec. 4.2.1 (n_i and n_{i+1}); with kernels, He et al. 2015, sec. 2.2.

    >>> import torch
    >>> fans(torch.empty(50, 20))
    (20, 50)
    >>> fans(torch.empty(8, 4, 3, 3), groups=2)
    (36, 36)
    """
    if weight.ndim < 2:
        raise InitError(
            f"a weight of shape {tuple(weight.shape)} has no fan-in and fan-out: a scheme needs (out, in, *kernel). "
            "Set biases and norm weights to a constant instead."
        )
    if groups < 1 or weight.shape[0] % groups:
        raise InitError(
            f"groups={groups} does not divide the {weight.shape[0]} outputs of a weight of shape "
            f"{tuple(weight.shape)}: pass the groups of the convolution that owns it."
        )
    kernel = math.prod(weight.shape[2:])
    return weight.shape[1] * kernel, weight.shape[0] // groups * kernel


def check_weight(weight: Tensor, gain: float, groups: int = 1) -> None:
    """Raise InitError if no scheme can initialise this weight with this gain."""
    check_storage(weight, "a weight")
    if not weight.is_floating_point():
        raise InitError(f"a weight of {weight.dtype} cannot be initialised: schemes draw real floating-point numbers.")
    fans(weight, groups)
    if not (math.isfinite(gain) and gain >= 0):
        raise InitError(f"gain must be a finite number of at least 0, got {gain}.")


def check_storage(tensor: Tensor, what: str) -> None:
    """Raise InitError if the tensor has no values yet; `what` names it in the message."""
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        raise InitError(f"{what} is lazy and has no shape yet: run one batch through the model first.")
    if tensor.is_meta:
        raise InitError(f"{what} is on the meta device and has no values: call model.to_empty(device=...) first.")
