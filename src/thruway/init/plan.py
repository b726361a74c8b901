"""Plan of the initialisation of a whole model: all decisions are made, and all errors raised, before anything is
written.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from thruway.errors import InitError
from thruway.init import schemes
from thruway.init.layers import LOOKUPS
from thruway.init.neighbours import Neighbours, neighbours
from thruway.init.orthogonal import delta_orthogonal_, looks_linear_, looks_linear_std
from thruway.init.ownership import OwnedPart, Parameters, list_owned_parts
from thruway.init.parts import HasParts
from thruway.init.scheme_table import SCHEMES, Scheme
from thruway.init.schemes import check_weight, fans, fill, normal
from thruway.init.summary import Row

__all__ = ["Gain", "Step", "plan"]

Gain = float | Literal["auto"]
Write = Callable[[torch.Generator], object]


@dataclass(frozen=True)
class Step:
    """A row of the summary and the function that carries it out; None if the values are kept."""

    row: Row
    write: Write | None
    stream: str = ""


def plan(model: nn.Module, scheme: Scheme, gain: Gain, bias: float, unknown: str) -> list[Step]:
    """Return all steps, in the order of the parameters of the model."""
    parameters = Parameters(model)
    by_layer = neighbours(model)
    streams: Counter[str] = Counter()
    steps: list[Step] = []
    assigned: set[int] = set()
    for entry in list_owned_parts(model, parameters, bias):
        if entry.owns_weight:
            assigned.add(id(entry.weight_in))
            stream = _distinct(".".join(filter(None, (entry.path, entry.part.name))), streams)
            steps.append(_weight_step(entry, parameters, scheme, gain, by_layer, stream))
        if entry.owns_bias and entry.part.bias is not None:
            assigned.add(id(entry.bias_in))
            names = parameters.names[id(entry.bias_in)]
            steps.append(_constant(names, entry.part.name, entry.part.bias, entry.part.bias_value))
    steps.extend(_unassigned(model, parameters, assigned, unknown))
    order = {names[0]: place for place, names in enumerate(parameters.names.values())}
    return sorted(steps, key=lambda step: order[step.row.parameter])


def _weight_step(
    entry: OwnedPart,
    parameters: Parameters,
    scheme: Scheme,
    gain: Gain,
    by_layer: dict[int, Neighbours],
    stream: str,
) -> Step:
    part, names = entry.part, parameters.names[id(entry.weight_in)]
    if part.weight_value is not None:
        return _constant(names, part.name, part.weight, part.weight_value)
    if isinstance(entry.module, LOOKUPS):
        return _lookup(entry, names, stream)
    layer_neighbours = Neighbours(part.activation, "" if part.activation else Neighbours().reason)
    # Only the output of a plain layer is known to be the pre-activation of the module after it.
    if part.activation is None and not isinstance(entry.module, HasParts):
        layer_neighbours = by_layer.get(id(entry.module), layer_neighbours)
    factor, reason = _gain(scheme, gain, layer_neighbours)
    try:
        check_weight(part.weight, factor, part.groups)
    except InitError as error:
        raise InitError(
            f"parameter {names[0]!r}, part {part.name!r} of {type(entry.module).__name__}: {error}"
        ) from None
    fill_it, std, form = _filler(entry, scheme, by_layer)
    fan_in, fan_out = fans(part.weight, part.groups)
    notes = _notes(form, reason, names=names)
    row = Row(names[0], part.name, scheme.name, fan_in, fan_out, factor, factor * std, notes)
    return Step(row, lambda generator: fill_it(part.weight, factor, generator, part.groups), stream)


def _gain(scheme: Scheme, gain: Gain, layer_neighbours: Neighbours) -> tuple[float, str]:
    if gain != "auto":
        return float(gain), ""
    if not scheme.takes_activation_gain:
        return 1.0, ""
    if layer_neighbours.activation is None:
        return 1.0, f"gain 1: {layer_neighbours.reason}"
    return schemes.gain(layer_neighbours.activation), f"gain of {layer_neighbours.activation}"


def _filler(
    entry: OwnedPart, scheme: Scheme, by_layer: dict[int, Neighbours]
) -> tuple[Callable[..., Tensor], float, str]:
    """Return the function that fills the part, its standard deviation at gain 1, and a note on the form."""
    part = entry.part
    if scheme.name != "looks_linear":
        return scheme, scheme.std(part.weight, part.groups), ""
    previous = by_layer.get(id(entry.module), Neighbours()).previous
    reads = previous is not None and _writes_mirrored(previous, by_layer) and part.weight.shape[1] % 2 == 0
    writes = _writes_mirrored(entry.module, by_layer)
    if part.groups != 1 or not (reads or writes):
        std = SCHEMES["delta_orthogonal"].std(part.weight, part.groups)
        return delta_orthogonal_, std, "one orthogonal map: no pair of ReLU layers"
    std = looks_linear_std(part.weight, 1, reads_mirrored=reads, writes_mirrored=writes)
    form = {(True, True): "[[V, -V], [-V, V]]", (True, False): "[V, -V]", (False, True): "[[V], [-V]]"}[reads, writes]
    return partial(looks_linear_, reads_mirrored=reads, writes_mirrored=writes), std, form


def _writes_mirrored(module: nn.Module, by_layer: dict[int, Neighbours]) -> bool:
    is_paired = isinstance(module, nn.Linear) or (
        isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups == 1
    )
    weight = module._parameters.get("weight") if is_paired else None
    return (
        weight is not None and by_layer.get(id(module), Neighbours()).activation == "relu" and weight.shape[0] % 2 == 0
    )


def _lookup(entry: OwnedPart, names: list[str], stream: str) -> Step:
    """Plan an embedding: unit variance for every scheme, since it returns single rows, and zeros for the padding."""
    weight, padding = entry.part.weight, getattr(entry.module, "padding_idx", None)

    def write(generator: torch.Generator) -> None:
        values = normal(weight, 1.0, generator)
        if padding is not None:
            values[padding] = 0
        fill(weight, values)

    notes = _notes("row by row", "" if padding is None else f"row {padding} is 0 (padding)", names=names)
    return Step(Row(names[0], "", "normal", 1, weight.shape[1], 1.0, 1.0, notes), write, stream)


def _constant(names: list[str], part: str, tensor: Tensor, value: float) -> Step:
    if math.isnan(value):  # -inf is valid: a gate that never opens
        raise InitError(f"the initial value of parameter {names[0]!r} is nan: pass a number.")
    row = Row(names[0], part, f"constant {value:g}", std=0.0, note=_notes(names=names))
    return Step(row, lambda _: fill(tensor, torch.tensor(value, dtype=torch.float64)))


def _unassigned(model: nn.Module, parameters: Parameters, assigned: set[int], unknown: str) -> list[Step]:
    left = {
        identity: parameter
        for identity, parameter in parameters.tensors.items()
        if identity not in assigned and parameter.numel()
    }
    owners = {id(own): module for module in model.modules() for own in module.parameters(recurse=False)}
    if left and unknown == "raise":
        hidden = [name for identity in left for name in parameters.names[identity] if "parametrizations." in name]
        if hidden:
            raise InitError(
                f"parameter {hidden[0]!r} belongs to a reparametrisation (weight_norm, spectral_norm, ...), where a "
                "scheme cannot set the weight itself; nothing was written. Initialise the model before you "
                'reparametrise it, or pass unknown="keep".'
            )
        identity, parameter = next(iter(left.items()))
        name, owner = parameters.names[identity][0], type(owners[identity]).__name__
        more = f" (and {len(left) - 1} more like it)" if len(left) > 1 else ""
        raise InitError(
            f"no rule initialises parameter {name!r} of {owner}, shape {tuple(parameter.shape)}{more}; nothing was "
            f"written. Give {owner} an init_parts() method that lists it as a thruway.init.Part, or set it "
            'yourself and pass unknown="keep".'
        )
    return [
        Step(
            Row(
                parameters.names[identity][0],
                "",
                "kept",
                note=_notes(f"no rule for {type(owners[identity]).__name__}", names=parameters.names[identity]),
                is_skipped=True,
            ),
            None,
        )
        for identity in left
    ]


def _notes(*sentences: str, names: list[str]) -> str:
    shared = f"shared with {', '.join(names[1:])}" if names[1:] else ""
    return "; ".join(filter(None, (*sentences, shared)))


def _distinct(name: str, seen: Counter[str]) -> str:
    """Append a number to a repeated name, so that parts with the same name get different random values."""
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"
