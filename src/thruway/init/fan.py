"""How many inputs a unit reads and how many units read an input: what every variance formula needs."""

import math

from torch import Tensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from thruway.errors import InitError

__all__ = ["check_weight", "fans"]


def fans(weight: Tensor, groups: int = 1) -> tuple[int, int]:
    """The fan-in and fan-out of one affine map.

        fan_in  = weight.shape[1] * kernel          (shape[1] is already per group)
        fan_out = weight.shape[0] / groups * kernel

    Args:
        weight: (out, in / groups, *kernel): a dense weight or a convolution's.
        groups: of a grouped convolution.
    Returns:
        (fan_in, fan_out), connections of stride 1.
    Raises:
        InitError: if the weight has fewer than two axes, or `groups` does not divide its first.
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
    """Refuse what no scheme can fill, before anything is written."""
    check_storage(weight, "a weight")
    if not weight.is_floating_point():
        raise InitError(f"a weight of {weight.dtype} cannot be filled: schemes draw real floating-point numbers.")
    fans(weight, groups)
    if not (math.isfinite(gain) and gain >= 0):
        raise InitError(f"gain={gain} is not a factor on a standard deviation: pass a finite number of at least 0.")


def check_storage(tensor: Tensor, what: str) -> None:
    """Refuse a tensor that has no numbers yet; `what` names it in the message."""
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        raise InitError(f"{what} is lazy and has no shape yet: send one batch through the model first.")
    if tensor.is_meta:
        raise InitError(f"{what} is on the meta device and holds no numbers: call model.to_empty(device=...) first.")
