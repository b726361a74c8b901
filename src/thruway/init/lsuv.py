"""Layer-sequential unit variance: let a batch of data set the scale of every layer."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, InitError
from thruway.init.model_init import initialize
from thruway.init.ownership import OwnedPart, Parameters, list_owned_parts
from thruway.init.parts import HasParts
from thruway.init.summary import InitSummary, Row

__all__ = ["lsuv_"]

_SCALED = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)


@dataclass
class _Layer:
    """A module whose pre-activation can be measured, the weight that scales it, and how that went."""

    path: str
    module: nn.Module
    weight: Tensor
    rows: set[tuple[str, str]]
    factor: float = 1.0
    before: float = float("nan")
    after: float = float("nan")
    passes: int = 0
    has_run: bool = False


def lsuv_(
    model: nn.Module,
    batch: Any,
    generator: torch.Generator | None = None,
    tol: float = 0.01,
    max_iterations: int = 10,
    unknown: Literal["raise", "keep"] = "raise",
) -> InitSummary:
    """Scale every layer so that its output, before the activation, has variance 1 on your data.

    All weights first become orthogonal with gain 1. Then, as the batch passes through, each dense or
    convolutional layer in turn is scaled by 1 / sqrt(Var of its output), until the variance is within `tol` of 1,
    and passes the scaled output on. So one forward pass serves the whole model. The variance is over batch,
    units and positions together.

    In a module that lists its maps (`init_parts`), the part called "transform" is scaled, by what the module's
    submodule `activation` receives; gates keep their scheme, for their bias says how open they are. Recurrent,
    attention and fused-stack weights, whose pre-activations no module puts out, stay orthogonal; so do layers
    that do not run. The account says so, and `.skipped` lists them. A layer that runs several times counts the first.

    Train or eval mode stays, and buffers (running statistics) and torch's global generators are as before. On an
    error so are all parameters.

    Args:
        model: any module that `initialize` can treat.
        batch: a tensor; or a tuple or a mapping, of the arguments of `model`.
        generator: for the orthogonal start, as in `initialize`.
        tol: allowed distance of the variance from 1.
        max_iterations: scalings per layer; a layer without a random part needs one.
        unknown: as in `initialize`.
    Returns:
        One row per map; the note of a scaled one gives factor and variances.
    Raises:
        InitError: if a layer puts out a constant, NaN or infinity, or if no layer could be scaled.
        ConfigError: if `tol` or `max_iterations` is not positive.
    Source:
        Mishkin & Matas 2015, algorithm 1; theirs repeats the forward pass for every layer, with the same result.

    >>> g = torch.Generator().manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    >>> x = 5 * torch.randn(64, 6, generator=g)
    >>> summary = lsuv_(net, x, generator=g)
    >>> torch.allclose(net(x).var(), torch.ones(()), atol=0.02)
    True
    """
    if not (tol > 0 and max_iterations >= 1):
        raise ConfigError(
            f"tol={tol}, max_iterations={max_iterations} are not allowed: pass a positive tol and at least 1 iteration."
        )
    saved = [(parameter, parameter.detach().clone()) for parameter in _parameters(model)]
    try:
        summary = initialize(model, "orthogonal", generator=generator, gain=1.0, unknown=unknown)
        layers = _layers(model)
        with torch.no_grad(), _restoring_state(model), _scaling(layers, tol, max_iterations):
            _call(model, batch)
        gates = _gates(model)
        if not any(layer.has_run for layer in layers):
            raise InitError(
                "no layer could be scaled: none of the model's dense, convolutional or highway layers ran as a module "
                "on this batch. Pass the model itself, uncompiled, or use initialize()."
            )
    except BaseException:
        with torch.no_grad():
            for parameter, value in saved:
                parameter.copy_(value)
        raise
    return InitSummary(tuple(_scaled_row(row, layers, gates, tol) for row in summary))


def _parameters(model: nn.Module) -> list[nn.Parameter]:
    return list(Parameters(model).tensors.values())


def _layers(model: nn.Module) -> list[_Layer]:
    found: dict[int, _Layer] = {}
    parameters = Parameters(model)
    for entry in list_owned_parts(model, parameters, bias=0.0):
        weight = _scaled_weight(entry)
        if weight is not None:
            layer = found.setdefault(id(entry.module), _Layer(entry.path, entry.module, weight, set()))
            layer.rows.add((parameters.names[id(entry.weight_in)][0], entry.part.name))
    return list(found.values())


def _gates(model: nn.Module) -> set[tuple[str, str]]:
    """The rows of maps that a module lists as going into a sigmoid."""
    parameters = Parameters(model)
    return {
        (parameters.names[id(entry.weight_in)][0], entry.part.name)
        for entry in list_owned_parts(model, parameters, bias=0.0)
        if isinstance(entry.module, HasParts) and entry.part.activation == "sigmoid"
    }


def _scaled_weight(entry: OwnedPart) -> Tensor | None:
    if not entry.owns_weight or entry.part.weight_value is not None:
        return None
    if isinstance(entry.module, HasParts):
        has_activation = isinstance(getattr(entry.module, "activation", None), nn.Module)
        return entry.part.weight if entry.part.name == "transform" and has_activation else None
    # All groups of a transposed convolution at once.
    return entry.weight_in if isinstance(entry.module, _SCALED) else None


@contextlib.contextmanager
def _scaling(layers: list[_Layer], tol: float, max_iterations: int) -> Iterator[None]:
    """While this lasts, each layer's first call scales it."""
    hooks = [
        layer.module.register_forward_hook(
            partial(_scale_layer, layer, tol, max_iterations), with_kwargs=True, prepend=True
        )
        for layer in layers
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _scale_layer(
    layer: _Layer,
    tol: float,
    max_iterations: int,
    module: nn.Module,
    inputs: tuple[Any, ...],
    named: dict[str, Any],
    output: Any,
) -> Any:
    """Scale the layer until its variance is 1, and hand on what it then puts out."""
    if layer.has_run:
        return output
    layer.has_run = True
    output, variance = _run_and_measure(layer, inputs, named)
    layer.before = variance
    while abs(variance - 1) > tol and layer.passes < max_iterations:
        factor = variance**-0.5
        layer.weight.detach().mul_(factor)
        layer.factor *= factor
        layer.passes += 1
        output, variance = _run_and_measure(layer, inputs, named)
    layer.after = variance
    return output


def _run_and_measure(layer: _Layer, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, float]:
    """The module's output, and the variance of its pre-activation."""
    if isinstance(layer.module, HasParts):
        seen: list[float] = []
        activation = layer.module.get_submodule("activation")
        # Measured on the spot: an activation may work in place.
        hook = activation.register_forward_pre_hook(lambda _module, received: seen.append(_variance(received[0])))
        try:
            output = layer.module.forward(*inputs, **named)
        finally:
            hook.remove()
        if not seen:
            raise InitError(f"{_place(layer)} did not call its submodule `activation`, so its transform is not seen.")
        variance = seen[0]
    else:
        output = layer.module.forward(*inputs, **named)
        variance = _variance(output)
    if not 0 < variance < float("inf"):
        raise InitError(
            f"{_place(layer)} puts out a constant, NaN or infinity on this batch (variance {variance}), and no scale "
            "mends that; the model is as before. Send a batch that varies, and look for dead units before this layer."
        )
    return output, variance


def _variance(pre_activation: Tensor) -> float:
    return float(pre_activation.to(torch.promote_types(pre_activation.dtype, torch.float32)).var(correction=0))


def _place(layer: _Layer) -> str:
    return f"layer {layer.path!r} ({type(layer.module).__name__})"


@contextlib.contextmanager
def _restoring_state(model: nn.Module) -> Iterator[None]:
    """Put buffers and torch's generators back afterwards."""
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        try:
            yield
        finally:
            for module, name, buffer, value in buffers:
                buffer.copy_(value)
                module._buffers[name] = buffer


def _call(model: nn.Module, batch: Any) -> None:
    if isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, tuple):
        model(*batch)
    else:
        model(batch)


def _scaled_row(row: Row, layers: list[_Layer], gates: set[tuple[str, str]], tol: float) -> Row:
    """The account's row after scaling."""
    if row.done != "orthogonal":
        return row
    layer = next((layer for layer in layers if (row.parameter, row.part) in layer.rows), None)
    if layer is None:
        if (row.parameter, row.part) in gates:
            return replace(row, note="a gate: not scaled")
        return replace(row, is_skipped=True, note="not scaled: no module puts out its pre-activation")
    if not layer.has_run:
        return replace(row, is_skipped=True, note="not scaled: did not run on this batch")
    missed = abs(layer.after - 1) > tol
    note = f"scaled x{layer.factor:.4g} in {layer.passes}: variance {layer.before:.4g} -> {layer.after:.4g}"
    return replace(
        row,
        done="orthogonal, scaled",
        gain=layer.factor,
        std=(row.std or 0.0) * layer.factor,
        note=f"{note}, still outside tol" if missed else note,
        is_skipped=missed,
    )
