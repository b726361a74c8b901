"""Sites of the tensors captured so far in a forward pass."""

import weakref

from torch import Tensor

from thruway.watching.sites import Site

__all__ = ["TensorSites"]


class TensorSites:
    """The site of each tensor, as long as the tensor exists."""

    def __init__(self) -> None:
        self._sites: dict[int, tuple[weakref.ref[Tensor], Site]] = {}

    def add(self, tensor: Tensor, site: Site) -> None:
        """Enter the site of a tensor; an in-place operation replaces it."""
        self._sites[id(tensor)] = weakref.ref(tensor), site

    def of(self, tensor: Tensor) -> Site | None:
        """Return the site of a tensor."""
        known = self._sites.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None

    def has_all_of(self, tensor: Tensor) -> bool:
        """Return True if the tensor has a site, or is a view of all elements of a tensor that has one."""
        base = tensor._base
        is_reshaped = base is not None and base.numel() == tensor.numel() and self.of(base) is not None
        return is_reshaped or self.of(tensor) is not None

    def clear(self) -> None:
        """Begin another pass."""
        self._sites.clear()
