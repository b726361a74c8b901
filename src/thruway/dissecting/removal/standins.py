"""Modules without parameters that take the place of removed ones: the input carried on, and constants."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thruway.dissecting.removal.huggingface import keep_cache_length
from thruway.dissecting.tracing.structure import Path, item_at, map_structure, reachable_tensors, tensors_in_call
from thruway.errors import ConfigError

__all__ = ["Carry", "Fill", "carry_of", "fill_of", "standin_from_json", "standin_to_json"]


@dataclass(frozen=True)
class _Argument:
    """An argument in the output of a module."""

    path: Path


@dataclass(frozen=True)
class _Shape:
    """A constant tensor in the output of a module: for each dimension its size, or (dimension of the input, stride).

    A stride below 0 multiplies, as upsampling does.

    The dtype is None if it is that of the input, so that the model can be cast.
    """

    sizes: tuple[int | tuple[int, int], ...]
    dtype: torch.dtype | None


class Carry(nn.Module):
    """A block without its branches: arguments in the structure of the block's output.

    Args:
        output: the output, with an `_Argument` in place of every tensor.
        layer: the layer of a key-value cache that the block wrote to, if any.
    """

    def __init__(self, output: Any, layer: int | None = None) -> None:
        super().__init__()
        self.output = output
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.layer is not None:
            keep_cache_length(kwargs, _first_floating(args, kwargs), self.layer)
        return map_structure(
            self.output, lambda leaf: item_at(args, kwargs, leaf.path) if isinstance(leaf, _Argument) else leaf
        )


class Fill(nn.Module):
    """A constant in the shape of the output of a removed module.

    Args:
        output: the output, with a `_Shape` in place of every tensor.
        value: the constant: 0, or the value for which a gate is shut.
        layer: the layer of a key-value cache that the module wrote to, if any.
    """

    def __init__(self, output: Any, value: float = 0.0, layer: int | None = None) -> None:
        super().__init__()
        self.output = output
        self.value = value
        self.layer = layer
        self.register_buffer("place", torch.empty(0), persistent=False)  # follows the model to its device

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        x = _first_floating(args, kwargs)
        if self.layer is not None:
            keep_cache_length(kwargs, x, self.layer)

        def filled(leaf: Any) -> Any:
            if not isinstance(leaf, _Shape):
                return leaf
            sizes = [each if isinstance(each, int) else _scaled(x.shape[each[0]], each[1]) for each in leaf.sizes]
            dtype = x.dtype if leaf.dtype is None else leaf.dtype
            return torch.full(sizes, self.value, dtype=dtype, device=self.get_buffer("place").device)

        return map_structure(self.output, filled)

    def extra_repr(self) -> str:
        return f"{self.value:g}"


def _first_floating(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the first floating-point tensor of the arguments, or None."""
    return next((t for t in reachable_tensors((args, dict(kwargs))) if t.is_floating_point()), None)


def carry_of(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any, *, layer: int | None = None
) -> Carry | None:
    """Return a `Carry` for a block that was called with these arguments; None if it returns tensors of its own.

    The first floating-point tensor of the output is the carried one. Further tensors must be arguments.
    """
    places = {id(tensor): path for path, tensor in reversed(list(tensors_in_call(args, dict(kwargs))))}
    first = _first_floating(args, kwargs)
    carried = _first_floating((output,), {})
    if id(first) not in places or carried is None or not _is_plain(output):
        return None
    places[id(carried)] = places[id(first)]
    tensors = list(reachable_tensors(output))
    if any(id(tensor) not in places for tensor in tensors):
        return None
    form = map_structure(output, lambda leaf: _Argument(places[id(leaf)]) if isinstance(leaf, Tensor) else leaf)
    return Carry(form, layer)


def fill_of(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    output: Any,
    *,
    channel: int,
    value: float = 0.0,
    layer: int | None = None,
) -> Fill | None:
    """Return a `Fill` for a module that returned `output`; None if the output has other parts than tensors and numbers.

    Sizes that equal those of the input are taken from the input of each call; others are a stride of it, or, along
    `channel`, constant.
    """
    if not _is_plain(output):
        return None
    x = _first_floating(args, kwargs)

    def shape(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        dtype = None if x is not None and x.dtype == leaf.dtype else leaf.dtype
        is_image = (
            x is not None and leaf.dim() == x.dim() >= 4 and leaf.shape[2] != x.shape[2]
        )  # (batch, channels, ...)
        of_channels = 1 if is_image else channel
        return _Shape(tuple(_size(x, leaf, at, of_channels) for at in range(leaf.dim())), dtype)

    return Fill(map_structure(output, shape), value, layer)


def _size(x: Tensor | None, output: Tensor, at: int, channel: int) -> int | tuple[int, int]:
    size = output.shape[at]
    if x is None or at >= x.dim():
        return size
    if x.shape[at] == size:
        return (at, 1)
    if output.dim() != x.dim() or at == channel % output.dim() or size < 2:  # 1 is that of a global pooling
        return size
    larger, smaller = max(x.shape[at], size), min(x.shape[at], size)
    stride = round(larger / smaller) * (1 if size < x.shape[at] else -1) if smaller else 0
    return (at, stride) if abs(stride) > 1 and _scaled(x.shape[at], stride) == size else size


def _scaled(size: int, stride: int) -> int:
    return -(-size // stride) if stride > 0 else size * -stride


def _is_plain(output: Any) -> bool:
    """Return True for nested tuples, lists and dicts of tensors, numbers, strings and None."""
    is_plain = True

    def check(leaf: Any) -> Any:
        nonlocal is_plain
        is_plain = is_plain and (leaf is None or isinstance(leaf, (Tensor, bool, int, float, str)))
        return leaf

    map_structure(output, check)
    return is_plain


# --- stand-ins as JSON

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}
_DEEPEST = 16


def standin_to_json(standin: Carry | Fill) -> dict[str, Any]:
    """Return a stand-in as plain lists, dicts, numbers and strings.

    Raises:
        ConfigError: if its output is not made of tuples, lists, dicts, numbers, strings and floating-point tensors.
    """
    entry: dict[str, Any] = {"output": _to_json(standin.output), "layer": standin.layer}
    return entry if isinstance(standin, Carry) else {**entry, "value": repr(standin.value)}  # JSON has no infinity


def standin_from_json(data: Any) -> Carry | Fill:
    """Read what `standin_to_json` returns.

    Raises:
        ConfigError: if it is anything else.
    """
    if not isinstance(data, dict) or sorted(data) not in (["layer", "output"], ["layer", "output", "value"]):
        raise ConfigError("a stand-in must have the entries output, layer, and value if it is constant.")
    layer = data["layer"]
    if not (layer is None or (type(layer) is int and 0 <= layer < 100_000)):
        raise ConfigError(f"the layer of a stand-in must be a number from 0 or null, got {layer!r}.")
    output = _from_json(data["output"], 0)
    if "value" not in data:
        return Carry(output, layer)
    if data["value"] not in ("0.0", "1.0", "inf", "-inf"):
        raise ConfigError(f"the value of a stand-in must be '0.0', '1.0', 'inf' or '-inf', got {data['value']!r}.")
    return Fill(output, float(data["value"]), layer)


def _to_json(output: Any) -> Any:
    if isinstance(output, _Argument):
        return {"argument": list(output.path)}
    if isinstance(output, _Shape):
        dtype = None if output.dtype is None else str(output.dtype).removeprefix("torch.")
        return {"shape": [list(size) if isinstance(size, tuple) else size for size in output.sizes], "dtype": dtype}
    if type(output) in (tuple, list):
        return {type(output).__name__: [_to_json(item) for item in output]}
    if type(output) is dict and all(isinstance(key, str) for key in output):
        return {"dict": {key: _to_json(item) for key, item in output.items()}}
    if output is None or isinstance(output, (bool, int, float, str)):
        return {"constant": output}
    raise ConfigError(f"a block that returns a {type(output).__name__} cannot be saved as a recipe.")


def _from_json(data: Any, depth: int) -> Any:
    if isinstance(data, dict) and depth < _DEEPEST:
        (kind, value), *more = data.items() if data else [("", None)]
        if kind == "argument" and not more and isinstance(value, list) and value:
            if all(isinstance(key, str) or (type(key) is int and 0 <= key < 1000) for key in value):
                return _Argument(tuple(value))
        elif (
            kind == "shape" and isinstance(value, list) and len(value) <= _DEEPEST and [k for k, _ in more] == ["dtype"]
        ):
            if (data["dtype"] is None or data["dtype"] in _DTYPES) and all(map(_is_size, value)):
                sizes = tuple((size[0], size[1]) if isinstance(size, list) else size for size in value)
                return _Shape(sizes, _DTYPES.get(data["dtype"]))
        elif kind in ("tuple", "list") and not more and isinstance(value, list) and len(value) < 1000:
            items = [_from_json(item, depth + 1) for item in value]
            return tuple(items) if kind == "tuple" else items
        elif kind == "dict" and not more and isinstance(value, dict) and len(value) < 1000:
            return {key: _from_json(item, depth + 1) for key, item in value.items()}
        elif kind == "constant" and not more and (value is None or isinstance(value, (bool, int, float, str))):
            return value
    raise ConfigError(f"the output of a stand-in cannot be {str(data)[:80]}.")


def _is_size(size: Any) -> bool:
    numbers = size if isinstance(size, list) and len(size) == 2 else [size]
    if not all(type(each) is int and abs(each) <= 2**24 for each in numbers) or numbers[0] < 0:
        return False
    return len(numbers) == 1 or numbers[1] != 0
