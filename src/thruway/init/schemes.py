"""Initialisation schemes: one function per scheme, and a table of all of them.

Every scheme fills `weight`, (out, in / groups, *kernel), in place and returns it; `weight` may be a view of a
parameter. `gain` multiplies the scheme's standard deviation. Numbers are drawn contiguously in at least
float32 on the generator's device and then copied, so that a weight gets the same values as a view and on any
device. Without a generator torch's default generator is used, as in `torch.nn.init`.

To add a scheme, write its function and its row.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from thruway import activations
from thruway.errors import ConfigError, unknown_name
from thruway.init.draw import fill, normal, uniform
from thruway.init.fan import check_weight, fans
from thruway.init.orthogonal import (
    delta_orthogonal_,
    delta_orthogonal_std,
    looks_linear_,
    looks_linear_std,
    orthogonal_,
    orthogonal_std,
)

__all__ = [
    "SCHEMES",
    "Scheme",
    "delta_orthogonal_",
    "gain",
    "glorot_normal_",
    "glorot_uniform_",
    "he_normal_",
    "he_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "looks_linear_",
    "orthogonal_",
    "scheme",
    "standard_",
    "zeros_",
]


def standard_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1) -> Tensor:
    """The former standard heuristic, also the default of `torch.nn.Linear`; divides variances by 3 per layer.

        W ~ U[-gain / sqrt(fan_in), gain / sqrt(fan_in)],   Var W = gain^2 / (3 fan_in)

    Source:
        Glorot & Bengio 2010, eq. 1.

    >>> w = standard_(torch.empty(50, 100), generator=torch.Generator().manual_seed(0))
    >>> bool(w.abs().max() <= 0.1)
    True
    """
    return _uniform(weight, _standard_std, gain, generator, groups)


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
    return _uniform(weight, _glorot_std, gain, generator, groups)


def glorot_normal_(
    weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1
) -> Tensor:
    """Glorot's variance with a normal distribution: Var W = 2 gain^2 / (fan_in + fan_out).

    Source:
        Glorot & Bengio 2010, eq. 12.

    >>> glorot_normal_(torch.empty(2, 2), gain=0.0)
    tensor([[0., 0.], [0., 0.]])
    """
    return _normal(weight, _glorot_std, gain, generator, groups)


def he_uniform_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1) -> Tensor:
    """He's initialisation for rectifiers, uniform: W ~ U[-a, a], a = gain sqrt(6 / fan_in).

    The scheme includes the rectifier's gain sqrt(2): leave `gain` at 1 for a ReLU layer.

    Source:
        He et al. 2015, eq. 10.

    >>> w = he_uniform_(torch.empty(10, 60), generator=torch.Generator().manual_seed(0))
    >>> bool(w.abs().max() <= 0.1**0.5)
    True
    """
    return _uniform(weight, _he_std, gain, generator, groups)


def he_normal_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1) -> Tensor:
    """He's initialisation for rectifiers: Var W = 2 gain^2 / fan_in.

    The scheme includes the rectifier's gain sqrt(2): leave `gain` at 1 for a ReLU layer.
    `he_normal_(w)` equals `lecun_normal_(w, gain=sqrt(2))`.

    Source:
        He et al. 2015, eq. 10.

    >>> g, h = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    >>> he, lecun = he_normal_(torch.empty(3, 4), generator=g), lecun_normal_(torch.empty(3, 4), 2**0.5, h)
    >>> torch.allclose(he, lecun)
    True
    """
    return _normal(weight, _he_std, gain, generator, groups)


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
    return _uniform(weight, _lecun_std, gain, generator, groups)


def lecun_normal_(
    weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1
) -> Tensor:
    """LeCun's initialisation for unit variance forward: Var W = gain^2 / fan_in. SELU networks need it with gain 1.

    Source:
        LeCun, Bottou, Orr & Müller 1998, "Efficient BackProp", sec. 4.6.

    >>> lecun_normal_(torch.empty(1, 3), generator=torch.Generator().manual_seed(0)).isfinite().all()
    tensor(True)
    """
    return _normal(weight, _lecun_std, gain, generator, groups)


def zeros_(weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1) -> Tensor:
    """All zeros: for the last map of a residual branch, or as a control that cannot train. Draws no random numbers.

    >>> zeros_(torch.ones(1, 2))
    tensor([[0., 0.]])
    """
    check_weight(weight, gain, groups)
    return fill(weight, torch.zeros((), device=weight.device))


def gain(activation_name: str) -> float:
    """Return the factor on the initial standard deviation for a layer followed by this activation.

    Raises:
        ConfigError: for an unknown name; the message suggests the nearest one.

    >>> round(gain("relu"), 4), gain("tanh")
    (1.4142, 1.0)
    """
    return activations.activation(activation_name).gain


def _standard_std(weight: Tensor, groups: int) -> float:
    return math.sqrt(1 / (3 * fans(weight, groups)[0]))


def _glorot_std(weight: Tensor, groups: int) -> float:
    return math.sqrt(2 / sum(fans(weight, groups)))


def _he_std(weight: Tensor, groups: int) -> float:
    return math.sqrt(2 / fans(weight, groups)[0])


def _lecun_std(weight: Tensor, groups: int) -> float:
    return math.sqrt(1 / fans(weight, groups)[0])


def _zeros_std(weight: Tensor, groups: int) -> float:
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


class _Fill(Protocol):
    def __call__(
        self, weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1
    ) -> Tensor: ...


@dataclass(frozen=True)
class Scheme:
    """A row of `SCHEMES`; calling it fills a weight.

    Attributes:
        std: standard deviation of the entries at gain 1 (their root mean square if they are not
            independent), from a weight and its groups.
        takes_activation_gain: If True, `initialize(gain="auto")` multiplies by the gain of the activation
            that follows. False if the scheme includes its gain (He's sqrt(2)) or is a fixed recipe.

    >>> SCHEMES["he_normal"].std(torch.empty(5, 8), 1)
    0.5
    """

    name: str
    function: _Fill
    std: _Std
    takes_activation_gain: bool

    def __call__(
        self, weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1
    ) -> Tensor:
        return self.function(weight, gain, generator, groups)


SCHEMES: dict[str, Scheme] = {
    row.name: row
    for row in (
        Scheme("standard", standard_, _standard_std, False),
        Scheme("glorot_uniform", glorot_uniform_, _glorot_std, True),
        Scheme("glorot_normal", glorot_normal_, _glorot_std, True),
        Scheme("he_uniform", he_uniform_, _he_std, False),
        Scheme("he_normal", he_normal_, _he_std, False),
        Scheme("lecun_uniform", lecun_uniform_, _lecun_std, True),
        Scheme("lecun_normal", lecun_normal_, _lecun_std, True),
        Scheme("orthogonal", orthogonal_, orthogonal_std, True),
        Scheme("delta_orthogonal", delta_orthogonal_, delta_orthogonal_std, True),
        Scheme("looks_linear", looks_linear_, looks_linear_std, False),
        Scheme("zeros", zeros_, _zeros_std, False),
    )
}


def scheme(name: str) -> Scheme:
    """Return the scheme called `name`.

    Raises:
        ConfigError: for an unknown name; the message suggests the nearest one.

    >>> scheme("orthogonal").takes_activation_gain
    True
    """
    try:
        return SCHEMES[name]
    except (KeyError, TypeError):
        raise ConfigError(unknown_name("scheme", name, SCHEMES)) from None
