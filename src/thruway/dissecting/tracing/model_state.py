"""A model comes out of a pass as it went in: buffers, random numbers, and the generators it holds."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RandomStates", "restored_buffers"]


@contextlib.contextmanager
def restored_buffers(model: nn.Module) -> Iterator[list[bool]]:
    """Afterwards every buffer is the tensor it was, with the numbers it had; the list then says whether any had not."""
    kept = [
        (owner, name, buffer, buffer.detach().clone())
        for owner in model.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    changed: list[bool] = []
    try:
        yield changed
    finally:
        was_changed = False
        with torch.no_grad():
            for owner, name, buffer, content in kept:
                if owner._buffers.get(name) is not buffer:
                    owner._buffers[name] = buffer
                    was_changed = True
                if not _same_bits(buffer, content):
                    buffer.data.copy_(content)  # .data: a pending backward pass may have saved the buffer
                    was_changed = True
        changed.append(was_changed)


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(
        torch.equal(a.nan_to_num(), b.nan_to_num()) and torch.equal(a.isnan(), b.isnan())
    )


class RandomStates:
    """Where torch's generators, and those the model holds, stand now; `restore` puts them back there."""

    def __init__(self, model: nn.Module) -> None:
        torchs = [torch.default_generator]
        if any(parameter.is_cuda for parameter in model.parameters()):
            torchs += torch.cuda.default_generators
        self._stood = [(generator, generator.get_state()) for generator in (*torchs, *_generators(model))]

    def has_moved(self) -> bool:
        """Whether a random number has been drawn since."""
        return not all(torch.equal(generator.get_state(), state) for generator, state in self._stood)

    def restore(self) -> None:
        """Back to where they stood."""
        for generator, state in self._stood:
            generator.set_state(state)


def _generators(model: nn.Module) -> Iterator[torch.Generator]:
    seen: set[int] = set()
    for module in model.modules():
        held: dict[str, Any] = vars(module)
        for value in held.values():
            if isinstance(value, torch.Generator) and id(value) not in seen:
                seen.add(id(value))
                yield value
