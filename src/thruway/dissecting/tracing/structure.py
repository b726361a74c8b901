"""Tensors in nested tuples, lists, dicts and objects: finding, reading, replacing and mapping them."""

import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Generator, Tensor, nn

__all__ = ["Path", "item_at", "map_structure", "reachable_tensors", "tensors_in", "tensors_in_call", "with_item"]

# Keys from the outermost structure inwards. The first is an argument's position or its name.
Path = tuple[int | str, ...]

# Depth of the search. Outputs are shallow, but a graph of the user's own objects need not be.
_DEPTH = 8

_CLOSED = (str, bytes, int, float, complex, type, types.FunctionType, types.ModuleType, nn.Module, Generator)


def tensors_in_call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[Path, Tensor]]:
    """Yield every tensor in the arguments of a call, with its path."""
    for index, value in enumerate(args):
        if isinstance(value, Tensor):
            yield (index,), value
        elif isinstance(value, (tuple, list, dict)):
            yield from tensors_in(value, (index,))
    for name, value in kwargs.items():
        if isinstance(value, Tensor):
            yield (name,), value
        elif isinstance(value, (tuple, list, dict)):
            yield from tensors_in(value, (name,))


def tensors_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Yield every tensor in nested tuples, lists and dicts, with its path."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from tensors_in(item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors_in(item, (*path, key))


def item_at(args: tuple[Any, ...], kwargs: Mapping[str, Any], path: Path) -> Any:
    """Return the item at a path of a call's arguments.

    >>> item_at(("a", ["b", "c"]), {"out": "d"}, (1, 0)), item_at((), {"out": "d"}, ("out",))
    ('b', 'd')
    """
    first, *rest = path
    value = args[first] if isinstance(first, int) else kwargs[first]
    for key in rest:
        value = value[key]
    return value


def with_item(
    args: tuple[Any, ...], kwargs: dict[str, Any], path: Path, item: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the same arguments with another item at one path.

    >>> with_item((1, [2, 3]), {}, (1, 0), "t")
    ((1, ['t', 3]), {})
    """
    first, *rest = path
    if isinstance(first, int):
        return (*args[:first], _put(args[first], rest, item), *args[first + 1 :]), kwargs
    return args, {**kwargs, first: _put(kwargs[first], rest, item)}


def _put(value: Any, path: list[int | str], item: Any) -> Any:
    if not path:
        return item
    key, *rest = path
    if isinstance(value, dict):
        return {**value, key: _put(value[key], rest, item)}
    items = list(value)
    items[int(key)] = _put(items[int(key)], rest, item)
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def map_structure(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply `change` to every leaf of nested tuples, lists and dicts.

    >>> map_structure((1, [2, {"a": 3}]), lambda leaf: leaf * 10)
    (10, [20, {'a': 30}])
    """
    if isinstance(value, (tuple, list)):
        items = [map_structure(item, change) for item in value]
        # A named tuple takes its fields one by one; torch's own result types take one sequence.
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: map_structure(item, change) for key, item in value.items()}
    return change(value)


def reachable_tensors(value: Any) -> Iterator[Tensor]:
    """Yield every tensor that can be reached from `value`, also through dataclasses and the attributes of objects."""
    yield from _reach(value, _DEPTH, set())


def _reach(value: Any, depth: int, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    if depth == 0 or value is None or isinstance(value, _CLOSED) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        inside: list[Any] = list(value.values())
    elif isinstance(value, (tuple, list, set, frozenset)):
        inside = list(value)
    elif dataclasses.is_dataclass(value):
        inside = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    else:
        inside = list(getattr(value, "__dict__", {}).values())
    for item in inside:
        yield from _reach(item, depth - 1, seen)
