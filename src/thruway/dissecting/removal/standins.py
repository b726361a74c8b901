"""Modules without parameters that take the place of removed ones: the input carried on, and constants."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thruway.dissecting.removal.huggingface import keep_cache_length
from thruway.dissecting.tracing.structure import Path, item_at, map_structure, reachable_tensors, tensors_in_call

__all__ = ["Carry", "Fill", "carry_of", "fill_of"]


@dataclass(frozen=True)
class _Argument:
    """An argument in the output of a module."""

    path: Path


@dataclass(frozen=True)
class _Shape:
    """A constant tensor in the output of a module: for each dimension its size, or (dimension of the input, stride)."""

    sizes: tuple[int | tuple[int, int], ...]
    dtype: torch.dtype


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
            sizes = [each if isinstance(each, int) else -(-x.shape[each[0]] // each[1]) for each in leaf.sizes]
            return torch.full(sizes, self.value, dtype=leaf.dtype, device=self.get_buffer("place").device)

        return map_structure(self.output, filled)

    def extra_repr(self) -> str:
        return f"{self.value:g}"


def _first_floating(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the first floating-point tensor of the arguments; None if there is none."""
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
        return _Shape(tuple(_size(x, leaf, at, channel) for at in range(leaf.dim())), leaf.dtype)

    return Fill(map_structure(output, shape), value, layer)


def _size(x: Tensor | None, output: Tensor, at: int, channel: int) -> int | tuple[int, int]:
    size = output.shape[at]
    if x is None or at >= x.dim():
        return size
    if x.shape[at] == size:
        return (at, 1)
    if output.dim() != x.dim() or at == channel % output.dim() or size == 0:
        return size
    stride = round(x.shape[at] / size)
    return (at, stride) if stride > 1 and -(-x.shape[at] // stride) == size else size


def _is_plain(output: Any) -> bool:
    """Return True for nested tuples, lists and dicts of tensors, numbers, strings and None."""
    is_plain = True

    def check(leaf: Any) -> Any:
        nonlocal is_plain
        is_plain = is_plain and (leaf is None or isinstance(leaf, (Tensor, bool, int, float, str)))
        return leaf

    map_structure(output, check)
    return is_plain
