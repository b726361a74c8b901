"""Warning for reentrant checkpoints, which run their part of the forward pass without gradients."""

import sys

from thruway.watching.errors import warn

__all__ = ["ReentrantCheckpoints"]

# PyTorch's autograd function; other libraries have copies of it under the same name.
_FORWARD = "CheckpointFunction.forward"


class ReentrantCheckpoints:
    """Issues one warning if functions are called inside a reentrant checkpoint."""

    def __init__(self) -> None:
        self._has_warned = False

    def check(self, path: str) -> None:
        """Warn if this function, called from the module at `path`, was called inside a reentrant checkpoint."""
        if self._has_warned or not _is_inside():
            return
        self._has_warned = True
        where = f"at {path!r}" if path else "in the model's own code"
        warn(
            f"a reentrant checkpoint ({where}) runs its layers without gradients: inside it no gradients, no residual "
            "branches and no functions such as F.relu are recorded. Pass use_reentrant=False to "
            "torch.utils.checkpoint.checkpoint to record them. Everything outside of it is recorded.",
            stacklevel=2,
        )


def _is_inside() -> bool:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_qualname == _FORWARD:
            return True
    return False
