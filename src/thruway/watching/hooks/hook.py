"""Hooks that belong to one watch and to nobody else: not to a copy of the module, nor to a file it is saved in."""

from collections.abc import Callable
from typing import Any

__all__ = ["Hook"]


class Hook:
    """Calls `hear`. Copied or pickled it is silent: a watched model can be copied and saved.

    >>> import copy
    >>> heard = []
    >>> hook = Hook(heard.append)
    >>> hook(1), copy.deepcopy(hook)(2)
    (None, None)
    >>> heard
    [1]
    """

    __slots__ = ("_hear",)

    def __init__(self, hear: Callable[..., Any]) -> None:
        self._hear = hear

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._hear(*arguments, **keywords)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_silent,)


def _silent(*_arguments: Any, **_keywords: Any) -> None:
    """Hears nothing."""
