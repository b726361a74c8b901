"""The Jacobians between a model's layers while it trains: a few examples of the probe, at a bounded price."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.watching.evaluation import as_it_is, call
from thruway.watching.quantities.jacobian import depends, mean_singular_value
from thruway.watching.quantities.layer_jacobians import layers_of, outputs_kept

__all__ = ["EXACT_UP_TO", "EXAMPLES", "probe_jacobians"]

EXAMPLES = 4
# Up to here a decomposition costs less than an estimate, which is some 150 backward passes through the layer.
EXACT_UP_TO = 128
_DIRECTIONS = 2


def probe_jacobians(model: nn.Module, inputs: Any) -> dict[str, float]:
    """How much each layer stretches or shrinks a small change of the layer before, told cheaply enough to be watched.

    Mean singular values as `layer_jacobians` gives them for the first 4 examples: exact for layers of up to 128
    outputs per example, beyond that estimated along 2 random directions per example, the same ones every time. A
    layer that is not computed from the one that ran before it, or that does not return one tensor with a row per
    example, has none.

    Args:
        model: any module; examples must not mix in it.
        inputs: a tensor, a tuple of arguments or a dict of keywords, whose tensors have an example in each row. The
            first layer's Jacobian is with respect to the first tensor, if that holds floating-point numbers.
    Returns:
        Mean singular values by the later layer's path.
    Raises:
        ConfigError: if no layer has a Jacobian, or one cannot be estimated, as it is not twice differentiable.
    Source:
        Glorot & Bengio 2010, eq. 17 and the text below it.

    >>> net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh())
    >>> _ = nn.init.eye_(net[0].weight)
    >>> probe_jacobians(net, torch.zeros(300, 3))
    {'1': 1.0}
    """
    few, first = _few(inputs)
    found: dict[str, float] = {}
    with outputs_kept(layers_of(model)) as outputs, as_it_is(model), torch.enable_grad():
        call(model, few)
        before = first
        for name, output in _by_example(outputs, len(first)):
            if depends(output, before):
                found[name] = _at(name, output, before)
            before = output
    if not found:
        raise ConfigError(
            f"no layer of {type(model).__name__} has a Jacobian: none returns (batch, ...) computed from the layer "
            "that ran before it. Leave 'jacobian' out of quantities, or name the layers in a Quantity of your own, "
            "with of_model= and layer_jacobians."
        )
    return found


def _few(inputs: Any) -> tuple[Any, Tensor]:
    """The inputs with their first examples alone, and the first tensor among them, as the model is given it."""
    items = dict(inputs) if isinstance(inputs, Mapping) else dict(enumerate(inputs if _is_tuple(inputs) else [inputs]))
    names = [name for name, item in items.items() if isinstance(item, Tensor) and item.dim() > 0]
    if not names:
        raise ConfigError("'jacobian' needs a tensor among the inputs of probe=, with an example in each row.")
    count = len(items[names[0]])
    for name in names:
        if len(items[name]) == count:
            items[name] = items[name][:EXAMPLES].detach().clone()
    first = items[names[0]]
    if first.is_floating_point():
        first.requires_grad_()
        items[names[0]] = first.clone()  # what the model is given it may overwrite
    if isinstance(inputs, Mapping):
        return items, first
    return (tuple(items.values()) if _is_tuple(inputs) else items[0]), first


def _is_tuple(inputs: Any) -> bool:
    return isinstance(inputs, tuple)


def _by_example(outputs: Mapping[str, Any], count: int) -> Iterator[tuple[str, Tensor]]:
    for name, output in outputs.items():
        if isinstance(output, Tensor) and output.dim() > 1 and len(output) == count and output.numel() > 0:
            yield name, output


def _at(name: str, output: Tensor, before: Tensor) -> float:
    directions = torch.Generator().manual_seed(0)  # the same ones every time, so that only the model moves the series
    try:
        return mean_singular_value(
            output, before, exact_up_to=EXACT_UP_TO, directions=_DIRECTIONS, generator=directions
        ).mean_singular_value
    except RuntimeError as error:
        raise ConfigError(
            f"the Jacobian at layer {name!r} cannot be taken: {error}. Beyond {EXACT_UP_TO} outputs it is estimated, "
            "which takes second derivatives. Leave 'jacobian' out of quantities, or name other layers in a Quantity of "
            "your own, with of_model= and layer_jacobians."
        ) from error
