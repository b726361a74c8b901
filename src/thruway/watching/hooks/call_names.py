"""Names of the modules and functions called in one forward pass."""

import weakref
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

__all__ = ["CallNames"]


class _Output(NamedTuple):
    """An output of a module."""

    tensor: weakref.ref[Tensor]
    name: str
    path: str  # of the module


class CallNames:
    """Names given out in a pass, and the outputs of modules, after which the activations applied to them are named.

    Args:
        paths: path of every module.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)
        self._module_calls: dict[str, int] = {}
        self._function_calls: dict[str, int] = {}
        self._outputs: dict[int, _Output] = {}

    def of_module(self, path: str) -> str:
        """Return the name of a module's next call: its path, and from the second call on the number of the call."""
        calls = self._module_calls[path] = self._module_calls.get(path, 0) + 1
        return path if calls == 1 else f"{path}#{calls}"

    def of_function(self, owner: str, operation: str) -> str:
        """Return the name of the next call of a function, after the module or layer to which it belongs.

        The path of a module is not used again: with a module `relu` in it, the first call of F.relu is `relu_2`.
        """
        name = f"{owner}.{operation}" if owner else operation
        calls = self._function_calls[name] = self._function_calls.get(name, int(name in self._paths)) + 1
        return name if calls == 1 else f"{name}_{calls}"

    def add_output(self, tensor: Tensor, name: str, path: str) -> None:
        """Enter a module's output, unless it was returned by a module inside of that one."""
        known = self._outputs.get(id(tensor))
        if known is None or known.tensor() is not tensor:
            self._outputs[id(tensor)] = _Output(weakref.ref(tensor), name, path)

    def remove_output(self, tensor: Tensor) -> None:
        """Remove an output that is overwritten, and is a module's output no longer."""
        self._outputs.pop(id(tensor), None)

    def layer_of(self, tensor: object, running: str) -> str | None:
        """Return the name of the module inside of the module at the path `running` that returned `tensor`, if any."""
        known = self._outputs.get(id(tensor))
        if known is None or known.tensor() is not tensor:
            return None
        is_inside = known.path.startswith(f"{running}." if running else "") and known.path != running
        return known.name if is_inside else None

    def clear(self) -> None:
        """Begin another pass."""
        self._module_calls.clear()
        self._function_calls.clear()
        self._outputs.clear()
