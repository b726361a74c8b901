"""Steps of other optimizers, as those of the generator while the discriminator is watched."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

__all__ = ["OtherSteps"]


class OtherSteps:
    """Notes, between `begin` and `end`, that an optimizer other than `optimizer` made a step."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._handle: RemovableHandle | None = None
        self.were_made = False

    def begin(self) -> None:
        """Begin a sampled step."""
        self.were_made = False
        if self._handle is None:
            self._handle = register_optimizer_step_post_hook(self._note)

    def end(self) -> None:
        """Note no further steps."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _note(self, optimizer: Optimizer, *_: Any) -> None:
        if optimizer is not self._optimizer:
            self.were_made = True
