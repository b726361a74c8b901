"""Jacobians between the layers of a model, for any batch, or for the probe during training."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.nn.hook_points import GradientsHookPoint, StatesHookPoint
from thruway.nn.recurrent import RecurrentHighway
from thruway.nn.stack import HighwayStack
from thruway.watching.modules import call_model, evaluation_mode
from thruway.watching.operations import ACTIVATION_MODULES
from thruway.watching.quantities.jacobian import LayerJacobian, depends_on, mean_singular_value

__all__ = ["EXACT_UP_TO", "EXAMPLES", "layer_jacobians", "probe_jacobians"]

# Of the probe: the number of examples, and the outputs per example up to which a decomposition costs less than an
# estimate, which costs about 150 backward passes through the layer.
EXAMPLES = 4
EXACT_UP_TO = 128
_DIRECTIONS = 2


def layer_jacobians(
    model: nn.Module,
    x: Tensor,
    layers: Sequence[str] | None = None,
    *,
    exact_up_to: int = 512,
    directions: int = 4,
    generator: torch.Generator | None = None,
) -> dict[str, LayerJacobian]:
    """Compute the mean singular values of the Jacobians between layers: the factor by which each stretches a small
    change.

        J_i = ∂z_{i+1} / ∂z_i

    The model runs once, in evaluation mode, and is not changed. The cost is one backward pass through each layer for
    each of its units. To measure them during training, pass the quantity "jacobian" to `watch`.

    Args:
        model: any module whose output for an example does not depend on other examples.
        x: input of the model, (batch, ...). 8 examples are sufficient for a mean over directions.
        layers: paths of modules, in the order in which they run. Each Jacobian is that of a module's output with
            respect to the output of the module before, the first with respect to x. Default: the activation modules or,
            if there are none, all modules without submodules. A HighwayStack or a RecurrentHighway counts as one.
        exact_up_to, directions, generator: see `layer_jacobian`.
    Returns:
        The result for each layer, by path.
    Raises:
        ConfigError: if a path is not in the model or did not run, or a layer is not computed from the preceding one.
        ShapeError: if a layer does not return a single tensor with one row per example.
    Source:
        Glorot & Bengio 2010, eq. 17 and the text below it.

    >>> net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False), nn.Tanh())
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.eye(3)), net[2].weight.copy_(0.5 * torch.eye(3))
    >>> {name: j.mean_singular_value for name, j in layer_jacobians(net, torch.zeros(4, 3)).items()}
    {'1': 1.0, '3': 0.5}
    """
    modules = _default_layers(model) if layers is None else _named(model, layers)
    with _first_outputs(modules) as outputs, evaluation_mode(model), torch.enable_grad():
        before = x.detach().clone()
        if before.is_floating_point():
            before.requires_grad_()
        model(before.clone())
        found: dict[str, LayerJacobian] = {}
        # Named layers in the given order, default layers in the order in which they ran.
        for name in outputs if layers is None else modules:
            if name not in outputs:
                raise ConfigError(f"layer {name!r} did not run on this input. Leave it out of layers.")
            output = outputs[name]
            if not isinstance(output, Tensor):
                raise ShapeError(
                    f"layer {name!r} returned {type(output).__name__}, but a Jacobian needs one tensor. "
                    "Pass other layers."
                )
            if output.dim() < 2 or len(output) != len(x):
                raise ShapeError(
                    f"layer {name!r} returned shape {tuple(output.shape)} for {len(x)} examples, but a Jacobian per "
                    "example needs (batch, ...). Pass layers that return it."
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


def probe_jacobians(model: nn.Module, inputs: Any) -> dict[str, float]:
    """Compute the mean singular values of `layer_jacobians` at a bounded cost, for the first 4 examples of a probe.

    They are exact for layers of up to 128 outputs per example. Larger layers are estimated along 2 random directions
    per example, which are the same at every call. A layer is omitted if it is not computed from the layer that ran
    before it, or does not return a single tensor with one row per example.

    Args:
        model: any module whose output for an example does not depend on other examples.
        inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments, whose tensors have one
            example per row. The first layer's Jacobian is with respect to the first tensor, if it is floating-point.
    Returns:
        Mean singular values, by path of the layer.
    Raises:
        ConfigError: if no layer has a Jacobian, or a large layer is not twice differentiable.
    Source:
        Glorot & Bengio 2010, eq. 17 and the text below it.

    >>> net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh())
    >>> _ = nn.init.eye_(net[0].weight)
    >>> probe_jacobians(net, torch.zeros(300, 3))
    {'1': 1.0}
    """
    few, first = _first_examples(inputs)
    found: dict[str, float] = {}
    with _first_outputs(_default_layers(model)) as outputs, evaluation_mode(model), torch.enable_grad():
        call_model(model, few)
        before = first
        for name, output in _with_rows(outputs, len(first)):
            if depends_on(output, before):
                found[name] = _probe_jacobian(name, output, before)
            before = output
    if not found:
        raise ConfigError(
            f"no layer of {type(model).__name__} has a Jacobian: none returns (batch, ...) computed from the layer "
            "that ran before it. Omit 'jacobian' from quantities, or select the layers in your own Quantity, "
            "with of_model= and layer_jacobians."
        )
    return found


def _first_examples(inputs: Any) -> tuple[Any, Tensor]:
    """Return the inputs cut to the first examples, and the first tensor among them."""
    items = dict(inputs) if isinstance(inputs, Mapping) else dict(enumerate(inputs if _is_tuple(inputs) else [inputs]))
    names = [name for name, item in items.items() if isinstance(item, Tensor) and item.dim() > 0]
    if not names:
        raise ConfigError("'jacobian' needs a tensor in probe=, with one example per row.")
    count = len(items[names[0]])
    for name in names:
        if len(items[name]) == count:
            items[name] = items[name][:EXAMPLES].detach().clone()
    first = items[names[0]]
    if first.is_floating_point():
        first.requires_grad_()
        items[names[0]] = first.clone()  # a copy, because the model may modify its input
    if isinstance(inputs, Mapping):
        return items, first
    return (tuple(items.values()) if _is_tuple(inputs) else items[0]), first


def _is_tuple(inputs: Any) -> bool:
    return isinstance(inputs, tuple)


def _with_rows(outputs: Mapping[str, Any], count: int) -> Iterator[tuple[str, Tensor]]:
    for name, output in outputs.items():
        if isinstance(output, Tensor) and output.dim() > 1 and len(output) == count and output.numel() > 0:
            yield name, output


def _probe_jacobian(name: str, output: Tensor, before: Tensor) -> float:
    directions = torch.Generator().manual_seed(0)  # the same at every call, so that only the model changes the series
    try:
        return mean_singular_value(
            output, before, exact_up_to=EXACT_UP_TO, directions=_DIRECTIONS, generator=directions
        ).mean_singular_value
    except RuntimeError as error:
        raise ConfigError(
            f"the Jacobian at layer {name!r} cannot be computed: {error}. Beyond {EXACT_UP_TO} outputs it is "
            "estimated, which needs second derivatives. Leave 'jacobian' out of quantities, or select other layers in "
            "your own Quantity, with of_model= and layer_jacobians."
        ) from error


def _default_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the activation modules or, if there are none, the modules without submodules."""
    # A recurrent highway calls its submodules at every micro-step.
    recurrent = [module for module in model.modules() if isinstance(module, RecurrentHighway)]
    inner = {part for layer in recurrent for part in layer.cell.modules()}
    every = {name: module for name, module in model.named_modules() if module not in inner}
    activations = {name: module for name, module in every.items() if type(module) in ACTIVATION_MODULES}
    return activations or {name: module for name, module in every.items() if _is_leaf(module)}


def _is_leaf(module: nn.Module) -> bool:
    # The submodules of a stack are taps for hooks: its layers are tensors, not modules.
    is_stack = isinstance(module, (HighwayStack, RecurrentHighway))
    return is_stack or not (module._modules or isinstance(module, (StatesHookPoint, GradientsHookPoint)))


def _named(model: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    every = dict(model.named_modules())
    for name in layers:
        if name not in every:
            raise ConfigError(unknown_name("layer", name, every))
    return {name: every[name] for name in layers}


@contextlib.contextmanager
def _first_outputs(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """Collect the first output of every module by name, in the order in which the modules run."""
    outputs: dict[str, Any] = {}
    handles = [module.register_forward_hook(partial(_collect, name, outputs)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _collect(name: str, outputs: dict[str, Any], _module: nn.Module, _inputs: Any, output: Any) -> Any:
    if name in outputs:
        return None
    outputs[name] = output
    # The model continues with a copy, which it may overwrite.
    return output.clone() if isinstance(output, Tensor) else None
