"""Context managers that restore the buffers, random states and modes of a model."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RandomStates", "evaluation_mode", "restored_buffers"]


@contextlib.contextmanager
def restored_buffers(model: nn.Module) -> Iterator[list[bool]]:
    """Restore every buffer, both the object and its contents, when the block ends.

    Yields a list. When the block ends, True is appended to it if any buffer had changed, else False.
    """
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
    """Saved states of PyTorch's generators and of those that the model holds."""

    def __init__(self, model: nn.Module) -> None:
        torchs = [torch.default_generator]
        if any(parameter.is_cuda for parameter in model.parameters()):
            torchs += torch.cuda.default_generators
        self._states = [(generator, generator.get_state()) for generator in (*torchs, *_generators(model))]

    def have_changed(self) -> bool:
        """Return True if a random number has been drawn since."""
        return not all(torch.equal(generator.get_state(), state) for generator, state in self._states)

    def restore(self) -> None:
        """Set all generators back to the saved states."""
        for generator, state in self._states:
            generator.set_state(state)


def _generators(model: nn.Module) -> Iterator[torch.Generator]:
    seen: set[int] = set()
    for module in model.modules():
        attributes: dict[str, Any] = vars(module)
        for value in attributes.values():
            if isinstance(value, torch.Generator) and id(value) not in seen:
                seen.add(id(value))
                yield value


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients during the block.

    Modes, buffers and random states are restored afterwards, also when the block raises.
    """
    modes = [(module, module.training) for module in model.modules()]
    states = RandomStates(model)
    try:
        with torch.no_grad(), restored_buffers(model):
            model.eval()
            yield
    finally:
        for module, was_training in modes:
            module.training = was_training
        states.restore()
