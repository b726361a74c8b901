"""Layers written as products, `relu(x @ W)`: activations in a row, each with a weight of its own.

A product with a parameter is no output that is recorded, but its activation is. The weights of the model that belong to
no recorded layer are given to such activations in order, by shape.
"""

from thruway.diagnosing.reading import Layer, Reading
from thruway.watching.sites import Site

__all__ = ["products"]

_OTHERS = frozenset(("Embedding", "EmbeddingBag", "embedding", "RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"))
_LEAST = 3  # in a row: fewer are no path of layers


def products(reading: Reading) -> tuple[Layer, ...]:
    """Return a layer for each activation that takes a product with a parameter; its name is that of the activation."""
    left = _weights_without_layer(reading)
    if len(left) < _LEAST:
        return ()
    taken = {layer.activation_site for layer in reading.layers} | {layer.name for layer in reading.layers}
    inputs = [site.shape[-1] for site in reading.trace.sites if site.kind == "input" and site.shape]
    width = inputs[0] if inputs else 0
    found: list[Layer] = []
    for place, site in enumerate(reading.outputs):
        is_last = place == len(reading.outputs) - 1
        is_layer = site.activation not in (None, "softmax", "log_softmax") and not site.is_gate
        if site.shape and site.name not in taken and (is_layer or (is_last and found)):
            match = _match(left, width, site.shape[-1])
            if match is not None:
                weight, fan_in = match
                left.remove((weight, _shape(reading, weight)))
                found.append(_layer(site, weight, fan_in, site.activation if is_layer else None))
        width = site.shape[-1] if site.shape else 0
    return tuple(found) if len(found) >= _LEAST else ()


def _weights_without_layer(reading: Reading) -> list[tuple[str, tuple[int, ...]]]:
    """Return names and shapes of the matrices among the parameters that no recorded layer uses."""
    owners = {site.name.split("#")[0].split("[")[0] for site in reading.outputs if site.operation in _OTHERS}
    known = {layer.weight for layer in reading.layers}
    return [
        (p.name, p.shape)
        for p in reading.parameters
        if len(p.shape) == 2 and p.name not in known and p.name.rpartition(".")[0] not in owners
    ]


def _shape(reading: Reading, name: str) -> tuple[int, ...]:
    return next(p.shape for p in reading.parameters if p.name == name)


def _match(left: list[tuple[str, tuple[int, ...]]], before: int, after: int) -> tuple[str, int] | None:
    """Return the first weight from `before` values to `after`, as x @ W or x @ W.T, and its number of inputs."""
    return next(((name, before) for name, shape in left if shape in ((before, after), (after, before))), None)


def _layer(site: Site, weight: str, fan_in: int, activation: str | None) -> Layer:
    # The pre-activation was not recorded.
    where = site.name if activation is not None else None
    return Layer(site.name, weight, None, fan_in, activation, where, is_normalised=False, pre_activation="")
