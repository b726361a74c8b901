"""What `watch` accepts, told at the call and not at the first step."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from thruway.errors import ConfigError
from thruway.watching.quantities.table import Quantity

__all__ = ["check_arguments", "check_probe"]


def check_arguments(
    model: Any, every: Any, optimizer: Any, run: Any, scaler: Any, first_step: Any, memory: Any
) -> None:
    """Refuse what cannot be watched, or cannot be meant.

    Raises:
        ConfigError: saying what came, what is allowed and what to do.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"watch takes a torch.nn.Module, got {type(model).__name__}. Pass the model itself.")
    if isinstance(model, torch.jit.ScriptModule):
        raise ConfigError(f"a ScriptModule takes no hooks, got {type(model).__name__}. Watch the model it was made of.")
    if not callable(every) and not _is_whole(every, 1):
        raise ConfigError(f"every is a whole number of steps from 1 on, or a function of the step, got {every!r}.")
    if not _is_whole(first_step, 0):
        raise ConfigError(f"first_step is a whole number from 0 on, got {first_step!r}.")
    if not _is_whole(memory, 1):
        raise ConfigError(f"memory is a whole number of bytes from 1 on, got {memory!r}. The default is 256 MB.")
    if run is not None and not callable(getattr(run, "log_sites", None)):
        raise ConfigError(f"run is an open Run or anything with log_sites, got {type(run).__name__}. See Run.create.")
    if scaler is not None and not callable(getattr(scaler, "scale", None)):
        raise ConfigError(
            f"scaler is a torch.amp.GradScaler, got {type(scaler).__name__}. Pass the one you scale with."
        )
    if optimizer is not None:
        _check_optimizer(model, optimizer)


def check_probe(quantities: Iterable[Quantity], probe: Any) -> None:
    """Refuse a fixed batch of no examples, and what is taken of one if there is none.

    Raises:
        ConfigError: naming the quantity, or the empty shape.
    """
    parts = probe.values() if isinstance(probe, Mapping) else probe if isinstance(probe, tuple) else (probe,)
    empty = [each for each in parts if isinstance(each, torch.Tensor) and not each.numel()]
    if empty:
        raise ConfigError(
            f"probe= has a tensor of shape {tuple(empty[0].shape)}, without a number in it. Pass a batch of examples."
        )
    lacking = [quantity.name for quantity in quantities if quantity.of_model is not None and probe is None]
    if lacking:
        raise ConfigError(
            f"{lacking[0]!r} is taken of a fixed batch, and none was given. Pass probe=, such as a few examples of the "
            f"data, or leave {lacking[0]!r} out of quantities."
        )


def _check_optimizer(model: nn.Module, optimizer: Any) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigError(
            f"optimizer is a torch.optim.Optimizer, got {type(optimizer).__name__}. Pass the one whose step() ends a "
            "training step, or leave it out; of several, each can have a watch of its own."
        )
    ours = set(model.parameters())
    if ours and not any(parameter in ours for group in optimizer.param_groups for parameter in group["params"]):
        raise ConfigError(
            f"the optimizer updates no parameter of this {type(model).__name__}. "
            "Pass the one made from model.parameters(), or watch the model it belongs to."
        )


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
