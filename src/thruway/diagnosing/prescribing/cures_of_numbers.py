"""Cures that change numbers only: initial weights and biases, learning rate, clipping, input scaling, loop."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from thruway.diagnosing.prescribing.applying import Application, Case, Changed, NotApplicableError
from thruway.diagnosing.prescribing.setup import Scaling, Setup

__all__ = ["NUMBERS"]

_MAX_NORM = 1.0


def _rate(factor: float) -> Any:
    def apply(setup: Setup, case: Case) -> Changed:
        for group in setup.optimizer.param_groups:
            group["lr"] = group["lr"] * factor
        rates = ", ".join(f"{float(group['lr']):g}" for group in setup.optimizer.param_groups)
        kind = type(setup.optimizer).__name__
        return Changed(setup, f"optimizer = torch.optim.{kind}(model.parameters(), lr={rates})  # {factor:g} times")

    return apply


def _clip(setup: Setup, case: Case) -> Changed:
    code = f"loss.backward()\ntorch.nn.utils.clip_grad_norm_(model.parameters(), {_MAX_NORM})  # new\noptimizer.step()"
    return Changed(replace(setup, clip=_MAX_NORM), code)


def _zero_grad(setup: Setup, case: Case) -> Changed:
    if setup.zero_grad:
        raise NotApplicableError("the gradients are zeroed in every step already")
    code = "optimizer.zero_grad()  # new, in every step\nloss.backward()\noptimizer.step()"
    return Changed(replace(setup, zero_grad=True), code)


def _scale_input(setup: Setup, case: Case) -> Changed:
    tensors = [_first_tensor(inputs) for inputs, _ in case.batches]
    if any(t is None or not t.is_floating_point() for t in tensors):
        raise NotApplicableError("the first input is no floating-point tensor")
    inputs = [t for t in tensors if t is not None]
    if inputs[0].dim() == 2:  # features, each with its own scale
        rows = torch.cat(inputs).double()
        dims, sizes = (0,), "0"
    else:
        rows = torch.cat([t.reshape(-1) for t in inputs]).double()
        dims, sizes = (0,), ""
    mean, std = rows.mean(dims), rows.std(dims, correction=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    if bool((mean.abs() < 0.05).all() and ((std - 1).abs() < 0.05).all()):
        raise NotApplicableError("the inputs have mean 0 and standard deviation 1 already")
    scaling = Scaling(mean.to(inputs[0]), std.to(inputs[0]))
    if sizes:
        code = "mean, std = train_inputs.mean(0), train_inputs.std(0).clamp(min=1e-8)\ninputs = (inputs - mean) / std"
    else:
        code = f"inputs = (inputs - {float(mean):.4g}) / {float(std):.4g}"
    return Changed(replace(setup, scaling=scaling), code)


def _first_tensor(inputs: Any) -> Tensor | None:
    if isinstance(inputs, dict):
        inputs = tuple(inputs.values())
    first = inputs[0] if isinstance(inputs, tuple) and inputs else inputs
    return first if isinstance(first, Tensor) else None


def _add_parameters(setup: Setup, case: Case) -> Changed:
    optimizer = setup.optimizer
    held = {p for group in optimizer.param_groups for p in group["params"]}
    missing = [(name, p) for name, p in setup.model.named_parameters() if p.requires_grad and p not in held]
    if not missing:
        raise NotApplicableError("the optimizer holds all trainable parameters already")
    group = optimizer.param_groups[0]
    own = set(setup.model.parameters())
    for each in optimizer.param_groups:  # those of a copy of the model are of no use
        each["params"] = [p for p in each["params"] if p in own]
    group["params"] += [p for _, p in missing]
    names = ", ".join(name for name, _ in missing[:4]) + (", ..." if len(missing) > 4 else "")
    kind = type(optimizer).__name__
    code = f"optimizer = torch.optim.{kind}(model.parameters(), lr={float(group['lr']):g})  # also {names}"
    return Changed(setup, code)


def _unfreeze(setup: Setup, case: Case) -> Changed:
    frozen = [name for name, p in setup.model.named_parameters() if not p.requires_grad]
    if not frozen:
        raise NotApplicableError("all parameters require gradients already: look for .detach() or no_grad()")
    held = {p for group in setup.optimizer.param_groups for p in group["params"]}
    for p in setup.model.parameters():
        if not p.requires_grad:
            p.requires_grad_(True)
            if p not in held:
                setup.optimizer.param_groups[0]["params"].append(p)
    names = ", ".join(frozen[:4]) + (", ..." if len(frozen) > 4 else "")
    return Changed(setup, f"model.requires_grad_(True)  # {names}; before the optimizer is built")


def _reset_bias(setup: Setup, case: Case) -> Changed:
    biases = _biases(setup.model, {call.layer.path for call in case.facts.activations if call.is_gate and call.layer})
    with torch.no_grad():
        changed = [bias.zero_() for bias in biases if bool(bias.any())]
    if not changed:
        raise NotApplicableError("all biases are zero already")
    code = (
        "for module in model.modules():\n"
        "    if isinstance(module, (torch.nn.Linear, torch.nn.modules.conv._ConvNd)) and module.bias is not None:\n"
        "        torch.nn.init.zeros_(module.bias)"
    )
    return Changed(setup, code)


def _biases(model: nn.Module, gates: set[str]) -> list[Tensor]:
    return [
        module.bias
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and module.bias is not None and path not in gates
    ]


NUMBERS = (
    Application("lower_lr", _rate(0.1), "rate"),
    Application("much_lower_lr", _rate(0.01), "rate"),
    Application("raise_lr", _rate(10.0), "rate"),
    Application("much_raise_lr", _rate(100.0), "rate"),
    Application("clip", _clip, "clip"),
    Application("zero_grad", _zero_grad, "loop"),
    Application("scale_input", _scale_input, "input"),
    Application("add_parameters", _add_parameters, "optimizer"),
    Application("unfreeze", _unfreeze, "frozen"),
    Application("reset_bias", _reset_bias, "bias"),
)
