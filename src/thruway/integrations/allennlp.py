"""Conversion of AllenNLP Highway weights. AllenNLP's gate is the carry gate, so its sign is flipped here."""

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from thruway.errors import CheckpointError, ConfigError
from thruway.integrations.highway_weights import with_parameters
from thruway.nn import HighwayLinear

__all__ = ["from_allennlp"]

# AllenNLP initialises the bias of its carry gate to +1.
GATE_BIAS = -1.0


def from_allennlp(
    state_dict: Mapping[str, Tensor], prefix: str = "", activation: str | Callable[[Tensor], Tensor] = "relu"
) -> nn.Sequential:
    """Convert the state dict of an AllenNLP Highway into equivalent highway layers.

    AllenNLP stores each layer as one Linear with 2·d outputs: A and the pre-activation of the gate g.

        y = g·x + (1 - g)·f(A x),     g = sigmoid(W_g x + b_g)

    g is the carry gate. Since 1 - sigmoid(z) = sigmoid(-z), the transform gate is T = sigmoid(-W_g x - b_g).

    Args:
        state_dict: state dict of the Highway, or of a model that contains one.
        prefix: prefix of the parameter names, up to "_layers.0.weight".
        activation: f. AllenNLP's default is relu; the state dict does not record it.
    Returns:
        One highway layer per AllenNLP layer, in order, with the dtype of the weights. `reset_parameters` sets b_T to
        -1, the equivalent of AllenNLP's own initialisation.
    Raises:
        ConfigError: if `state_dict` is not a mapping, or `prefix` is not a string.
        CheckpointError: if there is no Highway under the prefix, if some of its parameters are missing, or if the
            weights are not floating-point tensors.
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
            f"from_allennlp takes a state dict, got a {type(state_dict).__name__}. For a module, pass "
            "module.state_dict(); for a file, torch.load(path, weights_only=True)."
        )
    if not isinstance(prefix, str):
        raise ConfigError(f'prefix must be a string such as "encoder.", or "" for no prefix, got {prefix!r}.')
    return nn.Sequential(
        *(
            _layer(weight, bias, activation)
            for weight, bias in _linears(state_dict, prefix and f"{prefix.rstrip('.')}.")
        )
    )


def _layer(weight: Tensor, bias: Tensor, activation: str | Callable[[Tensor], Tensor]) -> HighwayLinear:
    (transform, carry), (transform_bias, carry_bias) = weight.chunk(2), bias.chunk(2)
    layer = HighwayLinear(weight.shape[1], activation, GATE_BIAS, device="meta")
    return with_parameters(layer, [transform, -carry], [transform_bias, -carry_bias])


def _linears(state_dict: Mapping[str, Tensor], prefix: str) -> list[tuple[Tensor, Tensor]]:
    """Return (weight, bias) of each layer, from the first to the last."""
    name = re.compile(re.escape(prefix) + r"_layers\.(\d+)\.(?:weight|bias)")
    places = {int(match[1]) for match in map(name.fullmatch, state_dict) if match}
    if not places:
        raise CheckpointError(
            f"no {prefix}_layers.0.weight among these {len(state_dict)} tensors, the name of the first weight of an "
            f"AllenNLP Highway. {_suggest_prefix(state_dict)}"
        )
    wanted = [(f"{prefix}_layers.{i}.weight", f"{prefix}_layers.{i}.bias") for i in range(max(places) + 1)]
    missing = [each for pair in wanted for each in pair if each not in state_dict]
    if missing:
        raise CheckpointError(f"this Highway is incomplete: {', '.join(missing)} missing. Save its state dict again.")
    linears = [(state_dict[weight], state_dict[bias]) for weight, bias in wanted]
    for each in (each for pair in wanted for each in pair):
        tensor = state_dict[each]
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise CheckpointError(
                f"{each} is of {kind}; the weights of a Highway are floating-point tensors. Convert an array with "
                "torch.from_numpy, and integers with .float()."
            )
    width = linears[0][0].shape[-1]
    for (weight_name, _), (weight, bias) in zip(wanted, linears, strict=True):
        if weight.shape != (2 * width, width) or bias.shape != (2 * width,):
            raise CheckpointError(
                f"{weight_name} has shape {tuple(weight.shape)} and its bias {tuple(bias.shape)}; in an AllenNLP "
                f"Highway of width {width} they are {(2 * width, width)} and {(2 * width,)}. Check the prefix."
            )
    return linears


def _suggest_prefix(state_dict: Mapping[str, Tensor]) -> str:
    """Return a sentence that names the prefixes under which a Highway was found."""
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
        return f"Found one under {' or '.join(f'prefix={each!r}' for each in near)}."
    return "Pass the state dict of a Highway, or of a model that contains one."
