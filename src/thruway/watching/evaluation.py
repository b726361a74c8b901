"""A model as it is now, shown something: evaluation mode for the moment, nothing left behind."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["as_it_is", "call"]


@contextlib.contextmanager
def as_it_is(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; afterwards modes and random numbers are as before."""
    modes = {module: module.training for module in model.modules()}
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=[d.index for d in devices if d.index is not None]):
        model.eval()
        try:
            yield
        finally:
            for module, was_training in modes.items():
                module.training = was_training


def call(model: nn.Module, inputs: Any) -> Any:
    """The model on a tensor, on a tuple of arguments, or on a dict of keywords."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(inputs)
