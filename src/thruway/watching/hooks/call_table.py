"""What a model does in every pass, learnt once, so that later passes need hardly a hook.

A function that holds weights is recognised by its weight; every other one by the site before it and its own name.
Weights tie the sequence down: where a model skips a layer, the next weight tells where it is. A model whose
passes cannot be told apart like that (a layer called twice, say) has no script, and keeps its hooks.
"""

from typing import NamedTuple

from torch import Tensor, nn

from thruway.watching.sites import Site

__all__ = ["Line", "Script"]

Key = tuple[int | Site | None, str | None]

# So many surprises, and the model is not one that follows a script.
_PATIENCE = 3


class Line(NamedTuple):
    """What is known of one function's result."""

    site: Site
    gradient: Site
    operands: tuple[tuple[int, Site, Site], ...] = ()  # operands of a residual add that are sites of their own


class Script:
    """The lines of one pass by what announces them; `None` for results that are no sites."""

    def __init__(self) -> None:
        self.is_ready = False
        self.hooked: dict[nn.Module, None] = {}  # modules with outputs that no function announces
        self.hooked_names: set[str] = set()  # the names of those outputs
        self.claimed: dict[nn.Module, None] = {}  # modules of the user's whose output is the last function's result
        self.entered: dict[nn.Module, None] = {}  # modules that the training loop calls
        self._lines: dict[Key, Line | None] = {}
        self._surprises = 0

    @staticmethod
    def key(before: Site | None, operation: str | None, weight: Tensor | None) -> Key:
        """What announces a function's result."""
        return (id(weight) if type(weight) is nn.Parameter else before), operation

    def learn(self, key: Key, line: Line | None) -> None:
        """One line of a pass that was heard in full."""
        if self._lines.setdefault(key, line) != line:
            self.give_up()  # two results that look alike

    def find(self, key: Key) -> Line | None:
        """The line; a key never met asks for another lesson, and gives None for now."""
        try:
            return self._lines[key]
        except KeyError:
            self._surprises += 1
            self.is_ready = False
            return None

    def give_up(self) -> None:
        """The model does not do the same in every pass."""
        self._surprises = _PATIENCE
        self.is_ready = False

    def end_lesson(self) -> None:
        """A pass was heard in full."""
        self.is_ready = self._surprises < _PATIENCE
