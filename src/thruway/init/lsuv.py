"""Layer-sequential unit variance (LSUV): scaling of every layer by a batch of data."""

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
    """A module with a measurable pre-activation, the weight to scale, and the result of the scaling."""

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
    """Scale every layer so that its output before the activation has variance 1 on a batch of data.

    All weights are first made orthogonal with gain 1. Then, during one forward pass of the batch, each dense or
    convolutional layer is scaled by 1 / sqrt(Var of its output) until the variance is within `tol` of 1, and returns
    the scaled output, so a single forward pass is sufficient. The variance is taken over batch, units and positions
    together.

    In a module that lists its maps (`init_parts`), the part called "transform" is scaled by the variance of the
    input of the submodule `activation`. Gates keep their scheme, because their bias sets how open they are. Recurrent,
    attention and fused-stack weights stay orthogonal, because no module returns their pre-activations; so do layers
    that do not run. Their notes say so, and `.skipped` lists them. If a layer runs several times, its first call is
    used.

    Training mode, buffers (running statistics) and PyTorch's global generators are unchanged afterwards. If an error is
    raised, all parameters are unchanged too.

    Args:
        model: a module that `initialize` accepts.
        batch: a tensor, or a tuple or mapping of the arguments of `model`.
        generator: generator of the orthogonal weights, as in `initialize`.
        tol: tolerance of the variance around 1.
        max_iterations: maximum number of scalings per layer; a layer without randomness needs one.
        unknown: see `initialize`.
    Returns:
        The summary, one row per map; the note of a scaled map gives the factor and the variances.
    Raises:
        InitError: if the output of a layer is constant, NaN or infinite, or if no layer could be scaled.
        ConfigError: if `tol` or `max_iterations` is not positive.
    Source:
        Mishkin & Matas 2015, algorithm 1, which repeats the forward pass for every layer; the result is the same.

    >>> g = torch.Generator().manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    >>> x = 5 * torch.randn(64, 6, generator=g)
    >>> summary = lsuv_(net, x, generator=g)
    >>> torch.allclose(net(x).var(), torch.ones(()), atol=0.02)
    True
    """
    if not (tol > 0 and max_iterations >= 1):
        raise ConfigError(
            f"tol must be positive and max_iterations at least 1, got tol={tol}, max_iterations={max_iterations}."
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
    """Return the rows of gates, which are maps listed with a sigmoid after them."""
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
    """Register hooks that scale each layer on its first call; remove them at the end."""
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
    """Forward hook: scale the layer until its variance is 1, and return the scaled output."""
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
    """Return the module's output and the variance of its pre-activation."""
    if isinstance(layer.module, HasParts):
        seen: list[float] = []
        activation = layer.module.get_submodule("activation")
        # Measured before the activation runs, which may overwrite its input.
        hook = activation.register_forward_pre_hook(lambda _module, received: seen.append(_variance(received[0])))
        try:
            output = layer.module.forward(*inputs, **named)
        finally:
            hook.remove()
        if not seen:
            raise InitError(
                f"{_place(layer)} did not call its submodule `activation`, so its transform was not measured."
            )
        variance = seen[0]
    else:
        output = layer.module.forward(*inputs, **named)
        variance = _variance(output)
    if not 0 < variance < float("inf"):
        raise InitError(
            f"{_place(layer)} returns a constant, NaN or infinity on this batch (variance {variance}), which no scale "
            "can correct; the model is unchanged. Pass a batch that varies, and look for dead units before this layer."
        )
    return output, variance


def _variance(pre_activation: Tensor) -> float:
    return float(pre_activation.to(torch.promote_types(pre_activation.dtype, torch.float32)).var(correction=0))


def _place(layer: _Layer) -> str:
    return f"layer {layer.path!r} ({type(layer.module).__name__})"


@contextlib.contextmanager
def _restoring_state(model: nn.Module) -> Iterator[None]:
    """Restore buffers and PyTorch's global generators afterwards."""
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
    """Return the row of the summary after scaling."""
    if row.done != "orthogonal":
        return row
    layer = next((layer for layer in layers if (row.parameter, row.part) in layer.rows), None)
    if layer is None:
        if (row.parameter, row.part) in gates:
            return replace(row, note="a gate: not scaled")
        return replace(row, is_skipped=True, note="not scaled: no module returns its pre-activation")
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
