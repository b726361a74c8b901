"""The Jacobians between the named layers of a model, on a fixed batch."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.nn.recurrent import RecurrentHighway
from thruway.nn.stack import GradientsTap, HighwayStack, StatesTap
from thruway.watching.evaluation import as_it_is
from thruway.watching.operations import ACTIVATION_MODULES
from thruway.watching.quantities.jacobian import LayerJacobian, mean_singular_value

__all__ = ["layer_jacobians", "layers_of", "outputs_kept"]


def layer_jacobians(
    model: nn.Module,
    x: Tensor,
    layers: Sequence[str] | None = None,
    *,
    exact_up_to: int = 512,
    directions: int = 4,
    generator: torch.Generator | None = None,
) -> dict[str, LayerJacobian]:
    """How much each layer stretches or shrinks a small change of the layer before: mean singular values, by name.

        J_i = ∂z_{i+1} / ∂z_i

    One pass of the model as it is now, in evaluation mode; nothing of it is changed and nothing remains. They cost a
    backward pass through one layer per unit of it. While a model trains, `watch` takes them if its quantities name
    "jacobian".

    Args:
        model: any module; examples must not mix in it.
        x: (batch, ...) its input. 8 examples are enough for a mean over directions.
        layers: paths of modules, in the order they run; every Jacobian is that of a module's output with respect to
            the one before, of the first with respect to x. Left out: the activation modules, or where there are
            none, all modules that contain no others; a HighwayStack or a RecurrentHighway counts as one.
        exact_up_to, directions, generator: as in layer_jacobian.
    Returns:
        By the later layer's path.
    Raises:
        ConfigError: for a path that the model has not or that did not run, or layers that do not feed each other.
        ShapeError: for a layer that does not return one tensor with a row per example.
    Source:
        Glorot & Bengio 2010, eq. 17 and the text below it.

    >>> net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False), nn.Tanh())
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.eye(3)), net[2].weight.copy_(0.5 * torch.eye(3))
    >>> {name: j.mean_singular_value for name, j in layer_jacobians(net, torch.zeros(4, 3)).items()}
    {'1': 1.0, '3': 0.5}
    """
    modules = layers_of(model) if layers is None else _named(model, layers)
    with outputs_kept(modules) as outputs, as_it_is(model), torch.enable_grad():
        before = x.detach().clone()
        if before.is_floating_point():
            before.requires_grad_()
        model(before.clone())
        found: dict[str, LayerJacobian] = {}
        # Where layers were named, their order is what was asked for; else it is that of the pass.
        for name in outputs if layers is None else modules:
            if name not in outputs:
                raise ConfigError(f"layer {name!r} did not run on this input. Leave it out of layers.")
            output = outputs[name]
            if not isinstance(output, Tensor):
                raise ShapeError(
                    f"layer {name!r} returned {type(output).__name__}, and a Jacobian needs one tensor. "
                    "Name other layers."
                )
            if output.dim() < 2 or len(output) != len(x):
                raise ShapeError(
                    f"layer {name!r} returned shape {tuple(output.shape)} for {len(x)} examples; a Jacobian example by "
                    "example needs (batch, ...). Name layers that return it."
                )
            if before.is_floating_point() and before.requires_grad:
                try:
                    found[name] = mean_singular_value(
                        output, before, exact_up_to=exact_up_to, directions=directions, generator=generator
                    )
                except ConfigError as error:
                    raise ConfigError(f"at layer {name!r}: {error}") from error
            before = output
    return found


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that nobody named: the activation modules, or where there are none, modules that contain no others."""
    # A recurrent highway calls what it contains at every micro-step.
    recurrent = [module for module in model.modules() if isinstance(module, RecurrentHighway)]
    inner = {part for layer in recurrent for part in layer.cell.modules()}
    every = {name: module for name, module in model.named_modules() if module not in inner}
    activations = {name: module for name, module in every.items() if type(module) in ACTIVATION_MODULES}
    return activations or {name: module for name, module in every.items() if _is_whole(module)}


def _is_whole(module: nn.Module) -> bool:
    # What a stack contains is there to be heard: its layers are tensors, not modules.
    is_stack = isinstance(module, (HighwayStack, RecurrentHighway))
    return is_stack or not (module._modules or isinstance(module, (StatesTap, GradientsTap)))


def _named(model: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    every = dict(model.named_modules())
    for name in layers:
        if name not in every:
            raise ConfigError(unknown_name("layer", name, every))
    return {name: every[name] for name in layers}


@contextlib.contextmanager
def outputs_kept(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """Every module's first output in the block, by name, in the order they ran."""
    outputs: dict[str, Any] = {}
    handles = [module.register_forward_hook(partial(_keep, name, outputs)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _keep(name: str, outputs: dict[str, Any], _module: nn.Module, _inputs: Any, output: Any) -> Any:
    if name in outputs:
        return None
    outputs[name] = output
    # The model goes on with a copy, which it may overwrite.
    return output.clone() if isinstance(output, Tensor) else None
