"""Checks of the arguments of `watch`, so that mistakes are reported at the call and not at the first step."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.watching.quantities.rows import Rows
from thruway.watching.quantities.step_table import STEP_QUANTITIES
from thruway.watching.quantities.table import QUANTITIES, Quantity
from thruway.watching.trace.derived import DERIVED

__all__ = ["check_arguments", "check_probe", "check_size", "select_quantities"]


def check_arguments(
    model: Any, every: Any, optimizer: Any, run: Any, scaler: Any, first_step: Any, memory: Any
) -> None:
    """Check all arguments of `watch` except the quantities and the probe.

    Raises:
        ConfigError: if an argument is invalid; the message states its value and the allowed values.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"watch takes a torch.nn.Module, got {type(model).__name__}. Pass the model itself.")
    if isinstance(model, torch.jit.ScriptModule):
        raise ConfigError(
            f"a ScriptModule takes no hooks, got {type(model).__name__}. Watch the model from which it was made."
        )
    if not callable(every) and not _is_integer(every, 1):
        raise ConfigError(f"every must be an integer of at least 1, or a function of the step, got {every!r}.")
    if not _is_integer(first_step, 0):
        raise ConfigError(f"first_step must be an integer of at least 0, got {first_step!r}.")
    if not _is_integer(memory, 1):
        raise ConfigError(f"memory must be an integer of at least 1, in bytes, got {memory!r}. The default is 256 MB.")
    if run is not None and not callable(getattr(run, "log_sites", None)):
        raise ConfigError(
            f"run must be an open Run or an object with log_sites, got {type(run).__name__}. See Run.create."
        )
    if scaler is not None and not callable(getattr(scaler, "scale", None)):
        raise ConfigError(
            f"scaler must be a torch.amp.GradScaler, got {type(scaler).__name__}. Pass the one that scales the loss."
        )
    if optimizer is not None:
        _check_optimizer(model, optimizer)


def check_probe(quantities: Iterable[Quantity], probe: Any) -> None:
    """Check that the probe has examples, and that there is a probe for quantities that need one.

    Raises:
        ConfigError: if the probe is empty, or a quantity needs one and there is none.
    """
    parts = probe.values() if isinstance(probe, Mapping) else probe if isinstance(probe, tuple) else (probe,)
    empty = [each for each in parts if isinstance(each, torch.Tensor) and not each.numel()]
    if empty:
        raise ConfigError(f"probe= has an empty tensor, of shape {tuple(empty[0].shape)}. Pass a batch of examples.")
    lacking = [quantity.name for quantity in quantities if quantity.of_model is not None and probe is None]
    if lacking:
        raise ConfigError(
            f"{lacking[0]!r} is measured on a fixed batch, but there is no probe. Pass probe=, such as a few examples "
            f"of the data, or omit {lacking[0]!r} from quantities."
        )


def select_quantities(quantities: Iterable[str | Quantity]) -> tuple[Quantity, ...]:
    """Return the entries of QUANTITIES for names, in order. User-defined quantities are returned unchanged.

    Raises:
        ConfigError: if a name is unknown, repeated or that of a derived quantity, or if there are no quantities.

    >>> [quantity.unit for quantity in select_quantities(["zeros"])]
    ['share of values']
    """
    if not isinstance(quantities, (str, Quantity, Iterable)):
        raise ConfigError(
            f"quantities must be names or Quantity rows, got {quantities!r}. Omit the argument for the default ones."
        )
    rows: dict[str, Quantity] = {}
    for quantity in [quantities] if isinstance(quantities, (str, Quantity)) else quantities:
        if not isinstance(quantity, Quantity):
            if quantity in DERIVED:
                raise ConfigError(DERIVED[quantity].not_measured(quantity))
            if quantity in STEP_QUANTITIES:
                raise ConfigError(
                    f"{quantity!r} is recorded at every sampled step. Leave it out of quantities, and read it with "
                    f"trace.series({quantity!r})."
                )
            if quantity not in QUANTITIES:
                raise ConfigError(unknown_name("quantity", quantity, [*QUANTITIES, *DERIVED]))
            quantity = QUANTITIES[quantity]
        if rows.setdefault(quantity.name, quantity) is not quantity:
            raise ConfigError(f"two quantities have the name {quantity.name!r}: rename one of them.")
    if not rows:
        raise ConfigError(f"quantities is empty. Known: {', '.join(QUANTITIES)}.")
    return tuple(rows.values())


def check_size(quantity: Quantity) -> Quantity:
    """Return the quantity with a check that it returns at most `quantity.numbers` numbers per site.

    A measure that forgets to reduce would otherwise store a copy of every activation at every step, without a warning.
    Entries of QUANTITIES and quantities with a window need no check.
    """
    if quantity.window is not None or QUANTITIES.get(quantity.name) is quantity:
        return quantity
    return dataclasses.replace(quantity, measure=_checked(quantity))


def _checked(quantity: Quantity) -> Callable[[Rows], Tensor]:
    def measure(rows: Rows) -> Tensor:
        found = quantity.measure(rows)
        sites = len(rows.values)
        if not isinstance(found, Tensor) or found.shape[:1] != (sites,) or found.dim() > 2:
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise ShapeError(
                f"the quantity {quantity.name!r} returned {got} for Rows of k = {sites} tensors. Its measure returns "
                "one number for each tensor, (k,), or m numbers, (k, m)."
            )
        if found.dim() == 2 and quantity.numbers == 1 == found.shape[1]:
            raise ShapeError(
                f"the quantity {quantity.name!r} returned (k, 1). For one number per tensor use squeeze(1)."
            )
        if found.dim() == 2 and found.shape[1] > quantity.numbers:
            each = found.shape[1]
            raise ShapeError(
                f"the quantity {quantity.name!r} returned {each:,} numbers for a tensor of {rows.count:,} values, but "
                f"its limit is {quantity.numbers:,}. Reduce them to one per tensor, (k,), for example with .mean(1). "
                f"If all are wanted, pass Quantity(..., numbers={each}); they are stored for every site and step."
            )
        return found

    return measure


def _check_optimizer(model: nn.Module, optimizer: Any) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigError(
            f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}. Pass the one whose step() "
            "ends a training step, or omit the argument. With several optimizers, use one watch for each."
        )
    ours = set(model.parameters())
    if ours and not any(parameter in ours for group in optimizer.param_groups for parameter in group["params"]):
        raise ConfigError(
            f"the optimizer updates no parameter of this {type(model).__name__}. "
            "Pass the one made from model.parameters(), or watch the model whose parameters it updates."
        )


def _is_integer(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
