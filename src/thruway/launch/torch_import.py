"""A callback at the import of PyTorch."""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

__all__ = ["after_torch_import"]


def after_torch_import(callback: Callable[[], None]) -> Callable[[], None]:
    """Call `callback` as soon as the import of torch has ended: now, if it was imported before.

    A script may set environment variables, such as OMP_NUM_THREADS, before it imports torch. They would have no effect
    if torch were imported for it.

    Returns:
        A function that cancels the callback.
    """
    if "torch" in sys.modules:
        callback()
        return lambda: None
    finder = _TorchFinder(callback)
    sys.meta_path.insert(0, finder)
    return finder.remove


class _TorchFinder:
    """Finds torch as the other finders do, and lets its loader call `callback` at the end."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "torch":
            return None
        self.remove()
        spec = importlib.util.find_spec("torch")
        loader: Any = None if spec is None else spec.loader
        if loader is None:
            return spec
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # the attribute of this loader, which hides that of its class
            execute(module)
            self._callback()

        loader.exec_module = exec_module
        return spec

    def remove(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
