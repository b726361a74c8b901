"""Comparison of the gradients in `.grad` at two times, without reading or keeping them."""

import weakref
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

__all__ = ["GradientMarks"]


class GradientMarks:
    """The gradients that parameters have at the moment of creation: which tensors, and in which version.

    PyTorch increases the version of a tensor at every in-place operation, except through `.data`.

    >>> import torch
    >>> weight = nn.Parameter(torch.ones(2))
    >>> weight.grad = torch.ones(2)
    >>> marks = GradientMarks([weight])
    >>> next(marks.kept()), weight.grad.zero_().any().item(), next(marks.kept())
    (True, False, False)
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        # Weak references, since a gradient must be free to go at optimizer.zero_grad().
        self._marks = [_mark(parameter.grad) for parameter in parameters]

    def kept(self) -> Iterator[bool]:
        """Iterate over the parameters: True if a parameter had a gradient and still has this one, unmodified."""
        for parameter, mark in zip(self._parameters, self._marks, strict=True):
            gradient = parameter.grad
            yield gradient is not None and mark is not None and mark[0]() is gradient and mark[1] == gradient._version

    def have_changed(self) -> bool:
        """Return True if a parameter has another gradient, or has none any more, or did not have one."""
        kept = zip(self.kept(), self._parameters, self.had(), strict=True)
        return any(not is_kept and (had or p.grad is not None) for is_kept, p, had in kept)

    def had(self) -> Iterator[bool]:
        """Iterate over the parameters: True if a parameter had a gradient."""
        return (mark is not None for mark in self._marks)


def _mark(gradient: Tensor | None) -> tuple[weakref.ref[Tensor], int] | None:
    return None if gradient is None else (weakref.ref(gradient), gradient._version)
