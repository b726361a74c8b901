"""Table of all initialisation schemes: `SCHEMES`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from thruway.errors import ConfigError, unknown_name
from thruway.init.orthogonal import (
    delta_orthogonal_,
    delta_orthogonal_std,
    looks_linear_,
    looks_linear_std,
    orthogonal_,
    orthogonal_std,
)
from thruway.init.schemes import (
    glorot_normal_,
    glorot_std,
    glorot_uniform_,
    he_normal_,
    he_std,
    he_uniform_,
    lecun_normal_,
    lecun_std,
    lecun_uniform_,
    standard_,
    standard_std,
    zeros_,
    zeros_std,
)

__all__ = ["SCHEMES", "Scheme", "scheme"]


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
    std: Callable[[Tensor, int], float]
    takes_activation_gain: bool

    def __call__(
        self, weight: Tensor, gain: float = 1.0, generator: torch.Generator | None = None, groups: int = 1
    ) -> Tensor:
        return self.function(weight, gain, generator, groups)


SCHEMES: dict[str, Scheme] = {
    row.name: row
    for row in (
        Scheme("standard", standard_, standard_std, False),
        Scheme("glorot_uniform", glorot_uniform_, glorot_std, True),
        Scheme("glorot_normal", glorot_normal_, glorot_std, True),
        Scheme("he_uniform", he_uniform_, he_std, False),
        Scheme("he_normal", he_normal_, he_std, False),
        Scheme("lecun_uniform", lecun_uniform_, lecun_std, True),
        Scheme("lecun_normal", lecun_normal_, lecun_std, True),
        Scheme("orthogonal", orthogonal_, orthogonal_std, True),
        Scheme("delta_orthogonal", delta_orthogonal_, delta_orthogonal_std, True),
        Scheme("looks_linear", looks_linear_, looks_linear_std, False),
        Scheme("zeros", zeros_, zeros_std, False),
    )
}


def scheme(name: str) -> Scheme:
    """Return the scheme called `name`.

    Raises:
        ConfigError: if the name is unknown; the message suggests the closest one.

    >>> scheme("orthogonal").takes_activation_gain
    True
    """
    try:
        return SCHEMES[name]
    except (KeyError, TypeError):
        raise ConfigError(unknown_name("scheme", name, SCHEMES)) from None
