"""Cures that change the initial weights: critical initialisation, broken symmetry, gate bias."""

import torch
from torch import Tensor, nn

from thruway.activations import ACTIVATIONS
from thruway.diagnosing.prescribing.applying import Application, Case, Changed, NotApplicableError
from thruway.diagnosing.prescribing.facts import Facts
from thruway.diagnosing.prescribing.setup import Setup
from thruway.errors import InitError
from thruway.init import glorot_uniform_, initialize, meanfield
from thruway.init.parts import HasParts
from thruway.nn import gate_bias_for_depth
from thruway.seeding import generator

__all__ = ["WEIGHTS", "critical_weights"]

# Where the activation is not in ACTIVATIONS or has a mean: sigma_w at the critical point of its centred form.
_SIGMOID_GAIN = 4.0  # 1 / sigmoid'(0)
_GAINS = {"leaky_relu": 2**0.5, "relu6": 2**0.5, "hardtanh": 1.0}


def critical_weights(model: nn.Module, facts: Facts, activation: str | None, seed: int) -> str:
    """Initialise a model at the critical point of an activation, with orthogonal maps; return the code.

    Layers after a sigmoid get the biases that cancel its mean of 1/2, so that it acts as tanh(z / 2) / 2.

    Raises:
        NotApplicableError: if a parameter has no rule.
    """
    name = activation or "linear"
    gain = _SIGMOID_GAIN if name == "sigmoid" else _critical_gain(name)
    try:
        initialize(model, "orthogonal", generator(seed, "critical"), gain=gain, unknown="keep")
    except InitError as error:
        raise NotApplicableError(str(error)) from None
    code = f'thruway.init.initialize(model, "orthogonal", gain={gain:.4g}, unknown="keep")'
    if name == "sigmoid":
        code += _centre(model, facts)
    return code


def _critical_gain(name: str) -> float:
    if name in _GAINS:
        return _GAINS[name]
    return meanfield.critical(name)[0] if name in ACTIVATIONS else 1.0


def _centre(model: nn.Module, facts: Facts) -> str:
    """Cancel the mean of the sigmoids in the biases of the layers after them; shrink the first and last weights."""
    paths = list(dict.fromkeys(call.path for call in facts.layers))
    modules = [model.get_submodule(path) for path in paths]
    with torch.no_grad():
        for place, module in enumerate(modules):
            weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
            if not isinstance(weight, Tensor):
                continue
            if place in (0, len(modules) - 1):
                weight.div_(2.0 if place == 0 else _SIGMOID_GAIN)
            if 0 < place < len(modules) - 1 and isinstance(bias, Tensor):
                bias.copy_(-weight.flatten(1).sum(dim=1) / 2)
    return (
        "\nwith torch.no_grad():  # sigmoid has the mean 1/2, which these biases cancel\n"
        "    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]\n"
        "    layers[0].weight.div_(2)\n"
        "    layers[-1].weight.div_(4)\n"
        "    for layer in layers[1:-1]:\n"
        "        layer.bias.copy_(-layer.weight.sum(1) / 2)"
    )


def _critical_init(setup: Setup, case: Case) -> Changed:
    if not case.facts.layers:
        raise NotApplicableError("no layer with a weight was called")
    return Changed(setup, critical_weights(setup.model, case.facts, case.facts.activation, case.seed))


def _break_symmetry(setup: Setup, case: Case) -> Changed:
    own = generator(case.seed, "symmetry")
    changed = []
    for name, parameter in setup.model.named_parameters():
        if parameter.dim() >= 2 and len(parameter) > 1 and bool((parameter == parameter[:1]).all()):
            glorot_uniform_(parameter.detach(), generator=own)
            changed.append(name)
    if not changed:
        raise NotApplicableError("no weight has equal rows")
    code = (
        "for parameter in model.parameters():\n"
        "    if parameter.dim() >= 2 and bool((parameter == parameter[:1]).all()):\n"
        "        torch.nn.init.xavier_uniform_(parameter)"
    )
    return Changed(setup, code)


def _gate_bias(setup: Setup, case: Case) -> Changed:
    """Set the biases of Thruway's transform gates, and of layers whose sigmoid is T in y = h T + x (1 - T)."""
    gates: list[Tensor] = []
    for module in setup.model.modules():
        if isinstance(module, HasParts):
            gates += [part.bias for part in module.init_parts() if _is_gate(part.name) and part.bias is not None]
    for path in dict.fromkeys(call.layer.path for call in case.facts.activations if call.is_gate and call.layer):
        bias = getattr(setup.model.get_submodule(path), "bias", None)
        if isinstance(bias, Tensor) and not any(bias.data_ptr() == known.data_ptr() for known in gates):
            gates.append(bias)
    if not gates:
        raise NotApplicableError("the model has no transform gates with a bias")
    value = gate_bias_for_depth(max(len(gates), 1))
    with torch.no_grad():
        for bias in gates:
            bias.fill_(value)
    return Changed(setup, f"torch.nn.init.constant_(gate.bias, {value:g})  # of every transform gate")


def _is_gate(name: str) -> bool:
    return name.rpartition(".")[2] in ("transform_gate", "gate")


WEIGHTS = (
    Application("critical_init", _critical_init, "init"),
    Application("break_symmetry", _break_symmetry, "init"),
    Application("gate_bias", _gate_bias, "gate"),
)
