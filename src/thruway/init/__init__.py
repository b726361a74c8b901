"""Initial weights: schemes for single weights, initialisation of whole models, and mean-field predictions."""

import warnings
from typing import TYPE_CHECKING, Any

from thruway.init import meanfield
from thruway.init.lsuv import lsuv_
from thruway.init.model_init import initialize
from thruway.init.orthogonal import delta_orthogonal_, looks_linear_, orthogonal_
from thruway.init.parts import HasParts, Part
from thruway.init.scheme_table import SCHEMES, Scheme, scheme
from thruway.init.schemes import (
    fans,
    gain,
    glorot_normal_,
    glorot_uniform_,
    he_normal_,
    he_uniform_,
    lecun_normal_,
    lecun_uniform_,
    standard_,
    zeros_,
)
from thruway.init.summary import InitSummary, Row

__all__ = [
    "SCHEMES",
    "HasParts",
    "InitSummary",
    "Part",
    "Row",
    "Scheme",
    "delta_orthogonal_",
    "fans",
    "gain",
    "glorot_normal_",
    "glorot_uniform_",
    "he_normal_",
    "he_uniform_",
    "initialize",
    "lecun_normal_",
    "lecun_uniform_",
    "looks_linear_",
    "lsuv_",
    "meanfield",
    "orthogonal_",
    "scheme",
    "standard_",
    "zeros_",
]

if not TYPE_CHECKING:  # a type checker would take any name for one of this module's

    def __getattr__(name: str) -> Any:
        if name == "Account":
            warnings.warn("thruway.init.Account is deprecated; use InitSummary.", DeprecationWarning, stacklevel=2)
            return InitSummary
        raise AttributeError(f"module 'thruway.init' has no attribute {name!r}")
