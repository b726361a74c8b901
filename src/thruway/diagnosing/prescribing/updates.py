"""Vectorised updates of PyTorch's optimizers, for flat parameters of many members with their own hyperparameters.

An update takes the parameters (members, P), their gradient, a dictionary of hyperparameters that broadcast to this
shape, the settings that all members share, and the state. It changes parameters and state in place, in the order of
operations of the loop implementation in torch.optim. To support another optimizer, add a function and a row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

__all__ = ["UPDATES", "Update"]

Values = Mapping[str, Tensor]
State = dict[str, Tensor]
Apply = Callable[[Tensor, Tensor, Values, Mapping[str, Any], State, int], None]


@dataclass(frozen=True)
class Update:
    """One optimizer.

    Attributes:
        apply: function of (parameters, gradient, hyperparameters, settings, state, number of the step from 1).
        numbers: entries of the parameter groups that may differ between members and between parameters.
        settings: entries that must be equal for all.
        counts: True if torch's state holds the number of steps.
    """

    apply: Apply
    numbers: tuple[str, ...]
    settings: tuple[str, ...]
    counts: bool


def _sgd(w: Tensor, g: Tensor, h: Values, settings: Mapping[str, Any], state: State, step: int) -> None:
    g = _decayed(w, -g if settings["maximize"] else g, h)
    if _is_used(h["momentum"]):
        if step == 1:
            state["momentum_buffer"] = g.clone()
        else:
            fresh = g * (1 - h["dampening"]) if _is_used(h["dampening"]) else g
            state["momentum_buffer"].mul_(h["momentum"]).add_(fresh)
        v = state["momentum_buffer"]
        g = g + h["momentum"] * v if settings["nesterov"] else v
    w.addcmul_(g, h["lr"], value=-1)


def _adam(w: Tensor, g: Tensor, h: Values, settings: Mapping[str, Any], state: State, step: int) -> None:
    g = -g if settings["maximize"] else g
    if settings["decoupled_weight_decay"]:
        if _is_used(h["weight_decay"]):
            w.mul_(1 - h["lr"] * h["weight_decay"])
    else:
        g = _decayed(w, g, h)
    mean, square = _zeros(state, "exp_avg", w), _zeros(state, "exp_avg_sq", w)
    mean.lerp_(g, (1 - h["beta1"]).expand_as(g))
    square.mul_(h["beta2"]).addcmul_(g, g * (1 - h["beta2"]))
    if settings["amsgrad"]:
        square = torch.maximum(_zeros(state, "max_exp_avg_sq", w), square, out=state["max_exp_avg_sq"])
    denominator = square.sqrt().div_((1 - h["beta2"] ** step).sqrt()).add_(h["eps"])
    w.sub_(denominator.reciprocal_().mul_(mean).mul_(h["lr"] / (1 - h["beta1"] ** step)))


def _rmsprop(w: Tensor, g: Tensor, h: Values, settings: Mapping[str, Any], state: State, step: int) -> None:
    g = _decayed(w, -g if settings["maximize"] else g, h)
    square = _zeros(state, "square_avg", w)
    square.mul_(h["alpha"]).addcmul_(g, g * (1 - h["alpha"]))
    average = square
    if settings["centered"]:
        mean = _zeros(state, "grad_avg", w)
        mean.lerp_(g, (1 - h["alpha"]).expand_as(g))
        average = torch.addcmul(square, mean, mean, value=-1)
    change = g / (average.sqrt() + h["eps"])
    if _is_used(h["momentum"]):
        change = _zeros(state, "momentum_buffer", w).mul_(h["momentum"]).add_(change)
    w.addcmul_(change, h["lr"], value=-1)


_SGD = Update(_sgd, ("lr", "momentum", "dampening", "weight_decay"), ("maximize", "nesterov"), counts=False)
_ADAM = Update(
    _adam,
    ("lr", "beta1", "beta2", "eps", "weight_decay"),
    ("maximize", "amsgrad", "decoupled_weight_decay"),
    counts=True,
)
_RMSPROP = Update(_rmsprop, ("lr", "alpha", "eps", "momentum", "weight_decay"), ("maximize", "centered"), counts=True)

UPDATES: dict[type[Optimizer], Update] = {SGD: _SGD, Adam: _ADAM, AdamW: _ADAM, RMSprop: _RMSPROP}


def _is_used(value: Tensor) -> bool:
    return bool(value.any())


def _decayed(w: Tensor, g: Tensor, h: Values) -> Tensor:
    return torch.addcmul(g, w, h["weight_decay"].expand_as(w)) if _is_used(h["weight_decay"]) else g


def _zeros(state: State, name: str, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(like)
    return state[name]
