"""The tensors in what a module returns, by name."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

__all__ = ["named_outputs"]


def named_outputs(output: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in what a module returns, with what to add to its name."""
    if isinstance(output, Tensor):
        yield "", output
    elif isinstance(output, Mapping):
        for key, item in output.items():
            yield from ((f".{key}{rest}", tensor) for rest, tensor in named_outputs(item))
    elif isinstance(output, (tuple, list)):
        for index, item in enumerate(output):
            yield from ((f"[{index}]{rest}", tensor) for rest, tensor in named_outputs(item))
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for entry in dataclasses.fields(output):
            yield from ((f".{entry.name}{rest}", tensor) for rest, tensor in named_outputs(getattr(output, entry.name)))
