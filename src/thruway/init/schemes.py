"""Initialisation schemes for single weights, one function per scheme, and the fans of a weight.

Every scheme fills `weight`, (out, in / groups, *kernel), in place and returns it; `weight` may be a view of a
parameter. `gain` multiplies the scheme's standard deviation. Numbers are drawn contiguously in at least
float32 on the generator's device and then copied, so that a weight gets the same values as a view and on any
device. Without a generator PyTorch's default generator is used, as in `torch.nn.init`.

To add a scheme, write its function here and its row in `scheme_table`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from thruway import activations
from thruway.errors import InitError

__all__ = [
    "check_storage",
    "check_weight",
    "fans",
    "fill",
    "gain",
    "glorot_normal_",
    "glorot_std",
    "glorot_uniform_",
    "he_normal_",
    "he_std",
    "he_uniform_",
    "lecun_normal_",
    "lecun_std",
    "lecun_uniform_",
    "normal",
    "standard_",
    "standard_std",
    "uniform",
    "zeros_",
    "zeros_std",
]


def standard_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1) -> Tensor:
    """The former standard heuristic, also the default of `torch.nn.Linear`. It divides variances by 3 per layer.

        W ~ U[-gain / sqrt(fan_in), gain / sqrt(fan_in)],   Var W = gain^2 / (3 fan_in)

    Source:
        Glorot & Bengio 2010, eq. 1.

    >>> w = standard_(torch.empty(50, 100), generator=torch.Generator().manual_seed(0))
    >>> bool(w.abs().max() <= 0.1)
    True
    """
    return _uniform(weight, standard_std, gain, generator, groups)


def glorot_uniform_(
    weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1
) -> Tensor:
    """Glorot's "normalized" initialisation: a compromise between constant variance of activations and of gradients.

        W ~ U[-a, a],  a = gain sqrt(6 / (fan_in + fan_out)),   Var W = 2 gain^2 / (fan_in + fan_out)

    Source:
        Glorot & Bengio 2010, eqs. 12 and 16.

    >>> w = glorot_uniform_(torch.empty(30, 30), generator=torch.Generator().manual_seed(0))
    >>> bool(w.abs().max() <= 0.1**0.5)
    True
    """
    return _uniform(weight, glorot_std, gain, generator, groups)


def glorot_normal_(
    weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1
) -> Tensor:
    """Glorot's variance with a normal distribution: Var W = 2 gain^2 / (fan_in + fan_out).

    Source:
        Glorot & Bengio 2010, eq. 12.

    >>> glorot_normal_(torch.empty(2, 2), gain=0.0)
    tensor([[0., 0.], [0., 0.]])
    """
    return _normal(weight, glorot_std, gain, generator, groups)


def he_uniform_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1) -> Tensor:
    """He's initialisation for rectifiers, uniform: W ~ U[-a, a], a = gain sqrt(6 / fan_in).

    The scheme includes the gain sqrt(2) of ReLU: leave `gain` at 1 for a ReLU layer.

    Source:
        He et al. 2015, eq. 10.

    >>> w = he_uniform_(torch.empty(10, 60), generator=torch.Generator().manual_seed(0))
    >>> bool(w.abs().max() <= 0.1**0.5)
    True
    """
    return _uniform(weight, he_std, gain, generator, groups)


def he_normal_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1) -> Tensor:
    """He's initialisation for rectifiers: Var W = 2 gain^2 / fan_in.

    The scheme includes the gain sqrt(2) of ReLU: leave `gain` at 1 for a ReLU layer.
    `he_normal_(w)` equals `lecun_normal_(w, gain=sqrt(2))`.

    Source:
        He et al. 2015, eq. 10.

    >>> g, h = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    >>> he, lecun = he_normal_(torch.empty(3, 4), generator=g), lecun_normal_(torch.empty(3, 4), 2**0.5, h)
    >>> torch.allclose(he, lecun)
    True
    """
    return _normal(weight, he_std, gain, generator, groups)


def lecun_uniform_(
    weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1
) -> Tensor:
    """LeCun's initialisation, uniform, for unit variance forward: W ~ U[-a, a], a = gain sqrt(3 / fan_in).

    Source:
        LeCun, Bottou, Orr & Müller 1998, "Efficient BackProp", sec. 4.6.

    >>> w = lecun_uniform_(torch.empty(10, 30), generator=torch.Generator().manual_seed(0))
    >>> bool(w.abs().max() <= 0.1**0.5)
    True
    """
    return _uniform(weight, lecun_std, gain, generator, groups)


def lecun_normal_(
    weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1
) -> Tensor:
    """LeCun's initialisation for unit variance forward: Var W = gain^2 / fan_in. SELU networks need it with gain 1.

    Source:
        LeCun, Bottou, Orr & Müller 1998, "Efficient BackProp", sec. 4.6.

    >>> lecun_normal_(torch.empty(1, 3), generator=torch.Generator().manual_seed(0)).isfinite().all()
    tensor(True)
    """
    return _normal(weight, lecun_std, gain, generator, groups)


def zeros_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1) -> Tensor:
    """All zeros: for the last map of a residual branch, or as a control that cannot train. Draws no random numbers.

    >>> zeros_(torch.ones(1, 2))
    tensor([[0., 0.]])
    """
    check_weight(weight, gain, groups)
    return fill(weight, torch.zeros((), device=weight.device))


def gain(activation_name: str) -> float:
    """Return the gain of an activation: the factor of the initial standard deviation of the layer before it.

    Raises:
        ConfigError: if the name is unknown; the message suggests the closest one.

    >>> round(gain("relu"), 4), gain("tanh")
    (1.4142, 1.0)
    """
    return activations.activation(activation_name).gain


# Standard deviation of the entries at gain 1, from a weight and its groups.


def standard_std(weight: Tensor, groups: int) -> float:
    return math.sqrt(1 / (3 * fans(weight, groups)[0]))


def glorot_std(weight: Tensor, groups: int) -> float:
    return math.sqrt(2 / sum(fans(weight, groups)))


def he_std(weight: Tensor, groups: int) -> float:
    return math.sqrt(2 / fans(weight, groups)[0])


def lecun_std(weight: Tensor, groups: int) -> float:
    return math.sqrt(1 / fans(weight, groups)[0])


def zeros_std(weight: Tensor, groups: int) -> float:
    return 0.0


_Std = Callable[[Tensor, int], float]


def _uniform(weight: Tensor, std: _Std, gain: float, generator: torch.Generator | None, groups: int) -> Tensor:
    check_weight(weight, gain, groups)
    if not weight.numel():
        return weight
    return fill(weight, uniform(weight, math.sqrt(3) * gain * std(weight, groups), generator))


def _normal(weight: Tensor, std: _Std, gain: float, generator: torch.Generator | None, groups: int) -> Tensor:
    check_weight(weight, gain, groups)
    if not weight.numel():
        return weight
    return fill(weight, normal(weight, gain * std(weight, groups), generator))


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
