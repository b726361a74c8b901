"""Models under torch.compile: sampled steps run eager, or the watching is refused."""

import sys
from typing import Any, ClassVar

import torch
from torch import nn

from thruway.errors import ConfigError

__all__ = ["EagerSteps", "refuse_compiled", "refuse_inside_compiled"]


def refuse_compiled(model: nn.Module, *, has_optimizer: bool) -> None:
    """Refuse a model whose compiled code holds the hook that counts the steps: it would never be heard.

    Raises:
        ConfigError: if `model.compile()` was called on the model itself and no optimizer tells the steps.
    """
    if not has_optimizer and getattr(model, "_compiled_call_impl", None) is not None:
        raise ConfigError(
            f"{type(model).__name__} was compiled in place by model.compile(), where hooks added now are not run. "
            "Pass optimizer= so that sampled steps can run eager, or use compiled = torch.compile(model)."
        )


def refuse_inside_compiled(name: str, instead: str) -> None:
    """Refuse to count steps from within compiled code, whose functions nobody would hear.

    Raises:
        ConfigError: if torch.compile runs, or is looking at, the code that called the model.
    """
    if _is_run_by_the_compiler():
        raise ConfigError(
            f"{name} is called by code that was compiled as a whole, and a watcher inside of that sees nothing. "
            f"{instead}"
        )


def _is_run_by_the_compiler() -> bool:
    if torch.compiler.is_compiling():  # the compiler reads this very line, and could not read the next
        return True
    return "torch._dynamo" in sys.modules and torch._C._dynamo.eval_frame.get_eval_frame_callback() not in (None, False)


class EagerSteps:
    """Between `begin` and `end`, what torch.compile compiled runs as written.

    The stance is the process's, and watches need not end in the order in which they began: the first one
    takes it, the last one gives it back.
    """

    _holders: ClassVar[set["EagerSteps"]] = set()
    _stance: ClassVar[Any] = None

    def begin(self) -> None:
        """Only where the compiler has been loaded: importing it takes seconds, and nothing can be compiled before."""
        if "torch._dynamo" not in sys.modules:
            return
        if not EagerSteps._holders:
            EagerSteps._stance = torch.compiler.set_stance("force_eager")
            EagerSteps._stance.__enter__()
        EagerSteps._holders.add(self)

    def end(self) -> None:
        """Back to what was."""
        if self in EagerSteps._holders:
            EagerSteps._holders.discard(self)
            if not EagerSteps._holders:
                EagerSteps._stance.__exit__(None, None, None)
                EagerSteps._stance = None
