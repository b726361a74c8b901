"""Table of the function calls in a model's forward pass and the sites of their results.

The table is recorded in full passes. Replayed passes look up their calls in it and need few module hooks.

A call with a weight is identified by its weight, every other call by the site before it and the name of the function.
The weights keep the sequence aligned: if a model skips a layer, the next weight determines the position. If calls
cannot be distinguished in this way, for example because a layer is called twice, full hooks are kept.
"""

from typing import NamedTuple

from torch import Tensor, nn

from thruway.watching.sites import Site

__all__ = ["CallSites", "CallTable"]

CallKey = tuple[int | Site | None, str | None]

# After this number of unknown calls, the model's passes are considered to differ from each other.
_MAX_MISSES = 3


class CallSites(NamedTuple):
    """The sites of a call's result and of the gradient with respect to it."""

    site: Site
    gradient: Site
    operands: tuple[tuple[int, Site, Site], ...] = ()  # operands of a residual add that have sites of their own


class CallTable:
    """The calls of one forward pass by their keys; None for results that have no site."""

    def __init__(self) -> None:
        self.is_ready = False
        self.output_modules: dict[nn.Module, None] = {}  # modules with an output that no captured call returned
        self.output_names: set[str] = set()  # the names of those outputs
        self.checked_modules: dict[nn.Module, None] = {}  # user modules that return the result of their last call
        self.entry_modules: dict[nn.Module, None] = {}  # modules that the training loop calls
        self._sites: dict[CallKey, CallSites | None] = {}
        self._misses = 0

    @staticmethod
    def key(before: Site | None, operation: str | None, weight: Tensor | None) -> CallKey:
        """Return the key of a call."""
        return (id(weight) if type(weight) is nn.Parameter else before), operation

    def record(self, key: CallKey, sites: CallSites | None) -> None:
        """Enter a call of a full pass."""
        if self._sites.setdefault(key, sites) != sites:
            self.disable()  # two calls with one key

    def find(self, key: CallKey) -> CallSites | None:
        """Return the sites of a call. For an unknown key, None is returned and another full pass is requested."""
        try:
            return self._sites[key]
        except KeyError:
            self._misses += 1
            self.is_ready = False
            return None

    def disable(self) -> None:
        """Use full hooks from now on, because passes of this model differ or have ambiguous calls."""
        self._misses = _MAX_MISSES
        self.is_ready = False

    def end_full_pass(self) -> None:
        """Mark the table as complete after a full pass."""
        self.is_ready = self._misses < _MAX_MISSES
