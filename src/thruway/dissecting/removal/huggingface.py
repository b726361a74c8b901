"""Hugging Face models: the number of layers in the configuration, and the layers of the key-value cache."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

__all__ = ["cache_layer", "keep_cache_length", "renumber_layers"]


def cache_layer(module: nn.Module) -> int | None:
    """Return the layer of the key-value cache that a module writes to, or any module inside of it; None without one."""
    for part in module.modules():
        layer = getattr(part, "layer_idx", None)
        if isinstance(layer, int) and not isinstance(layer, bool):
            return layer
    return None


def keep_cache_length(arguments: dict[str, Any], x: Tensor, layer: int) -> None:
    """Append keys and values of one zero for each new position to a layer of the cache in the arguments, if any.

    Models read the number of earlier positions from the length of one of the layers, which must not be empty.
    """
    for name in ("past_key_values", "past_key_value", "layer_past"):
        cache: Any = arguments.get(name)
        cache = getattr(cache, "self_attention_cache", cache)
        if hasattr(cache, "update") and hasattr(cache, "get_seq_length"):
            blank = x.new_zeros(x.shape[0], 1, x.shape[1], 1)
            cache.update(blank, blank, layer)
            return


def renumber_layers(model: nn.Module, container: str, kept: Sequence[int], former: int) -> None:
    """Correct the configuration and the layers' numbers after layers were taken out of a container.

    Args:
        model: the model.
        container: path of the container.
        kept: former places of the layers that remain.
        former: former number of layers.
    """
    for place, layer in enumerate(model.get_submodule(container).children()):
        for part in layer.modules():
            if getattr(part, "layer_idx", None) == kept[place]:
                vars(part)["layer_idx"] = place
    config = _config_of(model, container)
    if config is None or getattr(config, "num_hidden_layers", None) != former:
        return
    for name, value in list(vars(config).items()):  # one entry a layer, such as layer_types
        if isinstance(value, (list, tuple)) and len(value) == former:
            setattr(config, name, type(value)(value[place] for place in kept))
    config.num_hidden_layers = len(kept)


def _config_of(model: nn.Module, container: str) -> Any:
    """Return the configuration of the innermost module around a container that has one."""
    parts = container.split(".")
    for end in range(len(parts) - 1, -1, -1):
        config = getattr(model.get_submodule(".".join(parts[:end])), "config", None)
        if config is not None:
            return config
    return None
