"""Assignment of every parameter to the module that initialises it, without omissions or repetitions."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thruway.errors import InitError
from thruway.init.layers import LOOKUPS, parts_of
from thruway.init.parts import Part
from thruway.init.schemes import check_storage

__all__ = ["OwnedPart", "Parameters", "list_owned_parts"]


class Parameters:
    """Index of a model's parameters by name, by identity, and by storage."""

    def __init__(self, model: nn.Module) -> None:
        self.names: dict[int, list[str]] = {}
        self.tensors: dict[int, nn.Parameter] = {}
        self._at: dict[int, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            check_storage(parameter, f"parameter {name!r}")
            self.names.setdefault(id(parameter), []).append(name)
            if id(parameter) not in self.tensors:
                self.tensors[id(parameter)] = parameter
                self._at.setdefault(parameter.untyped_storage().data_ptr(), []).append(parameter)

    def containing(self, view: Tensor) -> nn.Parameter | None:
        """Return the parameter whose memory contains `view`; None if there is none."""
        if id(view) in self.tensors:
            return self.tensors[id(view)]
        first, last = _span(view)
        for parameter in self._at.get(view.untyped_storage().data_ptr(), []):
            start, end = _span(parameter)
            if start <= first and last <= end:
                return parameter
        return None


@dataclass(frozen=True)
class OwnedPart:
    """A part of a module, and whether the module initialises its weight and its bias."""

    path: str
    module: nn.Module
    part: Part
    weight_in: nn.Parameter
    bias_in: nn.Parameter | None
    owns_weight: bool
    owns_bias: bool


def list_owned_parts(model: nn.Module, parameters: Parameters, bias: float) -> list[OwnedPart]:
    """List the parts of all modules, in the order of the model.

    A parameter shared by several modules belongs to the first of them. An embedding owns a shared parameter only if
    no other module uses it: rows of unit variance would make a map of fan-in n too large by sqrt(n).
    """
    found = list(_found(model, parameters, bias))
    owner: dict[int, nn.Module] = {}
    for _, module, _, weight_in, bias_in in sorted(found, key=lambda entry: isinstance(entry[1], LOOKUPS)):
        for parameter in (weight_in, bias_in):
            if parameter is not None:
                owner.setdefault(id(parameter), module)
    owned = [
        OwnedPart(*entry, owner[id(entry[3])] is entry[1], entry[4] is not None and owner[id(entry[4])] is entry[1])
        for entry in found
    ]
    _check_cover(owned, parameters)
    return owned


_Found = tuple[str, nn.Module, Part, nn.Parameter, nn.Parameter | None]


def _found(model: nn.Module, parameters: Parameters, bias: float) -> Iterator[_Found]:
    for path, module in model.named_modules():
        for part in parts_of(module, bias) or ():
            if part.weight.numel():
                weight_in = _home(parameters, part.weight, part, path, module)
                bias_in = None if part.bias is None else _home(parameters, part.bias, part, path, module)
                yield path, module, part, weight_in, bias_in


def _home(parameters: Parameters, view: Tensor, part: Part, path: str, module: nn.Module) -> nn.Parameter:
    parameter = parameters.containing(view)
    if parameter is None:
        raise InitError(
            f"part {part.name!r} of {type(module).__name__} at {path or 'the top'!r} is not a view of a parameter "
            "of the model, so writing to it has no effect: let init_parts() yield slices of parameters, not copies."
        )
    return parameter


def _check_cover(owned: list[OwnedPart], parameters: Parameters) -> None:
    """Check that each element of every owned parameter is in exactly one part."""
    seen: dict[int, tuple[Tensor, OwnedPart]] = {}
    for entry in owned:
        pieces = (
            (entry.owns_weight, entry.part.weight, entry.weight_in),
            (entry.owns_bias, entry.part.bias, entry.bias_in),
        )
        for is_owned, view, parameter in pieces:
            if is_owned and view is not None and parameter is not None:
                count, _ = seen.setdefault(id(parameter), (_blank(parameter), entry))
                first, _ = _span(parameter)
                count.as_strided(view.shape, view.stride(), view.storage_offset() - first).add_(1)
    for identity, (count, entry) in seen.items():
        parameter = parameters.tensors[identity]
        visits = count.as_strided(parameter.shape, parameter.stride(), 0)
        missed, repeated = int((visits == 0).sum()), int((visits > 1).sum())
        if missed or repeated:
            name, kind = parameters.names[identity][0], type(entry.module).__name__
            raise InitError(
                f"the parts of {kind} do not cover parameter {name!r} exactly: of its {parameter.numel()} elements "
                f"{missed} are in no part and {repeated} in more than one. Correct the views that init_parts() yields."
            )


def _blank(parameter: nn.Parameter) -> Tensor:
    first, last = _span(parameter)
    return torch.zeros(last - first + 1, dtype=torch.uint8)


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the positions of the first and the last element in the storage."""
    first = int(tensor.storage_offset())
    return first, first + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
