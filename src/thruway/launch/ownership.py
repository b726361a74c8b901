"""The module to watch for an optimizer: the one that contains the parameters that it updates."""

import gc
import sys
from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor, nn

__all__ = [
    "live_modules",
    "live_optimizers",
    "module_of_optimizer",
    "outermost_module",
    "owned_parameters",
    "split_between",
]


def owned_parameters(optimizer: torch.optim.Optimizer) -> set[Tensor]:
    """Return the parameters that an optimizer updates.

    >>> layer = nn.Linear(2, 3)
    >>> owned_parameters(torch.optim.SGD(layer.parameters(), 0.1)) == set(layer.parameters())
    True
    """
    return {parameter for group in optimizer.param_groups for parameter in group["params"]}


def split_between(root: nn.Module, owned: Sequence[set[Tensor]]) -> list[nn.Module]:
    """Return, for each optimizer of a root module, the part of the root to watch.

    These are the smallest submodules that contain the parameters of each optimizer, if these do not overlap (generator
    and discriminator inside one module), and otherwise the root itself (matrices and biases of the same layers).
    For a single optimizer it is the root, so that the parameters that the optimizer lacks are seen too.

    Args:
        owned: parameters of each optimizer.

    >>> both = nn.ModuleDict({"generator": nn.Linear(2, 2), "discriminator": nn.Linear(2, 1)})
    >>> g, d = (set(module.parameters()) for module in both.values())
    >>> split_between(both, [g, d]) == [both["generator"], both["discriminator"]]
    True
    >>> split_between(both, [g]) == [both]
    True
    """
    if len(owned) < 2:
        return [root] * len(owned)
    parameters = set(root.parameters())
    parts = [_smallest(root.modules(), own & parameters) or root for own in owned]
    inside = [set(part.parameters()) for part in parts]
    overlap = any(a & b for at, a in enumerate(inside) for b in inside[at + 1 :])
    return [root] * len(owned) if overlap else parts


def module_of_optimizer(own: set[Tensor], called: nn.Module | None) -> nn.Module | None:
    """Return the module that contains the parameters of an optimizer, of which the called root has only some.

    This is the smallest module that contains all of them, as for a model whose `forward` was called directly. If there
    is none, as for an encoder and a decoder that the script calls in turn, it is a ModuleDict of those modules.

    Args:
        own: the parameters.
        called: root module that has some of them, if any was called.
    """
    modules = live_modules()
    whole = _smallest(modules, own)
    if whole is not None:
        return whole
    parts = [] if called is None else [called]
    missing = own - {parameter for part in parts for parameter in part.parameters()}
    outer = sorted(modules, key=lambda module: -len(missing.intersection(module.parameters())))
    for module in outer:
        found = missing.intersection(module.parameters())
        if found:
            parts.append(_smallest(module.modules(), found) or module)
            missing -= found
    if len(parts) < 2:
        return parts[0] if parts else None
    return nn.ModuleDict(_named(parts))


def outermost_module(own: set[Tensor], others: Iterable[set[Tensor]]) -> nn.Module | None:
    """Return the module with the most submodules that contains all parameters of an optimizer, and none of `others`.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> outermost_module({model[1].weight}, []) is model
    True
    >>> outermost_module({model[1].weight}, [{model[0].weight}]) is model[1]
    True
    """
    best, size = None, 0
    foreign = set[Tensor]().union(*others) - own
    for module in live_modules():
        parameters = set(module.parameters())
        if own and parameters.issuperset(own) and parameters.isdisjoint(foreign):
            count = sum(1 for _ in module.modules())
            if count > size:
                best, size = module, count
    return best


def _smallest(modules: Iterable[nn.Module], parameters: Collection[Tensor]) -> nn.Module | None:
    """Return the module with the fewest submodules among those that contain all the parameters."""
    best, size = None, sys.maxsize
    for module in modules:
        if parameters and set(module.parameters()).issuperset(parameters):
            count = sum(1 for _ in module.modules())
            if count < size:
                best, size = module, count
    return best


def _named(parts: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Name modules after the script's variables for them, or else after their classes.

    >>> [*_named([nn.Linear(1, 1), nn.Linear(1, 1)])]
    ['linear', 'linear_2']
    """
    variables = {id(value): name for name, value in vars(sys.modules["__main__"]).items() if not name.startswith("_")}
    named: dict[str, nn.Module] = {}
    for part in parts:
        stem = variables.get(id(part), type(part).__name__.lower())
        stem = f"{stem}_" if hasattr(nn.ModuleDict, stem) else stem
        name, number = stem, 1
        while name in named:
            number += 1
            name = f"{stem}_{number}"
        named[name] = part
    return named


def live_modules() -> list[nn.Module]:
    """Return all modules that exist."""
    # type() and not isinstance(), which would ask lazily imported objects for their class.
    return [each for each in gc.get_objects() if issubclass(type(each), nn.Module)]


def live_optimizers() -> list[torch.optim.Optimizer]:
    """Return all optimizers that exist."""
    return [each for each in gc.get_objects() if issubclass(type(each), torch.optim.Optimizer)]
