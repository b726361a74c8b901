"""Registry of tensors that share memory, so that writing to one of them changes the others."""

import itertools
import weakref

import numpy as np
from torch import Tensor

__all__ = ["Memory"]

# Bound on the work that NumPy may spend on whether two strided views overlap. Beyond it they count as overlapping.
_WORK = 100_000


class Memory:
    """The tensors registered so far, grouped by storage. It holds weak references only."""

    def __init__(self) -> None:
        self._tensors: dict[int, tuple[int, list[weakref.ref[Tensor]]]] = {}
        self._serial = itertools.count()

    def register(self, tensor: Tensor) -> int:
        """Register a tensor and return the serial number of its storage."""
        place = _storage(tensor)
        if place is None:
            return next(self._serial)
        known = self._tensors.get(place)
        alive = [ref for ref in known[1] if ref() is not None] if known is not None else []
        # The address of a storage is reused once all its tensors are gone.
        serial = known[0] if known is not None and alive else next(self._serial)
        if not any(ref() is tensor for ref in alive):
            alive.append(weakref.ref(tensor))
        self._tensors[place] = serial, alive
        return serial

    def sharing(self, tensor: Tensor) -> list[Tensor]:
        """Return the other registered tensors that share at least one element with this one."""
        place = _storage(tensor)
        if place is None or place not in self._tensors:
            return []
        others = [other for ref in self._tensors[place][1] if (other := ref()) is not None and other is not tensor]
        return [other for other in others if overlap(tensor, other)]


def overlap(a: Tensor, b: Tensor) -> bool:
    """Return True if two tensors of one storage share an element."""
    if a.numel() == 0 or b.numel() == 0:
        return False
    try:
        return bool(np.shares_memory(_extent(a), _extent(b), max_work=_WORK))  # type: ignore[arg-type]  # numpy takes any bound
    except np.exceptions.TooHardError:
        return True


def _extent(tensor: Tensor) -> np.ndarray:
    """Return an array at the tensor's place within its storage. It is never read."""
    size = tensor.element_size()

    class Extent:
        __array_interface__ = {  # noqa: RUF012 - numpy's protocol
            "version": 3,
            "typestr": f"|V{size}",
            "shape": tuple(tensor.shape),
            "strides": tuple(step * size for step in tensor.stride()),
            "data": (64 + tensor.storage_offset() * size, True),
        }

    return np.asarray(Extent())


def _storage(tensor: Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):  # sparse tensors have none
        return None
