"""The model inside what torch.compile and data-parallel training put round it."""

from torch import nn

__all__ = ["module_names", "plain_name", "unwrapped"]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def module_names(model: nn.Module) -> dict[nn.Module, str]:
    """Every module once, with its path in the model itself."""
    return {module: plain_name(name) for name, module in unwrapped(model).named_modules()}


def plain_name(name: str) -> str:
    """A module's or parameter's path without the wrappers that torch.compile puts round parts of a model.

    >>> plain_name("blocks.3._orig_mod.weight")
    'blocks.3.weight'
    """
    return name.replace("_orig_mod.", "").removesuffix("_orig_mod").removesuffix(".")
