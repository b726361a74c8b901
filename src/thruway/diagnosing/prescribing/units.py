"""Places in a model around which a skip connection or a gate can be put."""

from collections import Counter
from dataclasses import dataclass

from torch import nn

from thruway.diagnosing.prescribing.applying import NotApplicableError
from thruway.diagnosing.prescribing.facts import ActivationCall, Facts

__all__ = ["Unit", "find_units"]


@dataclass(frozen=True)
class Unit:
    """A part of the forward pass that keeps the shape of its input.

    Attributes:
        layer: path of its first layer with a weight.
        shape: shape of input and output.
        block: path of the module that is the whole unit; None if it is a layer with its activation.
        chain: path of the nn.Sequential in which layer and activation stand; None if they do not.
        names: names of the first and last child of the chain that belong to the unit.
        call: number of the activation call at its end.
    """

    layer: str
    shape: tuple[int, ...]
    block: str | None = None
    chain: str | None = None
    names: tuple[str, str] = ("", "")
    call: int = -1


def find_units(model: nn.Module, facts: Facts) -> list[Unit]:
    """Return blocks of a chain of blocks, or else layers with their activations.

    Raises:
        NotApplicableError: if the model has neither.
    """
    found = _blocks(model, facts) or _layers(model, facts)
    if not found:
        raise NotApplicableError("no block or layer has an output of the shape of its input")
    return found


def _blocks(model: nn.Module, facts: Facts) -> list[Unit]:
    """Return the composite children of Sequentials and ModuleLists, where two or more keep their shape."""
    shapes = {block.path: block.shape for block in facts.blocks if block.shape}
    first_layer: dict[str, str] = {}
    for layer in facts.layers:
        parts = layer.path.split(".")
        for end in range(1, len(parts)):
            first_layer.setdefault(".".join(parts[:end]), layer.path)
    found: list[Unit] = []
    for path, container in model.named_modules():
        if isinstance(container, nn.Sequential | nn.ModuleList):
            children = [f"{path}.{name}" if path else name for name in container._modules]
            blocks = [child for child in children if child in shapes and child in first_layer]
            if len(blocks) >= 2 and not any(path.startswith(f"{unit.block}.") for unit in found):
                found += [Unit(first_layer[child], shapes[child], block=child) for child in blocks]
    return found


def _layers(model: nn.Module, facts: Facts) -> list[Unit]:
    calls = Counter(layer.path for layer in facts.layers)
    found = []
    for call in facts.hidden:
        layer = call.layer
        if layer is None or layer.inputs != call.outputs or calls[layer.path] != 1:
            continue
        chain = _chain(model, call)
        if chain is None:
            found.append(Unit(layer.path, call.outputs, call=call.index))
        else:
            found.append(Unit(layer.path, call.outputs, chain=chain[0], names=chain[1:], call=call.index))
    return found


def _chain(model: nn.Module, call: ActivationCall) -> tuple[str, str, str] | None:
    """Return (path of the Sequential, name of the layer, name of the activation) if both are children of it."""
    assert call.layer is not None
    chain, _, first = call.layer.path.rpartition(".")
    other, _, last = call.owner.rpartition(".")
    if not call.is_module or other != chain or not isinstance(model.get_submodule(chain), nn.Sequential):
        return None
    return chain, first, last
