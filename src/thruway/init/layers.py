"""Table of layer types and the maps in their parameters.

The function of a row lists the parameters of a module as parts. A part is named after its parameter, or after
the map if the parameter holds several. A class that is not in the table can list its parts itself
(`HasParts`). To add a torch layer, add its function and a row.
"""

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from thruway.init.parts import HasParts, Part

__all__ = ["LAYERS", "LOOKUPS", "parts_of"]

LOOKUPS = (nn.Embedding, nn.EmbeddingBag)


def parts_of(module: nn.Module, bias: float) -> Iterator[Part] | None:
    """Return the parts from a module's `init_parts` or from the table; None for an unknown class.

    The bias of a layer from the table starts at `bias`; a module with `init_parts` sets its own.
    """
    # isinstance() on a protocol only checks that the method exists, which is enough here.
    if isinstance(module, HasParts):
        return module.init_parts()
    for kinds, parts in LAYERS:
        if isinstance(module, kinds):
            return parts(module, bias)
    return None


def _own(module: nn.Module, name: str) -> Tensor | None:
    # A parametrised weight (spectral_norm, ...) is an attribute but not a parameter: writing to it has no effect.
    return module._parameters.get(name)


def _dense(module: nn.Module, bias: float) -> Iterator[Part]:
    weight = _own(module, "weight")
    if weight is not None:
        yield Part("", weight, _own(module, "bias"), bias, groups=getattr(module, "groups", 1))


def _transposed_convolution(module: nn.Module, bias: float) -> Iterator[Part]:
    """Stored as (in, out / groups, *kernel); each group is transposed to (out / groups, in / groups, *kernel)."""
    weight, groups = _own(module, "weight"), int(getattr(module, "groups", 1))
    if weight is None:
        return
    own_bias = _own(module, "bias")
    for group in range(groups):
        inputs, outputs = weight.shape[0] // groups, weight.shape[1]
        turned = weight[group * inputs : (group + 1) * inputs].transpose(0, 1)
        share = None if own_bias is None else own_bias[group * outputs : (group + 1) * outputs]
        yield Part(f"group{group}" if groups > 1 else "", turned, share, bias)


def _bilinear(module: nn.Module, bias: float) -> Iterator[Part]:
    """A unit sums over all pairs of inputs, so the fan-in is the number of pairs."""
    weight = _own(module, "weight")
    if weight is not None:
        yield Part("", weight.flatten(1), _own(module, "bias"), bias)


def _norm(module: nn.Module, bias: float) -> Iterator[Part]:
    weight = _own(module, "weight")
    if weight is not None:
        yield Part("", weight, _own(module, "bias"), 0.0, weight_value=1.0)


def _slope(module: nn.Module, bias: float) -> Iterator[Part]:
    weight = _own(module, "weight")
    if weight is not None:
        yield Part("", weight, None, weight_value=0.25)  # He et al. 2015, sec. 2.1


_GATES: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    nn.RNN: (("hidden", ""),),
    nn.RNNCell: (("hidden", ""),),
    nn.LSTM: (("input_gate", "sigmoid"), ("forget_gate", "sigmoid"), ("cell", "tanh"), ("output_gate", "sigmoid")),
    nn.LSTMCell: (("input_gate", "sigmoid"), ("forget_gate", "sigmoid"), ("cell", "tanh"), ("output_gate", "sigmoid")),
    nn.GRU: (("reset_gate", "sigmoid"), ("update_gate", "sigmoid"), ("candidate", "tanh")),
    nn.GRUCell: (("reset_gate", "sigmoid"), ("update_gate", "sigmoid"), ("candidate", "tanh")),
}


def _recurrent(module: nn.Module, bias: float) -> Iterator[Part]:
    """Yield one part per gate. A gate has two biases; the second one starts at 0."""
    gates = next(rows for kind, rows in _GATES.items() if isinstance(module, kind))
    for name, weight in module._parameters.items():
        if weight is None or not name.startswith("weight_"):
            continue
        if name.startswith("weight_hr"):  # the LSTM's projection is a single map
            yield Part(name, weight, None, activation="linear")
            continue
        own_bias = _own(module, name.replace("weight_", "bias_", 1))
        value = bias if name.startswith("weight_ih") else 0.0
        biases = [None] * len(gates) if own_bias is None else list(own_bias.chunk(len(gates)))
        for (gate, follows), block, share in zip(gates, weight.chunk(len(gates)), biases, strict=True):
            follows = follows or str(getattr(module, "nonlinearity", "tanh"))
            yield Part(f"{name}.{gate}" if len(gates) > 1 else name, block, share, value, follows)


def _attention(module: nn.Module, bias: float) -> Iterator[Part]:
    """Query, key and value are three maps, stored as one weight or as three."""
    names = ("query", "key", "value")
    joint, joint_bias = _own(module, "in_proj_weight"), _own(module, "in_proj_bias")
    weights = [_own(module, f"{name[0]}_proj_weight") for name in names] if joint is None else list(joint.chunk(3))
    biases = [None] * 3 if joint_bias is None else list(joint_bias.chunk(3))
    for name, weight, share in zip(names, weights, biases, strict=True):
        if weight is not None:
            yield Part(name, weight, share, bias, "linear")
    for name in ("bias_k", "bias_v"):  # an additional learnt key and value: (1, 1, width)
        token = _own(module, name)
        if token is not None:
            yield Part(name, token.flatten(0, 1), None, activation="linear")


def _lookup(module: nn.Module, bias: float) -> Iterator[Part]:
    weight = _own(module, "weight")
    if weight is not None:
        yield Part("", weight, None)


_Parts = Callable[[nn.Module, float], Iterator[Part]]

LAYERS: tuple[tuple[tuple[type[nn.Module], ...], _Parts], ...] = (
    ((nn.Linear,), _dense),
    ((nn.modules.conv._ConvTransposeNd,), _transposed_convolution),  # before its base class
    ((nn.modules.conv._ConvNd,), _dense),
    ((nn.Bilinear,), _bilinear),
    (LOOKUPS, _lookup),
    ((nn.RNNBase, nn.RNNCellBase), _recurrent),
    ((nn.MultiheadAttention,), _attention),
    ((nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), _norm),
    ((nn.PReLU,), _slope),
)
