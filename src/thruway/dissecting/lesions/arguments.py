"""A call's arguments with another tensor among them."""

from typing import Any

from torch import Tensor

from thruway.dissecting.tracing.structure import Path

__all__ = ["replaced"]


def replaced(
    args: tuple[Any, ...], kwargs: dict[str, Any], path: Path, tensor: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments with another tensor at one place.

    >>> replaced((1, [2, 3]), {}, (1, 0), "t")
    ((1, ['t', 3]), {})
    """
    first, *rest = path
    if isinstance(first, int):
        return (*args[:first], _put(args[first], rest, tensor), *args[first + 1 :]), kwargs
    return args, {**kwargs, first: _put(kwargs[first], rest, tensor)}


def _put(value: Any, path: list[int | str], tensor: Tensor) -> Any:
    if not path:
        return tensor
    key, *rest = path
    if isinstance(value, dict):
        return {**value, key: _put(value[key], rest, tensor)}
    items = list(value)
    items[int(key)] = _put(items[int(key)], rest, tensor)
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
