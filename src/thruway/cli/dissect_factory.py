"""Calling a function that builds a model, and checking its result."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import Tensor, nn

from thruway.cli.dissect_batches import count_of
from thruway.cli.importing import error_in_words, import_object
from thruway.errors import ConfigError, ThruwayError

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
    """Call a function of the user without arguments.

    Args:
        name: package.module:function or path/to/file.py:function.
        examples: maximum number of examples to read, since the batches may be infinite.
    Raises:
        ConfigError: if the module or function does not exist, raises, or does not return a model.

    >>> call_factory("torch.nn:Identity", 1).model
    Identity()
    """
    result = _called(name, import_object(name, "function", callable))
    parts = result if isinstance(result, tuple) else (result,)
    if not 1 <= len(parts) <= 3:
        raise ConfigError(f"{name} returned a tuple of {len(parts)}. It must return {_RETURNS}.")
    if not isinstance(parts[0], nn.Module):
        raise ConfigError(
            f"{name} returned {type(parts[0]).__name__}, which is not a torch.nn.Module. It must return {_RETURNS}."
        )
    model, example, batches = (*parts, None, None)[:3]
    return FactoryResult(model, example, None if batches is None else _checked_batches(name, batches, examples))


def _called(name: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{name} failed: {error_in_words(error)} It is called without arguments.") from error


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
        raise ConfigError(f"reading the batches of {name} failed: {error_in_words(error)}") from error
    if not found:
        raise ConfigError(f"{name} returned no batches. Return pairs (inputs, targets), or leave the batches out.")
    return found
