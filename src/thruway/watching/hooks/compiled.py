"""Support for torch.compile: sampled steps run eagerly, and code that cannot be watched raises an error."""

import sys
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from thruway.errors import ConfigError

__all__ = ["EagerSteps", "quiet", "refuse_compiled", "refuse_inside_compiled"]


def refuse_compiled(model: nn.Module, *, has_optimizer: bool) -> None:
    """Raise an error for a model whose compiled code would skip the forward hook that counts the steps.

    Raises:
        ConfigError: if `model.compile()` was called on the model itself and there is no optimizer to count the steps.
    """
    if not has_optimizer and getattr(model, "_compiled_call_impl", None) is not None:
        raise ConfigError(
            f"{type(model).__name__} was compiled in place by model.compile(), so hooks that are added now do not run. "
            "Pass optimizer= so that sampled steps can run eagerly, or use compiled = torch.compile(model)."
        )


def refuse_inside_compiled(name: str, instead: str) -> None:
    """Raise an error if steps are counted from within compiled code, whose functions cannot be captured.

    Raises:
        ConfigError: if torch.compile is running or tracing the code that called the model.
    """
    if _is_compiled():
        raise ConfigError(
            f"{name} is called by code that was compiled as a whole, inside which nothing can be watched. {instead}"
        )


def _is_compiled() -> bool:
    if torch.compiler.is_compiling():  # the compiler traces this line, and could not trace the next one
        return True
    return "torch._dynamo" in sys.modules and torch._C._dynamo.eval_frame.get_eval_frame_callback() not in (None, False)


def quiet(callback: Callable[..., Any], fail: Callable[[Exception], None]) -> Callable[..., Any]:
    """Return `callback` with its exceptions passed to `fail`; inside compiled code it does nothing."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        if torch.compiler.is_compiling() or _is_compiled():  # the compiler sees only the first
            return None
        try:
            return callback(*arguments, **keywords)
        except Exception as error:
            fail(error)
            return None

    return call


class EagerSteps:
    """Runs compiled code eagerly between `begin` and `end`.

    The stance of torch.compile is global, and several watches may overlap in any order: the first one sets it, and the
    last one restores it.
    """

    _holders: ClassVar[set["EagerSteps"]] = set()
    _stance: ClassVar[Any] = None

    def begin(self) -> None:
        """Run compiled code eagerly.

        This does nothing before the compiler is imported, since nothing can be compiled until then, and importing it
        takes seconds.
        """
        if "torch._dynamo" not in sys.modules:
            return
        if not EagerSteps._holders:
            EagerSteps._stance = torch.compiler.set_stance("force_eager")
            EagerSteps._stance.__enter__()
        EagerSteps._holders.add(self)

    def end(self) -> None:
        """Restore the stance if no other watch uses it."""
        if self in EagerSteps._holders:
            EagerSteps._holders.discard(self)
            if not EagerSteps._holders:
                EagerSteps._stance.__exit__(None, None, None)
                EagerSteps._stance = None
