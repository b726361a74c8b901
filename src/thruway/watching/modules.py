"""Module paths without wrappers, tensors in the outputs of modules, and evaluation mode for one call."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

__all__ = [
    "call_model",
    "evaluation_mode",
    "is_torch_layer",
    "module_names",
    "named_outputs",
    "parameter_versions",
    "plain_name",
    "unwrapped",
]


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside the wrappers of torch.compile and DistributedDataParallel."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def module_names(model: nn.Module) -> dict[nn.Module, str]:
    """Return every module of the unwrapped model once, with its path."""
    return {module: plain_name(name) for name, module in unwrapped(model).named_modules()}


def parameter_versions(model: nn.Module) -> list[Any]:
    """Return a list that changes if an optimizer updates the parameters, or a backward pass their gradients."""
    return [
        (p._version, None if p.grad is None else (id(p.grad), p.grad._version))
        for p in model.parameters()
        if not is_lazy(p) and not p.is_inference()
    ]


def plain_name(name: str) -> str:
    """Return the path of a module or parameter without the wrappers that torch.compile puts around submodules.

    >>> plain_name("blocks.3._orig_mod.weight")
    'blocks.3.weight'
    """
    return name.replace("_orig_mod.", "").removesuffix("_orig_mod").removesuffix(".")


def is_torch_layer(module: nn.Module) -> bool:
    """Return True for a PyTorch layer without submodules, of which only the output is captured."""
    return type(module).__module__.startswith("torch.nn.modules.") and not module._modules


def named_outputs(output: Any) -> Iterator[tuple[str, Tensor]]:
    """Iterate over the tensors in a module's return value, each with the suffix for the module's name.

    >>> [suffix for suffix, _ in named_outputs((torch.ones(1), {"state": torch.ones(1)}))]
    ['[0]', '[1].state']
    """
    if isinstance(output, Tensor):
        yield "", output
    elif isinstance(output, Mapping):
        for key, item in output.items():
            yield from ((f".{key}{rest}", tensor) for rest, tensor in named_outputs(item))
    elif isinstance(output, (tuple, list)):
        for index, item in enumerate(output):
            yield from ((f"[{index}]{rest}", tensor) for rest, tensor in named_outputs(item))
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for entry in dataclasses.fields(output):
            yield from ((f".{entry.name}{rest}", tensor) for rest, tensor in named_outputs(getattr(output, entry.name)))


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode; restore the training flags and the random states at the end."""
    modes = {module: module.training for module in model.modules()}
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=[d.index for d in devices if d.index is not None]):
        model.eval()
        try:
            yield
        finally:
            for module, was_training in modes.items():
                module.training = was_training


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Call the model with a tensor, a tuple of positional arguments or a dict of keyword arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(inputs)
