"""Recipe of a removal: the changes that make a smaller model out of a full one, also as JSON."""

import copy
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from thruway.dissecting.removal.huggingface import renumber_layers
from thruway.dissecting.removal.stacks import shorten
from thruway.dissecting.removal.standins import Carry, Fill, standin_from_json, standin_to_json
from thruway.errors import ConfigError
from thruway.nn import HighwayStack

__all__ = ["Recipe", "Removals", "removals_of"]

_NOTE = "_thruway_removals"
_LONGEST = 100_000  # entries of one kind; a file with more is not a recipe


@dataclass(frozen=True)
class Recipe:
    """Changes of a model. Paths are those before any change.

    Attributes:
        branches: names of the removed branches.
        replaced: stand-ins by the path of the module whose place they take.
        layers: places of the layers that remain, by path of a `HighwayStack`.
        emptied: names of parameters that become a zero, because the code of a module that is needed reads them.
        kept: places of the modules that remain, and the number before, by path of an nn.Sequential or nn.ModuleList.
    """

    branches: tuple[str, ...] = ()
    replaced: Mapping[str, Carry | Fill] = field(default_factory=dict)
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    emptied: tuple[str, ...] = ()
    kept: Mapping[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)

    def apply(self, model: nn.Module) -> None:
        """Change a full model in place.

        Raises:
            ConfigError: if the model does not have the modules and parameters that change.
        """
        try:
            for path, standin in self.replaced.items():
                _put(model, path, copy.deepcopy(standin))
            for path, layers in self.layers.items():
                _shorten(model, path, layers)
            for name in self.emptied:
                _empty(model, name)
            for path, (kept, former) in self.kept.items():
                _take_out(model, path, kept, former)
        except (AttributeError, KeyError, IndexError) as error:
            raise ConfigError(
                f"the recipe does not fit {type(model).__name__}: {error}. It belongs to the model from which the "
                "branches were removed."
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain lists, dicts, numbers and strings.

        Raises:
            ConfigError: if a stand-in returns a structure that JSON cannot hold, such as a named tuple.
        """
        return {
            "branches": list(self.branches),
            "replaced": {path: standin_to_json(standin) for path, standin in self.replaced.items()},
            "layers": {path: list(layers) for path, layers in self.layers.items()},
            "emptied": list(self.emptied),
            "kept": {path: {"places": list(kept), "of": former} for path, (kept, former) in self.kept.items()},
        }

    @classmethod
    def from_json(cls, data: Any) -> "Recipe":
        """Read what `to_json` returns.

        Raises:
            ConfigError: if it is anything else.
        """
        fields = ("branches", "replaced", "layers", "emptied", "kept")
        _check(
            isinstance(data, dict) and sorted(data) == sorted(fields), f"it must have the entries {', '.join(fields)}"
        )
        for name in ("replaced", "layers", "kept"):
            _check(isinstance(data[name], dict) and len(data[name]) <= _LONGEST, f"{name} must be an object")
        for name in ("branches", "emptied"):
            is_list = isinstance(data[name], list) and len(data[name]) <= _LONGEST
            _check(is_list and all(isinstance(each, str) for each in data[name]), f"{name} must be a list of names")
        kept = {}
        for path, entry in data["kept"].items():
            _check(
                isinstance(entry, dict) and sorted(entry) == ["of", "places"], f"kept[{path!r}] must have places and of"
            )
            kept[path] = _places(entry["places"], path), _places([entry["of"]], path)[0]
        return cls(
            tuple(data["branches"]),
            {path: standin_from_json(entry) for path, entry in data["replaced"].items()},
            {path: _places(entry, path) for path, entry in data["layers"].items()},
            tuple(data["emptied"]),
            kept,
        )


@dataclass(frozen=True)
class Removals:
    """The removals that have made a model, in their order. The note is copied and pickled with the model.

    Attributes:
        recipes: a recipe for each removal.
        config: configuration of the full model as a dict, if it has one, as Hugging Face models have.
    """

    recipes: tuple[Recipe, ...]
    config: dict[str, Any] | None = None

    def note_in(self, model: nn.Module) -> None:
        """Attach the note to a model."""
        vars(model)[_NOTE] = self


def removals_of(model: nn.Module) -> Removals | None:
    """Return the removals that have made a model; None for a full model."""
    found: Removals | None = vars(model).get(_NOTE)
    return found


def _check(is_right: bool, what: str) -> None:
    if not is_right:
        raise ConfigError(f"this is not a recipe of a removal: {what}.")


def _places(value: Any, path: str) -> tuple[int, ...]:
    is_list = isinstance(value, list) and len(value) <= _LONGEST
    is_right = is_list and all(type(each) is int and 0 <= each <= _LONGEST for each in value)
    _check(is_right and value == sorted(set(value)), f"the places of {path!r} must be ascending numbers from 0")
    return tuple(value)


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    former = model.get_submodule(path)
    module.train(former.training)
    tensor = next(itertools.chain(former.parameters(), former.buffers()), None)
    model.get_submodule(parent)._modules[name] = module if tensor is None else module.to(tensor.device)


def _shorten(model: nn.Module, path: str, layers: tuple[int, ...]) -> None:
    stack = model.get_submodule(path)
    if not isinstance(stack, HighwayStack):
        raise KeyError(f"{path} is not a HighwayStack")
    shorten(stack, layers)


def _empty(model: nn.Module, name: str) -> None:
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    parameter = module._parameters.pop(attribute)
    if parameter is not None:
        zero = torch.zeros((), dtype=parameter.dtype, device=parameter.device)
        module.register_buffer(attribute, zero, persistent=False)


def _take_out(model: nn.Module, path: str, kept: tuple[int, ...], former: int) -> None:
    container = model.get_submodule(path)
    modules = list(container._modules.values())
    if type(container) not in (nn.Sequential, nn.ModuleList) or len(modules) != former:
        raise KeyError(f"{path} is not an nn.Sequential or nn.ModuleList of {former} modules")
    container._modules.clear()
    container._modules.update({str(place): modules[old] for place, old in enumerate(kept)})
    renumber_layers(model, path, kept, former)
