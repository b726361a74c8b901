"""Steps of other optimizers, as those of the generator while the discriminator is watched."""

import weakref
from typing import Any, ClassVar

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

__all__ = ["OtherSteps"]


class OtherSteps:
    """Notes, between `begin` and `end`, that an optimizer other than `optimizer` made a step.

    The optimizer is not kept alive, since a program may drop it while it is watched. The hook is then removed at the
    next `begin`: not at once, because PyTorch may be iterating over the hooks.
    """

    _begun: ClassVar[dict["OtherSteps", None]] = {}

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._handle: RemovableHandle | None = None
        self.were_made = False

    def begin(self) -> None:
        """Begin a sampled step."""
        OtherSteps.end_dropped()
        self.were_made = False
        if self._handle is None:
            self._handle = register_optimizer_step_post_hook(self._note)
            OtherSteps._begun[self] = None

    def end(self) -> None:
        """Note no further steps."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            OtherSteps._begun.pop(self, None)

    @classmethod
    def end_dropped(cls) -> None:
        """Remove the hooks of optimizers that no longer exist."""
        for each in [*cls._begun]:
            if each._optimizer() is None:
                each.end()

    def _note(self, optimizer: Optimizer, *_: Any) -> None:
        if optimizer is not self._optimizer():
            self.were_made = True
