"""The trace of one step on a copy of a model, for a diagnosis before training."""

import contextlib
import copy
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.watching.trace.trace import Trace
from thruway.watching.watcher import watch

__all__ = ["trace_first_step"]

Loss = Callable[[Any, Any], Tensor]


def trace_first_step(model: nn.Module, batch: Any, loss: Loss | None) -> Trace:
    """Record the forward and the backward pass of one batch on a copy of the model, in training mode.

    The model, its gradients and buffers, and the random numbers of PyTorch, NumPy and Python do not change. No
    parameter of the copy is updated.

    Args:
        model: any module.
        batch: inputs and targets, as a pair; without `loss`, the inputs. Inputs are a tensor, a tuple of arguments or a
            dict of keyword arguments.
        loss: function of (outputs, targets) that returns the 0-d loss. If None, the model returns the loss itself, as
            its output or as the entry "loss".
    Raises:
        ConfigError: if the batch is no pair, the loss is no 0-d tensor, no parameter requires a gradient, or the model
            cannot be copied.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            f"no parameter of this {type(model).__name__} requires a gradient, so it cannot be trained. Set "
            "requires_grad of the parameters to train to True."
        )
    inputs, targets = _inputs_and_targets(batch, loss)
    with _same_random_numbers():
        net = _copied(model).train()
        trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.0)
        optimizer.zero_grad()
        with torch.enable_grad(), watch(net, optimizer=optimizer) as trace:
            outputs = _called(net, inputs)
            _value(outputs if loss is None else loss(outputs, targets), loss).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return trace


def _inputs_and_targets(batch: Any, loss: Loss | None) -> tuple[Any, Any]:
    if loss is None:
        return batch, None
    if not callable(loss):
        raise ConfigError(f"loss must be a function of (outputs, targets), got {loss!r}. Example: F.cross_entropy.")
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        got = f"{type(batch).__name__} of {len(batch)}" if hasattr(batch, "__len__") else type(batch).__name__
        raise ConfigError(
            f"batch must be a pair of inputs and targets, got {got}. Example: diagnose(net, (x, y), loss)."
        )
    return batch[0], batch[1]


def _copied(model: nn.Module) -> nn.Module:
    try:
        net = copy.deepcopy(model)
    except Exception as error:
        raise ConfigError(
            f"this {type(model).__name__} cannot be copied ({type(error).__name__}: {error}), and diagnose works on a "
            "copy. Watch some steps of training with tw.watch, and diagnose the trace."
        ) from error
    net.zero_grad(set_to_none=True)
    return net


def _called(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def _value(result: Any, loss: Loss | None) -> Tensor:
    """Return the loss in the result of the loss function, or in the output of a model that returns its loss."""
    if loss is None and not isinstance(result, Tensor):
        result = result.get("loss") if isinstance(result, Mapping) else getattr(result, "loss", result)
    if not isinstance(result, Tensor) or result.numel() != 1:
        got = f"a tensor of shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        source = "the model returned" if loss is None else "loss returned"
        raise ConfigError(f"{source} {got}, not a 0-d loss. Pass loss=, a function of (outputs, targets).")
    return result


@contextlib.contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Restore the random states of PyTorch, NumPy and Python at the end."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
