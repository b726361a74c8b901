"""Whether autocast chooses the types here."""

import torch
from torch import Tensor

__all__ = ["is_autocast"]


def is_autocast(x: Tensor) -> bool:
    """Whether autocast is on for the device of x; no on devices that have none, such as "meta".

    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     is_autocast(torch.ones(1)), is_autocast(torch.ones(1, device="meta"))
    (True, False)
    """
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
