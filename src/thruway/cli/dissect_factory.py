"""Calling a function that builds a model, given as package.module:function, and checking its result."""

import importlib
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from thruway.cli.dissect_batches import count_of
from thruway.errors import ConfigError, ThruwayError, unknown_name

__all__ = ["FactoryResult", "call_factory"]

_RETURNS = "a model, (model, example_inputs), or (model, example_inputs, batches)"


class FactoryResult(NamedTuple):
    """The result of a function.

    Attributes:
        model: the model.
        example: example inputs, or None.
        batches: pairs (inputs, targets), or None.
    """

    model: nn.Module
    example: Any = None
    batches: list[Any] | None = None


def call_factory(name: str, examples: int) -> FactoryResult:
    """Call `package.module:function` without arguments. Modules in the working folder are found too.

    Args:
        name: package.module:function.
        examples: number of examples after which no more batches are read, since there may be infinitely many.
    Raises:
        ConfigError: if the module or function does not exist, raises, or does not return a model.

    >>> call_factory("torch.nn:Identity", 1).model
    Identity()
    """
    module, _, function = name.partition(":")
    if not module or not function or "/" in module or module.endswith(".py"):
        raise ConfigError(
            f"{name!r} is not the name of a function: write package.module:function, as in an import, without .py or "
            "slashes."
        )
    result = _called(name, _imported(module, function))
    parts = result if isinstance(result, tuple) else (result,)
    if not 1 <= len(parts) <= 3:
        raise ConfigError(f"{name} returned a tuple of {len(parts)}. It must return {_RETURNS}.")
    if not isinstance(parts[0], nn.Module):
        raise ConfigError(
            f"{name} returned {type(parts[0]).__name__}, which is not a torch.nn.Module. It must return {_RETURNS}."
        )
    model, example, batches = (*parts, None, None)[:3]
    return FactoryResult(model, example, None if batches is None else _checked_batches(name, batches, examples))


def _imported(module: str, function: str) -> Callable[[], Any]:
    # As `python -m` does. It stays on the path, since the model may import more modules when it is called.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        place: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(f"{missing}."):
            raise ConfigError(
                f"there is no module {missing!r}. Modules are imported from the working folder and the Python "
                "environment; a module in a package is written package.module:function."
            ) from error
        raise ConfigError(f"{module} imports {missing!r}, which is not installed.") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"importing {module} failed: {_describe(error)}") from error
    for part in function.split("."):
        if not hasattr(place, part):
            known = [each for each, value in vars(place).items() if callable(value) and not each.startswith("_")]
            raise ConfigError(f"{module}: {unknown_name('function', function, known)}")
        place = getattr(place, part)
    if not callable(place):
        raise ConfigError(f"{module}:{function} is {type(place).__name__}, which cannot be called. Give a function.")
    return place  # type: ignore[no-any-return]  # whatever can be called


def _called(name: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{name} failed: {_describe(error)} It is called without arguments.") from error


def _checked_batches(name: str, batches: Any, examples: int) -> list[Any]:
    if not isinstance(batches, Iterable) or isinstance(batches, (Tensor, str)):
        raise ConfigError(
            f"the batches of {name} are {type(batches).__name__}. Return a list of pairs (inputs, targets)."
        )
    found: list[Any] = []
    try:
        for number, batch in enumerate(batches):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ConfigError(
                    f"batch {number} of {name} is {type(batch).__name__}. Return pairs (inputs, targets)."
                )
            found.append(tuple(batch))
            examples -= count_of(batch[0])
            if examples <= 0:
                break
    except ThruwayError:
        raise
    except (Exception, SystemExit) as error:  # from the user's own code
        raise ConfigError(f"reading the batches of {name} failed: {_describe(error)}") from error
    if not found:
        raise ConfigError(f"{name} returned no batches. Return pairs (inputs, targets), or leave the batches out.")
    return found


def _describe(error: BaseException) -> str:
    """One line with the error, and the line of the user's code that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_internal(frame.filename)]
    # The message of a syntax error includes the line.
    is_placed = bool(frames) and not isinstance(error, SyntaxError)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if is_placed else ""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + lines[0][:300] if lines else ''}{where}."


def _is_internal(file: str) -> bool:
    return file == __file__ or file.startswith("<frozen")
