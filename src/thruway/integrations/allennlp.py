"""The weights of AllenNLP's Highway. Its gate is the carry gate, so its sign turns on the way here."""

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from thruway.errors import CheckpointError, ConfigError
from thruway.integrations.highway_weights import with_maps
from thruway.nn import HighwayLinear

__all__ = ["from_allennlp"]

# Its carry gate starts at +1.
GATE_BIAS = -1.0


def from_allennlp(
    state_dict: Mapping[str, Tensor], prefix: str = "", activation: str | Callable[[Tensor], Tensor] = "relu"
) -> nn.Sequential:
    """The highway layers that compute what an AllenNLP Highway with these weights computes.

    There each layer is one Linear of 2·d, whose halves are A and the pre-activation of the gate g:

        y = g·x + (1 - g)·f(A x),     g = sigmoid(W_g x + b_g)

    g is the carry gate. Since 1 - sigmoid(z) = sigmoid(-z), the transform gate is T = sigmoid(-W_g x - b_g).

    Args:
        state_dict: of the Highway, or of a whole model that has one.
        prefix: what stands before "_layers.0.weight" in its names.
        activation: f; relu, unless the Highway was built with another. The weights do not tell.
    Returns:
        One layer for each of theirs, in order, in the type of the weights. A fresh start (`reset_parameters`) puts
        b_T at -1, as there.
    Raises:
        ConfigError: for something else than a state dict, or a prefix that is no text.
        CheckpointError: if no Highway lies under the prefix, or only a part of one, or weights that are no tensors of
            floating point.
    Source:
        allenai/allennlp, modules/highway.py. The layer: Srivastava, Greff & Schmidhuber 2015, eq. 3.

    >>> import torch
    >>> theirs = {"_layers.0.weight": torch.zeros(4, 2), "_layers.0.bias": torch.tensor([6.0, 6.0, 1.0, 1.0])}
    >>> layer = from_allennlp(theirs)[0]
    >>> layer.bias.tolist()
    [6.0, 6.0, -1.0, -1.0]
    """
    if not isinstance(state_dict, Mapping):
        raise ConfigError(
            f"from_allennlp takes a state dict, got a {type(state_dict).__name__}. Of a module give "
            "module.state_dict(), of a file torch.load(path, weights_only=True)."
        )
    if not isinstance(prefix, str):
        raise ConfigError(f'prefix is the start of the names, such as prefix="encoder.", got {prefix!r}. "" is none.')
    return nn.Sequential(
        *(
            _layer(weight, bias, activation)
            for weight, bias in _linears(state_dict, prefix and f"{prefix.rstrip('.')}.")
        )
    )


def _layer(weight: Tensor, bias: Tensor, activation: str | Callable[[Tensor], Tensor]) -> HighwayLinear:
    (transform, carry), (transform_bias, carry_bias) = weight.chunk(2), bias.chunk(2)
    layer = HighwayLinear(weight.shape[1], activation, GATE_BIAS, device="meta")
    return with_maps(layer, [transform, -carry], [transform_bias, -carry_bias])


def _linears(state_dict: Mapping[str, Tensor], prefix: str) -> list[tuple[Tensor, Tensor]]:
    """(weight, bias) of each layer, from first to last."""
    name = re.compile(re.escape(prefix) + r"_layers\.(\d+)\.(?:weight|bias)")
    places = {int(match[1]) for match in map(name.fullmatch, state_dict) if match}
    if not places:
        raise CheckpointError(
            f"no {prefix}_layers.0.weight among these {len(state_dict)} tensors, where an AllenNLP Highway keeps its "
            f"first layer. {_elsewhere(state_dict)}"
        )
    wanted = [(f"{prefix}_layers.{i}.weight", f"{prefix}_layers.{i}.bias") for i in range(max(places) + 1)]
    missing = [each for pair in wanted for each in pair if each not in state_dict]
    if missing:
        raise CheckpointError(f"a layer of this Highway is not whole: {', '.join(missing)} missing. Save it anew.")
    linears = [(state_dict[weight], state_dict[bias]) for weight, bias in wanted]
    for each in (each for pair in wanted for each in pair):
        tensor = state_dict[each]
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise CheckpointError(
                f"{each} is of {kind}; a Highway's weights are tensors of floating point. Convert it: an array with "
                "torch.from_numpy, whole numbers with .float()."
            )
    width = linears[0][0].shape[-1]
    for (weight_name, _), (weight, bias) in zip(wanted, linears, strict=True):
        if weight.shape != (2 * width, width) or bias.shape != (2 * width,):
            raise CheckpointError(
                f"{weight_name} is {tuple(weight.shape)} and its bias {tuple(bias.shape)}; in an AllenNLP Highway of "
                f"width {width} they are {(2 * width, width)} and {(2 * width,)}. Is this the Highway's prefix?"
            )
    return linears


def _elsewhere(state_dict: Mapping[str, Tensor]) -> str:
    """Which prefix to give instead."""
    first = "_layers.0.weight"
    near = [
        name.removesuffix(first)
        for name, tensor in state_dict.items()
        if name.endswith(first)
        and isinstance(tensor, Tensor)
        and tensor.ndim == 2
        and len(tensor) == 2 * tensor.shape[1]
    ]
    if near:
        return f"One lies under {' or '.join(f'prefix={each!r}' for each in near)}."
    return "Give the state dict of a Highway, or of a model that has one."
