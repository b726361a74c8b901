"""Cures that change modules: skip connections, highway gates, normalisation, other activations, no final softmax."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from thruway.diagnosing.prescribing.applying import (
    Application,
    Case,
    Changed,
    NotApplicableError,
    put,
    with_model,
)
from thruway.diagnosing.prescribing.cures_of_weights import critical_weights
from thruway.diagnosing.prescribing.facts import ActivationCall, Facts
from thruway.diagnosing.prescribing.rewiring import AddSkip, Carry, DropSoftmax, Rewired, Swap, activation_module_of
from thruway.diagnosing.prescribing.setup import Setup, seeded
from thruway.diagnosing.prescribing.units import Unit, find_units
from thruway.nn import Highway, Residual, gate_bias_for_depth
from thruway.watching.operations import ACTIVATION_MODULES

__all__ = ["MODULES"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = {
    nn.Linear: nn.BatchNorm1d,
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}
_SMALLEST_BATCH = 8  # for batch norm

Wrap = Callable[[nn.Module], nn.Module]


def _skip(setup: Setup, case: Case) -> Changed:
    units = _new_units(setup, case)
    scale = len(units) ** -0.5
    model = _wrapped(setup.model, units, lambda unit, inner: Residual(inner, scale=scale), lambda unit: AddSkip(scale))
    if units[0].block is not None:
        code = f"blocks[i] = thruway.nn.Residual(blocks[i], scale={scale:.4g})  # {len(units)} blocks"
    elif units[0].chain is not None:
        code = (
            f"thruway.nn.Residual(nn.Sequential(layer, activation), scale={scale:.4g})  # {len(units)} of {len(units)}"
        )
    else:
        code = f"x = x + {scale:.4g} * activation(layer(x))  # in forward, for {len(units)} layers"
    return Changed(with_model(setup, model, set(setup.model.parameters())), code)


def _highway(setup: Setup, case: Case) -> Changed:
    units = _new_units(setup, case)
    bias = gate_bias_for_depth(len(units))
    known = set(setup.model.parameters())
    with seeded(case.seed, "gates"):
        gates = {unit: _gate(setup.model, unit) for unit in units}
    for gate in gates.values():
        nn.init.constant_(gate.bias, bias)  # type: ignore[arg-type]
    model = _wrapped(
        setup.model,
        units,
        lambda unit, inner: Highway(inner, gates[unit], gate_bias=bias),
        lambda unit: Carry(gates[unit]),
    )
    if units[0].block is None and units[0].chain is None:
        code = (
            f"t = torch.sigmoid(gate(x))  # gate: as the layer, with bias {bias:g}\n"
            f"x = activation(layer(x)) * t + x * (1 - t)  # in forward, for {len(units)} layers"
        )
    else:
        inner = "blocks[i]" if units[0].block is not None else "nn.Sequential(layer, activation)"
        code = f"thruway.nn.Highway({inner}, gate={next(iter(gates.values()))}, gate_bias={bias:g})"
    return Changed(with_model(setup, model, known), code)


def _new_units(setup: Setup, case: Case) -> list[Unit]:
    if case.facts.skips:
        raise NotApplicableError(f"the model has skip connections already ({case.facts.skips} sums)")
    return find_units(setup.model, case.facts)


def _gate(model: nn.Module, unit: Unit) -> nn.Module:
    layer = model.get_submodule(unit.layer)
    like: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        return nn.Linear(unit.shape[-1], unit.shape[-1], **like)
    for kind in _CONVOLUTIONS:
        if isinstance(layer, kind):
            return kind(unit.shape[1], unit.shape[1], 1, **like)
    raise NotApplicableError(f"no gate is known for a {type(layer).__name__}")


def _wrapped(
    model: nn.Module,
    units: list[Unit],
    wrap: Callable[[Unit, nn.Module], nn.Module],
    replacement: Callable[[Unit], nn.Module],
) -> nn.Module:
    """Wrap the units: blocks in place, chains by grouping their children, other calls by rewiring."""
    by_chain: dict[str, list[Unit]] = {}
    rewired: dict[int, nn.Module] = {}
    for unit in units:
        if unit.block is not None:
            put(model, unit.block, wrap(unit, model.get_submodule(unit.block)))
        elif unit.chain is not None:
            by_chain.setdefault(unit.chain, []).append(unit)
        else:
            rewired[unit.call] = replacement(unit)
    for chain, own in by_chain.items():
        container = model.get_submodule(chain)
        grouped = _grouped(container, own, wrap)
        container._modules.clear()
        container._modules.update({str(place): module for place, module in enumerate(grouped)})
    return Rewired(model, rewired) if rewired else model


def _grouped(container: nn.Module, units: list[Unit], wrap: Callable[[Unit, nn.Module], nn.Module]) -> list[nn.Module]:
    first, last = {unit.names[0]: unit for unit in units}, {unit.names[1] for unit in units}
    result: list[nn.Module] = []
    inside: list[nn.Module] = []
    current: Unit | None = None
    for name, child in container._modules.items():
        assert child is not None
        current = first.get(name, current)
        if current is None:
            result.append(child)
            continue
        inside.append(child)
        if name in last:
            result.append(wrap(current, nn.Sequential(*inside)))
            inside, current = [], None
    return result


def _normalise(setup: Setup, case: Case) -> Changed:
    calls = Counter(layer.path for layer in case.facts.layers)
    known = set(setup.model.parameters())
    norms: dict[str, nn.Module] = {}
    for call in case.facts.hidden:
        if call.layer is not None and not call.is_normalised and call.layer.path not in norms:
            layer = setup.model.get_submodule(call.layer.path)
            norm = _norm(layer, call.layer.outputs, is_shared=calls[call.layer.path] > 1)
            if norm is not None:
                norms[call.layer.path] = norm
                put(setup.model, call.layer.path, nn.Sequential(layer, norm))
    if not norms:
        raise NotApplicableError("no activation takes the output of a Linear or convolution without a norm")
    code = f"nn.Sequential(layer, {next(iter(norms.values()))})  # in place of {len(norms)} layers before an activation"
    return Changed(with_model(setup, setup.model, known), code)


def _norm(layer: nn.Module, shape: tuple[int, ...], is_shared: bool) -> nn.Module | None:
    kind = next((kind for kind in _BATCH_NORMS if isinstance(layer, kind)), None)
    if kind is None:
        return None
    like: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if kind is nn.Linear and (len(shape) != 2 or is_shared or shape[0] < _SMALLEST_BATCH):
        return nn.LayerNorm(shape[-1], **like)
    if shape[0] < _SMALLEST_BATCH:
        return nn.GroupNorm(1, shape[1], **like)
    return _BATCH_NORMS[kind](shape[1], **like)


def _activation(name: str) -> Callable[[Setup, Case], Changed]:
    def apply(setup: Setup, case: Case) -> Changed:
        calls = [call for call in case.facts.hidden if call.name != name]
        if not calls:
            raise NotApplicableError(
                f"all hidden activations are {name} already" if case.facts.hidden else "no hidden activation was found"
            )
        former = case.facts.activation
        model = _swapped(setup.model, case.facts, calls, name)
        code = f"{activation_module_of(name)} in place of {former}, in {len(calls)} calls"
        if not (former == "relu" and name == "leaky_relu"):  # their critical points are close
            # The weights are drawn before rewiring, so that paths are those of the user's model.
            code += "\n" + critical_weights(setup.model, case.facts, name, case.seed)
        return Changed(with_model(setup, model, set(setup.model.parameters())), f"# {code}")

    return apply


def _swapped(model: nn.Module, facts: Facts, calls: list[ActivationCall], name: str) -> nn.Module:
    chosen = {call.index for call in calls}
    rewired: dict[int, nn.Module] = {}
    for call in calls:
        together = {other.index for other in facts.activations if other.owner == call.owner}
        if call.is_module and together <= chosen and type(model.get_submodule(call.owner)) in ACTIVATION_MODULES:
            put(model, call.owner, activation_module_of(name))
        else:
            rewired[call.index] = Swap(name)
    return Rewired(model, rewired) if rewired else model


def _logits(setup: Setup, case: Case) -> Changed:
    last = next((call for call in case.facts.softmaxes if call.is_output), None)
    if last is None:
        raise NotApplicableError("the output of the model is not the result of softmax: look at the loss")
    instead = "torch.nn.Sigmoid()" if last.size == 1 else "torch.nn.Identity()"
    calls = [call for call in case.facts.softmaxes if call.owner == last.owner]
    if last.is_module and len(calls) == 1:
        put(setup.model, last.owner, torch.nn.Sigmoid() if last.size == 1 else torch.nn.Identity())
        return Changed(setup, f"model.{last.owner} = {instead}  # in place of {last.name}")
    model = Rewired(setup.model, softmaxes={last.index: DropSoftmax(last.size)})
    where = f"{last.owner}.forward" if last.owner else "forward"
    code = f"# in {where}: return the input of {last.name}" + (", through torch.sigmoid" if last.size == 1 else "")
    return Changed(with_model(setup, model, set(setup.model.parameters())), code)


MODULES = (
    Application("skip", _skip, "structure"),
    Application("highway", _highway, "structure"),
    Application("normalise", _normalise, "normalisation"),
    Application("relu", _activation("relu"), "activation"),
    Application("leaky_relu", _activation("leaky_relu"), "activation"),
    Application("tanh", _activation("tanh"), "activation"),
    Application("logits", _logits, "output"),
)
