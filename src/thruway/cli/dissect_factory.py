"""A function of the user's that builds a model: found by its name, called, and what it gives looked at."""

import importlib
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from thruway.cli.dissect_batches import count_of
from thruway.errors import ConfigError, ThruwayError, unknown_name

__all__ = ["Built", "build"]

_GIVES = "a model, (model, example_inputs), or (model, example_inputs, batches)"


class Built(NamedTuple):
    """What a function gave."""

    model: nn.Module
    example: Any = None
    batches: list[Any] | None = None


def build(name: str, examples: int) -> Built:
    """Call `package.module:function` without arguments.

    Modules of the working folder are found too.

    Args:
        name: package.module:function.
        examples: of the batches, after which no more are asked for: they may be many, or without end.
    Raises:
        ConfigError: if there is no such module or function, it raises, or gives something else than a model.

    >>> build("torch.nn:Identity", 1).model
    Identity()
    """
    module, _, function = name.partition(":")
    if not module or not function or "/" in module or module.endswith(".py"):
        raise ConfigError(
            f"{name!r} names no function: write package.module:function, as one imports it, without .py or slashes."
        )
    given = _called(name, _found(module, function))
    parts = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(parts) <= 3:
        raise ConfigError(f"{name} returned a tuple of {len(parts)}. A function gives {_GIVES}.")
    if not isinstance(parts[0], nn.Module):
        raise ConfigError(
            f"{name} returned {type(parts[0]).__name__}, which is no torch.nn.Module. A function gives {_GIVES}."
        )
    model, example, batches = (*parts, None, None)[:3]
    return Built(model, example, None if batches is None else _pairs(name, batches, examples))


def _found(module: str, function: str) -> Callable[[], Any]:
    # As `python -m` does; and it stays, since a model may import more when it is called.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        place: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(f"{missing}."):
            raise ConfigError(
                f"there is no module {missing!r}. Modules are looked for in the working folder and where Python is "
                "installed; a package needs its own name in front: package.module:function."
            ) from error
        raise ConfigError(f"{module} imports {missing!r}, which is not installed.") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"importing {module} failed: {_told(error)}") from error
    for part in function.split("."):
        if not hasattr(place, part):
            known = [each for each, value in vars(place).items() if callable(value) and not each.startswith("_")]
            raise ConfigError(f"{module}: {unknown_name('function', function, known)}")
        place = getattr(place, part)
    if not callable(place):
        raise ConfigError(f"{module}:{function} is {type(place).__name__}, which cannot be called. Name a function.")
    return place  # type: ignore[no-any-return]  # whatever can be called


def _called(name: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{name} failed: {_told(error)} It is called without arguments.") from error


def _pairs(name: str, batches: Any, examples: int) -> list[Any]:
    if not isinstance(batches, Iterable) or isinstance(batches, (Tensor, str)):
        raise ConfigError(
            f"the batches of {name} are {type(batches).__name__}. Give a list of pairs (inputs, targets)."
        )
    found: list[Any] = []
    try:
        for number, batch in enumerate(batches):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ConfigError(f"batch {number} of {name} is {type(batch).__name__}. Give pairs (inputs, targets).")
            found.append(tuple(batch))
            examples -= count_of(batch[0])
            if examples <= 0:
                break
    except ThruwayError:
        raise
    except (Exception, SystemExit) as error:  # whatever reads the user's data
        raise ConfigError(f"reading the batches of {name} failed: {_told(error)}") from error
    if not found:
        raise ConfigError(f"{name} returned no batches. Give pairs (inputs, targets), or leave them out.")
    return found


def _told(error: BaseException) -> str:
    """The error in a line, and where in the user's code it was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    # A syntax error says itself where it is.
    is_placed = bool(frames) and not isinstance(error, SyntaxError)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if is_placed else ""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + lines[0][:300] if lines else ''}{where}."


def _is_machinery(file: str) -> bool:
    return file == __file__ or file.startswith("<frozen")
