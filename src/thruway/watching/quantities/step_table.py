"""Quantities that are recorded at every sampled step without being requested: one number a step, group or parameter."""

from typing import Any

from torch import Tensor

from thruway.errors import ConfigError
from thruway.watching.quantities.rows import Rows
from thruway.watching.quantities.table import Quantity
from thruway.watching.sites import Kind

__all__ = ["STEP_QUANTITIES"]


def _not_measured(_rows: Rows) -> Tensor:
    raise ConfigError("this quantity is recorded at every step, and not measured on the model's tensors.")


def _of(name: str, kind: Kind, **options: Any) -> Quantity:
    return Quantity(name, "", _not_measured, (kind,), **options)


STEP_QUANTITIES: dict[str, Quantity] = {
    row.name: row
    for row in (
        _of("loss", "step"),
        _of("learning_rate", "step", merge="last"),
        _of("gradient_norm", "step", merge="last"),
        _of("raw_gradient_norm", "step", merge="last", source="Pascanu, Mikolov & Bengio 2013, algorithm 1"),
        _of("state", "parameter", merge="last"),
    )
}
